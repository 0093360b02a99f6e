//! Distilling with a method from the command line: what it trains, what it writes down, and what it refuses.

mod common;

use common::{error_of, expect, kdengine, small_digits};
use kdengine::data::{digits, Loader, LoaderConfig};
use kdengine::distill::{Plan, Term, METHODS};
use kdengine::models::{tap_shapes, Model, Task};
use kdengine::nn::Module;
use kdengine::optim::{OptimizerConfig, Schedule};
use kdengine::recipes::RECIPES;
use kdengine::tensor::Rng;
use kdengine::train::{fit, Job, MetricsLog, RunDir, Setting, Silent, TeacherOutputs, TestSet};
use kdengine::Device;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// A short distillation with small networks.
fn distill(data: &Path, out: &Path, flags: &[&str]) -> Command {
    let mut command = kdengine();
    command.args(["distill", "--quiet", "--epochs", "2", "--teacher-epochs", "1", "--batch-size", "32"]);
    command.args(["--teacher-model", "student_net", "--seeds", "1"]).args(flags);
    command.arg("--data").arg(data).arg("--out").arg(out);
    command
}

/// The names of the terms in a run's log, and the log itself.
fn metrics(out: &Path) -> (BTreeSet<String>, String) {
    let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let student = |line: &&str| line.contains("distilled");
    let terms = log.lines().filter(student).flat_map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["terms"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    });
    (terms.collect(), log)
}

#[test]
fn one_word_distils_with_any_method() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 64, 20);
    for info in METHODS {
        let out = folder.path().join(info.name);
        expect(&mut distill(&data, &out, &["--method", info.name]), 0);
        let (terms, _) = metrics(&out);
        let own = |term: &String| term.starts_with(info.name) || (info.name == "hinton" && term == "soft");
        assert!(info.name == "hard-labels" || terms.iter().any(own), "{}: {terms:?}", info.name);
        assert!(info.hard_weight == 0.0 || terms.contains("hard"), "{}: {terms:?}", info.name);
        assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("Terms of the loss"), "{}", info.name);
    }
}

#[test]
fn a_run_writes_down_every_value_and_its_file_repeats_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 64, 20);
    let (first, again) = (folder.path().join("first"), folder.path().join("again"));
    let flags = ["--method", "at,dkd", "--set", "at.power=3,dkd.beta=2,at.student-taps=block2,at.teacher-taps=block2"];
    expect(&mut distill(&data, &first, &[&flags[..], &["--soft-weight", "0.5", "--temperature", "5"]].concat()), 0);
    let config = fs::read_to_string(first.join("config.toml")).unwrap();
    for line in ["method = \"at\"", "power = 3.0", "form = \"paper\"", "weight = 1000.0", "student-taps = [\"block2\"]"]
    {
        assert!(config.contains(line), "{line} in {config}");
    }
    assert_eq!(config.matches("[[term]]").count(), 2);
    assert_eq!(config.matches("temperature = 5.0").count(), 2, "the run's and dkd's: {config}");
    let (terms, log) = metrics(&first);
    assert_eq!(terms.iter().map(String::as_str).collect::<Vec<_>>(), ["at", "dkd.nckd", "dkd.tckd", "hard", "soft"]);
    let mut command = kdengine();
    command.args(["distill", "--quiet", "--config"]).arg(first.join("config.toml")).arg("--out").arg(&again);
    expect(&mut command, 0);
    assert_eq!(metrics(&again).1, log, "the same steps, bit for bit");
}

#[test]
fn the_teachers_answers_are_kept_under_a_name_that_only_its_weights_decide() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 64, 20);
    let first = folder.path().join("first");
    expect(&mut distill(&data, &first, &["--method", "hinton"]), 0);
    let teacher = first.join("jobs/teacher/model.safetensors");
    let before = fs::read(&teacher).unwrap();
    let cached: Vec<_> = ["fitnet", "vid", "ft", "crd"]
        .into_iter()
        .map(|method| {
            let out = folder.path().join(method);
            let mut command = distill(&data, &out, &["--method", method]);
            expect(command.arg("--teacher").arg(&teacher), 0);
            assert!(fs::read(&teacher).unwrap() == before, "{method} changed the teacher's file");
            // The answers that it gave are kept under a hash of its weights: the same weights, the same name.
            let files = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            files.filter(|name| name.starts_with("teacher-") && name.contains("logits")).collect::<Vec<_>>()
        })
        .collect();
    assert!(cached.iter().all(|names| names.len() == 1 && *names == cached[0]), "{cached:?}");
}

