//! The one table of options: command-line flags, configuration keys, help and documentation all come from here.

/// What kind of value an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Words.
    Text,
    /// A file or folder.
    Path,
    /// A whole number, 0 or more.
    Count,
    /// A number.
    Number,
    /// A number, or one for each epoch: `FROM..TO`, with a shape after a colon.
    Scheduled,
    /// Numbers, separated by commas on the command line.
    Numbers,
    /// Words, as often as the flag is given.
    Texts,
    /// On or off.
    Switch,
}

/// Under which heading an option stands in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What is learned from.
    Data,
    /// What is trained.
    Models,
    /// How it is trained.
    Training,
    /// What the student learns from the teacher.
    Distillation,
    /// What is varied.
    Studies,
    /// Where and how it runs.
    Execution,
}

impl Group {
    /// The heading.
    pub fn heading(self) -> &'static str {
        match self {
            Group::Data => "Data",
            Group::Models => "Models",
            Group::Training => "Training",
            Group::Distillation => "Distillation",
            Group::Studies => "Studies",
            Group::Execution => "Execution",
        }
    }
}

/// One option.
pub struct RunOption {
    /// Flag (`--name`) and configuration key.
    pub name: &'static str,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// What kind of value it takes.
    pub kind: Kind,
    /// Where it stands in the help.
    pub group: Group,
    /// What it does, with its default.
    pub help: &'static str,
}

const fn option(group: Group, name: &'static str, value: &'static str, kind: Kind, help: &'static str) -> RunOption {
    RunOption { name, value, kind, group, help }
}

use Group::*;
use Kind::*;

