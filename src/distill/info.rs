//! What a registry knows about a method or a recipe: the source of listings, help, documentation and configuration.

use super::taps::{TapPair, TeacherFeature};
use super::{Method, Settings, Setup};
use crate::error::Result;
use crate::ops::OpSpec;

/// Where a method takes its knowledge from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Labels alone.
    Baseline,
    /// The teacher's answers.
    Response,
    /// The teacher's feature maps.
    Feature,
    /// How the teacher relates samples to one another.
    Relation,
    /// The network's own past, or its own deeper layers.
    Own,
    /// Networks that are trained at the same time.
    Mutual,
    /// Several teachers, beside or behind one another.
    Teachers,
    /// Other images, classes or domains than the teacher's.
    Transfer,
}

impl Family {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Family::Baseline => "baseline",
            Family::Response => "response",
            Family::Feature => "feature",
            Family::Relation => "relation",
            Family::Own => "self",
            Family::Mutual => "mutual",
            Family::Teachers => "teachers",
            Family::Transfer => "transfer",
        }
    }
}

/// Which feature maps a method compares where the configuration does not name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taps {
    /// None.
    None,
    /// The features that the classifier sees (`penultimate`).
    Penultimate,
    /// The last feature map with height and width.
    LastStage,
    /// The feature map in the middle of the student, which is where hints are given.
    MiddleStage,
    /// Every feature map of the student that has height and width.
    Stages,
    /// As `Stages`, then the features that the classifier sees.
    StagesAndPenultimate,
    /// Every feature map of the student before its last, each with the last: the student is its own teacher.
    OwnStages,
    /// The feature map of the student before its last, with the last.
    OwnTrunk,
}

impl Taps {
    /// Whether they are all the student's, so that no teacher is needed for them.
    pub fn of_student_alone(self) -> bool {
        matches!(self, Taps::OwnStages | Taps::OwnTrunk)
    }
}

/// What a method wants to know of the teacher's side of a pair, if that is less than the whole feature map.
pub type Digest = fn(&Settings, &TapPair) -> TeacherFeature;

/// What a method has to be given.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// The teacher's logits.
    pub teacher_logits: bool,
    /// The labels, for more than the cross-entropy beside the method.
    pub labels: bool,
    /// Feature maps of teacher and student.
    pub taps: Taps,
    /// Whether they are to be those before the ReLU, where one made them.
    pub pre_activation: bool,
    /// Whether those of teacher and student must have equally many channels.
    pub equal_widths: bool,
    /// What is enough of the teacher's: it is kept instead of the map where a teacher's answers are kept.
    pub digest: Option<Digest>,
}

impl Needs {
    /// The teacher's logits alone.
    pub const LOGITS: Needs = Needs {
        teacher_logits: true,
        labels: false,
        taps: Taps::None,
        pre_activation: false,
        equal_widths: false,
        digest: None,
    };
    /// Nothing but the labels beside it.
    pub const NOTHING: Needs = Needs { teacher_logits: false, ..Needs::LOGITS };
    /// The teacher's logits and the labels.
    pub const LOGITS_AND_LABELS: Needs = Needs { labels: true, ..Needs::LOGITS };

    /// Feature maps alone.
    pub const fn features(taps: Taps) -> Needs {
        Needs { taps, ..Needs::NOTHING }
    }

    /// The same before their ReLU.
    pub const fn before_relu(self) -> Needs {
        Needs { pre_activation: true, ..self }
    }

    /// The same of equally many channels.
    pub const fn of_equal_widths(self) -> Needs {
        Needs { equal_widths: true, ..self }
    }

    /// The same, if so much of the teacher's feature maps is enough.
    pub const fn digested(self, digest: Digest) -> Needs {
        Needs { digest: Some(digest), ..self }
    }

    /// Whether there must be a teacher.
    pub fn teacher(self) -> bool {
        self.teacher_logits || (self.taps != Taps::None && !self.taps.of_student_alone())
    }

    /// The needs in words, for tables.
    pub fn describe(self) -> &'static str {
        match (self.teacher_logits, self.taps) {
            (false, Taps::None) => "labels",
            (true, Taps::None) => "logits",
            (false, taps) if taps.of_student_alone() => "own features",
            (false, _) if self.pre_activation => "pre-activations",
            (false, _) => "features",
            (true, _) => "logits, features",
        }
    }
}

/// The values that a hyperparameter may have, and the default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Domain {
    /// A number above a bound.
    Above { bound: f64, default: f64 },
    /// A number between bounds, both included; in every epoch its own if it is given as a schedule.
    Scheduled { low: f64, high: f64, default: f64 },
    /// A number between bounds, both included.
    Between { low: f64, high: f64, default: f64 },
    /// A whole number between bounds, both included.
    Count { least: usize, most: usize, default: usize },
    /// One of several words, the first by default.
    Choice(&'static [&'static str]),
    /// Names joined by `+`, or the word that stands for none given.
    Names { default: &'static str },
}

