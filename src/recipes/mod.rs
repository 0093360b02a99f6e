//! Recipes, one file each: ways to arrange trainings — generations, networks side by side, stages — and the registry that knows them by
//! name. What the networks learn from is a [`Plan`] as for a single student; a recipe says who teaches whom, and
//! when.

mod choice;
mod lab;

pub mod born_again;
pub mod co_training;
pub mod data_free;
pub mod dml;
pub mod ema;
pub mod lwf;
pub mod multi_teacher;
pub mod self_training;
pub mod teacher_assistant;

pub use choice::{RecipeChoice, RecipeConfig};
pub use lab::{Cohort, Lab, Prospect};

use crate::distill::{unknown_name, Entry, MethodInfo, Plan, Settings, Taps, METHODS};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::train::JobResult;

/// A recipe: an entry of [`RECIPES`].
pub type RecipeInfo = Entry<fn(&Settings) -> Result<Box<dyn Recipe>>>;

/// All recipes. A new one is a file (`pub mod` above) and a line here.
pub static RECIPES: &[&RecipeInfo] = &[
    &born_again::INFO,
    &ema::INFO,
    &dml::INFO,
    &co_training::INFO,
    &teacher_assistant::INFO,
    &multi_teacher::INFO,
    &self_training::INFO,
    &lwf::INFO,
    &data_free::gradient::INFO,
    &data_free::activation_max::INFO,
    &data_free::deep_inversion::INFO,
    &data_free::dafl::INFO,
    &data_free::dfad::INFO,
];

/// What can be named beside a recipe for its students to learn by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Every method.
    AnyMethod,
    /// Methods that compare no feature maps.
    MethodsOfLogits,
    /// None: it has a loss of its own.
    NoMethod,
    /// None, and no weights either: it has a loss of its own, of the teacher's answers alone.
    Nothing,
}

impl Accepts {
    /// Refuses a plan with other methods, for a recipe of this name.
    ///
    /// # Errors
    /// Names the method.
    fn check(self, recipe: &'static str, plan: &Plan) -> Result<()> {
        let (refused, reason): (fn(&MethodInfo) -> bool, _) = match self {
            Accepts::AnyMethod => return Ok(()),
            Accepts::MethodsOfLogits => {
                (|info| info.needs.taps != Taps::None, "learns from answers, not from feature maps")
            }
            Accepts::NoMethod => (|info| info.name != "hinton", "has a loss of its own"),
            Accepts::Nothing => {
                let own = matches!(&plan.terms[..], [term] if term.info.name == "hinton" && term.weight == 1.0.into());
                return match plan.hard_weight.is_zero() && own {
                    true => Ok(()),
                    false => {
                        let reason = "has a loss of its own for the student, who has no labels; leave --hard-weight, \
                                      --soft-weight and other methods out";
                        Err(Error::argument(recipe, reason))
                    }
                };
            }
        };
        match plan.terms.iter().find(|term| refused(term.info)) {
            None => Ok(()),
            Some(term) => Err(Error::argument(recipe, format!("{reason}; leave out {}", term.info.name))),
        }
    }
}

/// A way to arrange trainings, with its hyperparameters.
pub trait Recipe {
    /// What else its students can learn by.
    fn accepts(&self) -> Accepts {
        Accepts::AnyMethod
    }

    /// Refuses networks, images or plans that it cannot use, before anything is trained.
    ///
    /// # Errors
    /// Says what does not fit and what to do instead.
    fn check(&self, prospect: &Prospect) -> Result<()> {
        prospect.check_learning(&prospect.student.model, &prospect.teacher.model)
    }

    /// The networks that it trains in lockstep, where that is its training: what a step costs is then known.
    fn cohort(&self, _lab: &Lab) -> Option<Cohort> {
        None
    }

    /// Trains what it needs and returns the student, which is the model of the job [`Lab::student`] names. Every training is a job of
    /// the run, so that a run that was stopped loads the finished ones and goes on with the unfinished.
    ///
    /// # Errors
    /// A training fails or is interrupted.
    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)>;
}

/// What `--method` can name.
#[derive(Clone, Copy)]
pub enum Named {
    /// A term of a student's loss.
    Method(&'static MethodInfo),
    /// A way to arrange trainings.
    Recipe(&'static RecipeInfo),
}

/// The recipe with this name.
///
/// # Errors
/// There is none; the error names the nearest.
pub fn find_recipe(name: &str) -> Result<&'static RecipeInfo> {
    let unknown = || unknown_name(name, RECIPES.iter().map(|info| info.name));
    RECIPES.iter().find(|info| info.name == name).copied().ok_or_else(unknown)
}

/// The method or recipe with this name.
///
/// # Errors
/// There is neither; the error names the nearest.
pub fn find(name: &str) -> Result<Named> {
    let method = METHODS.iter().find(|info| info.name == name).map(|info| Named::Method(info));
    let recipe = || RECIPES.iter().find(|info| info.name == name).map(|info| Named::Recipe(info));
    let names = METHODS.iter().map(|info| info.name).chain(RECIPES.iter().map(|info| info.name));
    method.or_else(recipe).ok_or_else(|| unknown_name(name, names))
}