#[test]
fn a_training_leaves_every_bit_of_the_teacher_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let splits = digits::generate(&digits::DigitsConfig { train: 64, test: 20, ..Default::default() });
    let task = Task { input: splits.train.image_shape(), classes: splits.train.classes.len() };
    let teacher = Arc::new(Model::new("teacher_net", task, Rng::new(5, 0), Device::Cpu).unwrap());
    let bits = || -> Vec<u32> {
        let state = teacher.state().into_values().map(|tensor| tensor.to_vec::<f32>().unwrap());
        state.flatten().map(f32::to_bits).collect()
    };
    let before = bits();
    let loader = LoaderConfig { batch_size: 32, seed: 1, augment: Default::default() };
    let loader = Loader::new(Arc::new(splits.train), loader, Device::Cpu).unwrap();
    let (test, run) = (TestSet::new(&splits.test, Device::Cpu).unwrap(), RunDir::open(folder.path(), false).unwrap());
    let [student, taps] = ["student_net", "teacher_net"].map(|name| tap_shapes(name, task).unwrap());
    for info in METHODS.iter().filter(|info| info.needs.teacher() && !info.needs.equal_widths) {
        let plan = Plan::new(1.0, vec![Term::new(info)]).unwrap();
        let answers = TeacherOutputs::online(&teacher, &plan.teacher_taps(&student, &taps).unwrap()).unwrap();
        let job = Job {
            name: info.name.to_string(),
            model: "student_net".to_string(),
            plan,
            epochs: 1,
            eval_batch_size: 20,
            optimizer: OptimizerConfig::named("sgd", 0.9, 0.0).unwrap(),
            schedule: Schedule::named("constant", 1e-4, 2, 0).unwrap(),
            clip_norm: Some(1.0),
            seed: 2,
            start: None,
            normalisation: Vec::new(),
            compression: Default::default(),
        };
        let setting = Setting { loader: &loader, test: &test, teacher: Some(&answers), run: &run, device: Device::Cpu };
        let mut log = MetricsLog::open(&folder.path().join(info.name), 0).unwrap();
        fit(&job, setting, &mut log, &mut Silent).unwrap();
        assert!(bits() == before, "{} changed the teacher", info.name);
    }
}

#[test]
fn a_temperature_that_no_part_of_the_loss_has_and_a_warm_up_longer_than_the_run_are_mentioned() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 32, 10);
    for (number, (flags, unheard, cut)) in [
        (&["--method", "at"][..], true, false),
        (&["--method", "at", "--soft-weight", "0.5"][..], false, false),
        (&["--method", "dkd"][..], false, true),
        (&["--method", "dkd", "--set", "warm-up-epochs=1"][..], false, false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = kdengine();
        command.args(["distill", "--epochs", "1", "--teacher-epochs", "1", "--teacher-model", "student_net"]);
        command.args(["--temperature", "5", "--data"]).arg(&data).args(flags);
        let output = expect(command.arg("--out").arg(folder.path().join(number.to_string())), 0);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.contains("temperature 5 changes nothing"), unheard, "{flags:?}: {text}");
        assert_eq!(text.contains("dkd grows to its full weight over more than"), cut, "{flags:?}: {text}");
    }
}

#[test]
fn what_cannot_be_used_is_one_line_with_a_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 12] = [
        (&["--method", "hintn"], "did you mean `hinton`?"),
        (&["--method", "at", "--set", "powr=2"], "did you mean `power`?"),
        (&["--method", "at", "--set", "power=0"], "at: power: must be 1 to 8, found 0; the default is 2"),
        (&["--method", "at", "--set", "form=mine"], "must be paper or notebook, found mine"),
        (&["--method", "at", "--set", "power"], "is not KEY=VALUE"),
        (&["--method", "at", "--set", "weight=-1"], "at: weight: must be 0 to 1e9"),
        (&["--method", "at,sp", "--set", "form=paper"], "Write METHOD.form=VALUE"),
        (&["--method", "at", "--set", "sp.form=paper"], "`sp` is not among --method at"),
        (&["--method", "at+at"], "method: names at twice"),
        (&["--method", "hinton,at,hinton"], "method: names hinton twice"),
        (&["--set", "power=2"], "name it with --method"),
        (&["--method", "hinton", "--set", "beta=2"], "has no hyperparameter `beta`"),
    ];
    for (flags, expected) in cases {
        let error = error_of(kdengine().arg("distill").args(flags).arg("--out").arg(folder.path().join("out")), 2);
        assert!(error.contains(expected), "{flags:?}: {error}");
    }
    let data = small_digits(&folder.path().join("data"), 64, 20);
    let mut command = distill(&data, &folder.path().join("fsp"), &["--method", "fsp"]);
    let error = error_of(command.args(["--teacher-model", "teacher_net"]), 2);
    assert!(error.contains("needs equal channels") && error.contains("student-taps"), "{error}");
    assert!(!folder.path().join("fsp").exists(), "it is refused before anything is trained");
}

#[test]
fn methods_are_listed_and_explained() {
    let text = |flags: &[&str]| String::from_utf8(expect(kdengine().arg("methods").args(flags), 0).stdout).unwrap();
    let (list, one) = (text(&[]), text(&["dkd"]));
    for info in METHODS {
        assert!(list.contains(info.name) && list.contains(info.about), "{}", info.name);
    }
    for part in ["Zhao et al. 2022", "warm-up-epochs", "kdengine distill --data digits --method dkd"] {
        assert!(one.contains(part), "{one}");
    }
    let json: serde_json::Value = serde_json::from_str(&text(&["dkd", "--json"])).unwrap();
    assert_eq!(json["hyperparameters"][1]["name"], "beta");
    assert_eq!(text(&["--json"]).lines().count(), METHODS.len() + RECIPES.len());
    let several = text(&["at", "born-again", "dkd"]);
    assert_eq!(several, [text(&["at"]), text(&["born-again"]), one].join("\n"));
    assert_eq!(text(&["at", "hinton", "--json"]).lines().count(), 2);
    let error = error_of(kdengine().args(["methods", "at", "layerwse"]), 2);
    assert!(error.contains("did you mean `layerwise`?"), "{error}");
}