/// All options of a run.
pub const OPTIONS: &[RunOption] = &[
    option(
        Data,
        "data",
        "NAME|DIR",
        Text,
        "digits (embedded), mnist, fashion-mnist, kmnist, or a folder of IDX files [digits]",
    ),
    option(Data, "data-dir", "DIR", Path, "where data sets are kept [$KDENGINE_DATA, else the cache folder]"),
    option(
        Data,
        "train-limit",
        "N",
        Count,
        "train students on N random images only; the teacher still sees all [0: all; digits 2000]",
    ),
    option(
        Data,
        "teacher-limit",
        "N",
        Count,
        "train the teacher on N random images only; with the N of --train-limit, on the students' images [0: all]",
    ),
    option(
        Data,
        "teacher-view",
        "VIEW",
        Text,
        "what the teacher sees of an image: identity, low-resolution-7, left-half, right-half, noise-0.3 or edges [identity]",
    ),
    option(Data, "student-view", "VIEW", Text, "what the student sees of the same image [identity]"),
    option(
        Data,
        "student-classes",
        "GROUPS",
        Text,
        "the student's task: same, parity, halves, or class numbers grouped as in 0+2/1+3; then with methods of features [same]",
    ),
    option(Data, "normalize", "", Switch, "subtract the training set's mean and divide by its deviation [off]"),
    option(Data, "shift", "PIXELS", Number, "augmentation: random shift of up to so many pixels [0]"),
    option(Data, "rotate", "DEGREES", Number, "augmentation: random rotation of up to so many degrees [0]"),
    option(Data, "crop", "PIXELS", Count, "augmentation: random crop after padding by so many pixels [0]"),
    option(Data, "flip", "", Switch, "augmentation: random horizontal flip [off]"),
    option(Data, "cutout", "PIXELS", Count, "augmentation: blank a random square of this side [0]"),
    option(Data, "mixup", "ALPHA", Number, "augmentation: mix pairs of images, share ~ Beta(α, α) [0: off]"),
    option(
        Data,
        "curriculum",
        "SHARE",
        Number,
        "students of a teacher see the quarter first that it is surest of, and all images after this share of the epochs [0: off]",
    ),
    option(Models, "teacher-model", "NAME", Text, "the teacher's architecture [teacher_net]"),
    option(Models, "student-model", "NAME", Text, "the student's architecture; cnn-16-32-fc64 and mlp-20-20 stand for any sizes [student_net]"),
    option(Models, "teacher", "FILE", Path, "use this trained teacher (.safetensors) instead of training one"),
    option(Training, "epochs", "N", Count, "passes over the training set for each student [10; digits 60]"),
    option(Training, "teacher-epochs", "N", Count, "the same for the teacher [as --epochs; digits 5]"),
    option(Training, "batch-size", "N", Count, "images a training step [128]"),
    option(Training, "eval-batch-size", "N", Count, "images an evaluation step [1000]"),
    option(Training, "optimizer", "NAME", Text, "sgd, adam, adamw or rmsprop [adam]"),
    option(Training, "lr", "RATE", Number, "learning rate [0.001]"),
    option(Training, "momentum", "M", Number, "momentum of sgd and rmsprop, in [0, 1) [0.9]"),
    option(Training, "rmsprop-alpha", "A", Number, "decay of rmsprop's mean square, in [0, 1) [0.99]"),
    option(Training, "weight-decay", "W", Number, "weight decay [0]"),
    option(
        Training,
        "schedule",
        "NAME",
        Text,
        "learning rate over time: constant, step, multi-step, cosine, one-cycle or linear [constant]",
    ),
    option(Training, "warmup-epochs", "N", Number, "epochs of linear warm-up before cosine [0]"),
    option(Training, "clip-norm", "NORM", Number, "limit the gradient's global norm [off]"),
    option(
        Training,
        "quantize",
        "NAME",
        Text,
        "students compute with weights (int8: and activations) rounded to int8, int8-per-channel, ternary or binary [off]",
    ),
    option(
        Training,
        "prune",
        "KIND:SHARE",
        Text,
        "students lose their smallest weights (unstructured:0.9) or filters (structured:0.5) on the way [off]",
    ),
    option(
        Distillation,
        "method",
        "NAME,…",
        Text,
        "what the student learns from besides labels, and at most one recipe; `kdengine methods` lists them [hinton]",
    ),
    option(
        Distillation,
        "set",
        "KEY=VALUE,…",
        Text,
        "the method's or recipe's hyperparameters, a method's weight, student-taps and teacher-taps (A+B); METHOD.KEY=VALUE with several methods",
    ),
    option(Distillation, "temperature", "T", Scheduled, "softens the teacher's answers; 0.001 to 10000; 4..1 falls over the epochs, 4..1:cosine and 4..1:step@5 in other ways [3]"),
    option(Distillation, "hard-weight", "W", Scheduled, "weight of the cross-entropy with the labels [0.5; with another --method its own]"),
    option(Distillation, "soft-weight", "W", Scheduled, "weight of T²·KL from the teacher, which can be added to any --method [0.5; with another --method 0]"),
    option(
        Studies,
        "methods",
        "A,B+C,…",
        Text,
        "compare, distill: a leaderboard of these methods, + joins terms of one student, `all` is each of them",
    ),
    option(
        Studies,
        "grid",
        "KEY=V,V,…",
        Texts,
        "compare, distill: train a student for each value of an option or of METHOD.KEY; several flags are multiplied",
    ),
    option(
        Studies,
        "space",
        "KEY=A..B",
        Texts,
        "search: draw an option or METHOD.KEY from a range (evenly by the logarithm over a decade or more) or from KEY=V,V,…; a student-model may have ranges in its name: cnn-4..32-fc16..64",
    ),
    option(
        Studies,
        "budget",
        "KEY=MOST,…",
        Text,
        "search: what the student may cost: parameters=20k, flops=1.5M for one image, latency-ms=0.05 for one image on this machine [no limit]",
    ),
    option(Studies, "trials", "N", Count, "search: how many settings to try [16]"),
    option(
        Studies,
        "strategy",
        "NAME",
        Text,
        "search: random, halving (the best third goes on with three times the epochs) or evolution (children of the best of the last 8) [random]",
    ),
    option(
        Studies,
        "validation",
        "SHARE",
        Number,
        "search: this share of the training images judges the trials, and nobody learns from it [0.2]",
    ),
    option(
        Studies,
        "studies",
        "NAME,…",
        Text,
        "analyze: layers, classes, attention, capacity, teachers, noise, fraction or all [all]",
    ),
    option(Studies, "sweep-temperatures", "T,…", Numbers, "temperatures of the sweep [1,2,3,5,10]"),
    option(Studies, "sweep-epochs", "N", Count, "epochs of each student of the sweep [5; digits 20]"),
    option(
        Studies,
        "ablation-weights",
        "W,…",
        Numbers,
        "soft weights to try besides 0, --soft-weight and 1; hard = 1 − soft [0.1,0.3,0.7,0.9]",
    ),
    option(Studies, "ablation-epochs", "N", Count, "epochs of each student of the ablation, 0 for none [5; digits 20]"),
    option(Studies, "soft-temperatures", "T,…", Numbers, "temperatures at which soft targets are shown [1,3,10]"),
    option(
        Studies,
        "seeds",
        "N",
        Count,
        "repeat distilled and baseline students with N seeds, for mean ± sd and a paired test [1; digits 3]",
    ),
    option(Execution, "seed", "N", Count, "determines everything that is random [0]"),
    option(
        Execution,
        "device",
        "NAME",
        Text,
        "cpu, cuda:0, auto (a GPU if there is one), emulator or reference (slow, for checks) [cpu]",
    ),
    option(
        Execution,
        "precision",
        "NAME",
        Text,
        "f32, or tf32, bf16 or f16: what convolutions and products round their operands to, for tensor cores; all else stays f32. On a cpu it \
         shows what that does to accuracy, and is no faster [f32]",
    ),
    option(Execution, "threads", "N", Count, "threads to compute with; results do not depend on it [0: all]"),
];