/// One hyperparameter of a method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyperparameter {
    /// The name in configuration files and after `--set`.
    pub name: &'static str,
    /// What it may be.
    pub domain: Domain,
    /// What it means.
    pub about: &'static str,
}

impl Hyperparameter {
    /// A number above `bound`.
    pub const fn above(name: &'static str, bound: f64, default: f64, about: &'static str) -> Hyperparameter {
        Hyperparameter { name, domain: Domain::Above { bound, default }, about }
    }

    /// A temperature that may follow a schedule.
    pub const fn temperature(default: f64, about: &'static str) -> Hyperparameter {
        let [low, high] = TEMPERATURES;
        Hyperparameter { name: "temperature", domain: Domain::Scheduled { low, high, default }, about }
    }

    /// A temperature that is the same in every epoch.
    pub const fn constant_temperature(default: f64, about: &'static str) -> Hyperparameter {
        Hyperparameter::between("temperature", TEMPERATURES, default, about)
    }

    /// A number in `[low, high]`.
    pub const fn between(
        name: &'static str,
        [low, high]: [f64; 2],
        default: f64,
        about: &'static str,
    ) -> Hyperparameter {
        Hyperparameter { name, domain: Domain::Between { low, high, default }, about }
    }

    /// A whole number in `[least, most]`.
    pub const fn count(
        name: &'static str,
        [least, most]: [usize; 2],
        default: usize,
        about: &'static str,
    ) -> Hyperparameter {
        Hyperparameter { name, domain: Domain::Count { least, most, default }, about }
    }

    /// One of `words`; the first is the default.
    pub const fn choice(name: &'static str, words: &'static [&'static str], about: &'static str) -> Hyperparameter {
        Hyperparameter { name, domain: Domain::Choice(words), about }
    }

    /// Names, joined by `+`; `default` is what stands there where none are given.
    pub const fn names(name: &'static str, default: &'static str, about: &'static str) -> Hyperparameter {
        Hyperparameter { name, domain: Domain::Names { default }, about }
    }

    /// The default in words.
    pub fn default_text(&self) -> String {
        match self.domain {
            Domain::Above { default, .. } | Domain::Scheduled { default, .. } | Domain::Between { default, .. } => {
                default.to_string()
            }
            Domain::Count { default, .. } => default.to_string(),
            Domain::Choice(words) => words.first().map_or(String::new(), |word| word.to_string()),
            Domain::Names { default } => default.to_string(),
        }
    }

    /// What it may be, in words.
    pub fn range_text(&self) -> String {
        match self.domain {
            Domain::Above { bound, .. } => format!("above {bound}"),
            Domain::Scheduled { low, high, .. } => format!("{low} to {high}, or FROM..TO"),
            Domain::Between { low, high, .. } if high == f64::INFINITY => format!("{low} or more"),
            Domain::Between { low, high, .. } => format!("{low} to {high}"),
            Domain::Count { least, most, .. } => format!("a whole number, {least} to {most}"),
            Domain::Choice(words) => words.join(" or "),
            Domain::Names { default } => format!("{default}, or names joined by +"),
        }
    }
}

/// Temperatures whose softmax and T² stay far from the limits of `f32`.
const TEMPERATURES: [f64; 2] = [1e-3, 1e4];

/// A number of 0 or more, for [`Hyperparameter::between`].
pub const NON_NEGATIVE: [f64; 2] = [0.0, f64::INFINITY];

/// A method: a term of one student's loss.
pub type MethodInfo = Entry<fn(&mut Setup) -> Result<Box<dyn Method>>>;

/// An entry of a registry: all that is known about a method, or about a recipe. `Build` is the function that makes it.
pub struct Entry<Build> {
    /// The name on the command line.
    pub name: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// Where its knowledge comes from.
    pub family: Family,
    /// One line for listings.
    pub about: &'static str,
    /// The loss as it is computed.
    pub formula: &'static str,
    /// What it has to be given.
    pub needs: Needs,
    /// What its loss is multiplied by where nothing else is asked for; of a recipe, Hinton's term.
    pub weight: f64,
    /// What the cross-entropy with the labels is multiplied by beside it.
    pub hard_weight: f64,
    /// Time of a step relative to training on labels: as the literature gives it, by count of operations, or, where that is far off for a
    /// small student, as measured. A hint.
    pub cost: f64,
    /// When to use it.
    pub when: &'static str,
    /// What goes wrong with it.
    pub traps: &'static [&'static str],
    /// What can be set.
    pub hyperparameters: &'static [Hyperparameter],
    /// Makes it: a method for two networks, a recipe from its hyperparameters.
    pub build: Build,
    /// Its losses for the gradient check and the conformance fixtures.
    pub specs: &'static [OpSpec],
}
