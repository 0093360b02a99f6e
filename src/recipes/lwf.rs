//! Li & Hoiem, "Learning without Forgetting", 2016: a network that knows the old classes learns new ones from images of the new ones
//! alone, while the network that it was keeps it to its old answers:
//! `L = λ · L_old + L_new`, `L_old = −Σ p'_o(i) ln p'_s(i)` over the old classes with `p' ∝ p^(1/T)` (eq. 2 to 4), T = 2, λ = 1.
//!
//! λ is `--soft-weight`, T `--temperature`. As in the paper every task has classes of its own to choose from in training; unlike the
//! paper's, the new head is not trained alone first. The report follows old and new classes after each epoch, each image judged among
//! the classes of its own task as in the paper, beside the same network without L_old. Every other accuracy is among all classes, as
//! everyone's.

use super::lab::task_of;
use super::{Accepts, Lab, Prospect, Recipe, RecipeInfo};
use crate::data::Dataset;
use crate::distill::{
    soft_targets, Family, Hyperparameter, Loss, Method, MethodInfo, Needs, Plan, Scheduled, Settings, StepInputs, Term,
    Value,
};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::report::AccuracyTable;
use crate::tensor::Tensor;
use crate::train::{EpochRecord, JobResult, Pupil, TestSet};
use std::ops::Range;
use std::sync::Arc;

/// Rows of the table of epochs, about.
const ROWS: usize = 12;

pub(super) static INFO: RecipeInfo = RecipeInfo {
    name: "lwf",
    paper: "Li & Hoiem 2016",
    family: Family::Transfer,
    about: "new classes are learned while the old network keeps the old ones known",
    formula: "hard · CE over new classes + λ · CE(p'_old ‖ p'_s) over old classes, p' ∝ p^(1/T)",
    needs: Needs::NOTHING,
    weight: 1.0,
    hard_weight: 1.0,
    cost: 3.0,
    when: "When a network has to learn more classes and the images of the first ones are gone.",
    traps: &[
        "Only its own table judges each image among the classes of its own task; everywhere else it is among all classes, where it is worse: nothing trained the tasks against each other.",
        "The baseline and the teacher of the run learn from all classes at once: they are the upper bound, not the comparison.",
    ],
    hyperparameters: &[
        Hyperparameter::count("old-classes", [1, 100000], 5, "how many of the classes, from the first, are known before"),
        Hyperparameter::constant_temperature(2.0, "T of the old answers"),
    ],
    build: |settings| Ok(Box::new(WithoutForgetting { old: settings.count("old-classes") })),
    specs: &[],
};

struct WithoutForgetting {
    /// Classes known before.
    old: usize,
}

const FIRST: &str = "first-class";
const CLASSES: &str = "classes";
const TEMPERATURE: &str = "temperature";

/// `CE(z[first..first + classes], y − first)`: one task's labels.
static TASK: MethodInfo = MethodInfo {
    name: "task",
    about: "cross-entropy among the classes of one task",
    formula: "CE(z_s[task], y)",
    family: Family::Baseline,
    needs: Needs { labels: true, ..Needs::NOTHING },
    hyperparameters: &[
        Hyperparameter::count(FIRST, [0, 100000], 0, "the task's first class"),
        Hyperparameter::count(CLASSES, [1, 100000], 1, "how many there are"),
    ],
    build: |setup| Ok(Box::new(TaskLabels { classes: class_range(setup.settings) })),
    ..OLD
};

/// `CE(softmax(z_old/T) ‖ softmax(z_s/T))` over the old classes: its gradient is that of KL, which is 0 where both agree.
static OLD_ANSWERS: MethodInfo = OLD;

const OLD: MethodInfo = MethodInfo {
    name: "old",
    paper: "Li & Hoiem 2016",
    family: Family::Response,
    about: "the old network's answers over the old classes",
    formula: "KL(softmax(z_old[old]/T) ‖ softmax(z_s[old]/T))",
    needs: Needs::LOGITS,
    weight: 1.0,
    hard_weight: 1.0,
    cost: 1.2,
    when: "Within the recipe lwf.",
    traps: &[],
    hyperparameters: &[
        Hyperparameter::count(FIRST, [0, 100000], 0, "the first old class"),
        Hyperparameter::count(CLASSES, [1, 100000], 1, "how many there are"),
        Hyperparameter::temperature(2.0, "T"),
    ],
    build: |setup| {
        let temperature = setup.settings.scheduled(TEMPERATURE);
        Ok(Box::new(OldAnswers { classes: class_range(setup.settings), temperature }))
    },
    specs: &[],
};

struct TaskLabels {
    classes: Range<usize>,
}

struct OldAnswers {
    classes: Range<usize>,
    temperature: Scheduled,
}

fn class_range(settings: &Settings) -> Range<usize> {
    settings.count(FIRST)..settings.count(FIRST) + settings.count(CLASSES)
}

fn among(logits: &Tensor, classes: &Range<usize>) -> Result<Tensor> {
    logits.narrow(1, classes.start, classes.len())
}

impl Method for TaskLabels {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let labels: Vec<i32> = inputs.labels.to_vec::<i32>()?.iter().map(|y| y - self.classes.start as i32).collect();
        let labels = Tensor::from_slice(&labels, [labels.len()], inputs.labels.device())?;
        Ok(Loss::single(TASK.name, among(inputs.student_logits, &self.classes)?.cross_entropy(&labels, 0.0)?))
    }
}

impl Method for OldAnswers {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let [student, old] =
            [inputs.student_logits, inputs.teacher_logits()?].map(|logits| among(logits, &self.classes));
        // Hinton's loss carries T², the paper's does not.
        let temperature = inputs.now(self.temperature);
        let soft = soft_targets(&student?, &old?, temperature)?;
        Ok(Loss::single(OLD_ANSWERS.name, soft.affine(temperature.powi(-2), 0.0)?))
    }
}

/// A term over some classes.
fn term(
    info: &'static MethodInfo,
    classes: &Range<usize>,
    weight: Scheduled,
    temperature: Option<Scheduled>,
) -> Result<Term> {
    let count = |n: usize| Value::Number(n as f64);
    let mut values = vec![(FIRST, count(classes.start)), (CLASSES, count(classes.len()))];
    values.extend(temperature.map(|temperature| (TEMPERATURE, temperature.into())));
    let values = values.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    Ok(Term { weight, settings: Settings::new(info, &values)?, ..Term::new(info) })
}

/// The images of some classes.
fn of_classes(images: &Dataset, classes: &Range<usize>) -> Result<Arc<Dataset>> {
    let labels = images.labels.iter().enumerate();
    let index: Vec<u32> = labels.filter(|(_, y)| classes.contains(&(**y as usize))).map(|(i, _)| i as u32).collect();
    match index.is_empty() {
        true => Err(Error::argument("lwf", format!("there are no images of the classes {classes:?} to learn from"))),
        false => images.subset(&index).map(Arc::new),
    }
}

impl WithoutForgetting {
    /// The old and the new classes.
    fn tasks(&self, images: &Dataset) -> Result<[Range<usize>; 2]> {
        let all = task_of(images).classes;
        match self.old < all {
            true => Ok([0..self.old, self.old..all]),
            false => {
                let reason = format!("must leave new classes: at most {} of {all}, found {}", all - 1, self.old);
                Err(Error::argument("lwf: old-classes", reason))
            }
        }
    }
}

impl Recipe for WithoutForgetting {
    fn accepts(&self) -> Accepts {
        Accepts::NoMethod
    }

    fn check(&self, prospect: &Prospect) -> Result<()> {
        let images = &prospect.student.images;
        self.tasks(images)?.iter().try_for_each(|classes| of_classes(images, classes).map(drop))?;
        self.accepts().check("lwf", &prospect.student.plan)
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let student = lab.student.clone();
        let [old, new] = self.tasks(&student.images)?;
        let test = TestSet::in_groups(lab.test, &[old.clone(), new.clone()], lab.device)?;
        let labels_of = |classes: &Range<usize>, weight| term(&TASK, classes, weight, None);

        let plan = Plan::new(0.0, vec![labels_of(&old, 1.0.into())?])?;
        let pupil = Pupil { plan, images: of_classes(&student.images, &old)?, ..student.named("old") };
        let (before, at_first) = lab.train_judged(&pupil, None, &test)?;
        let before = Arc::new(before);

        let hard = student.plan.hard_weight;
        let started =
            Pupil { images: of_classes(&student.images, &new)?, start: Some(before.clone()), ..student.clone() };
        let plan = Plan::new(0.0, vec![labels_of(&new, if hard.is_zero() { 1.0.into() } else { hard })?])?;
        let (_, forgetting) = lab.train_judged(&Pupil { plan, ..started.named("fine-tuned") }, None, &test)?;

        let mut terms = vec![labels_of(&new, hard)?];
        for hinton in &student.plan.terms {
            terms.push(term(&OLD_ANSWERS, &old, hinton.weight, Some(hinton.settings.scheduled(TEMPERATURE)))?);
        }
        let pupil = Pupil { plan: Plan::new(0.0, terms)?, ..started };
        let answers = lab.ask(&before, &pupil)?;
        let (model, result) = lab.train_judged(&pupil, Some(&answers), &test)?;
        report(lab, &at_first, &result, &forgetting);
        Ok((model, result))
    }
}

/// Old and new classes after each epoch, with and without the old answers.
fn report(lab: &mut Lab, before: &JobResult, with: &JobResult, without: &JobResult) {
    let columns = ["old classes, lwf", "new classes, lwf", "old classes, fine-tuned", "new classes, fine-tuned"];
    let mut table = AccuracyTable::new(format!("{} without forgetting", lab.student.job), &columns);
    let groups = |record: Option<&EpochRecord>| record.map_or(Vec::new(), |record| record.groups.clone());
    table.row("before", &groups(before.history.last()).repeat(2));
    let epochs = with.history.len();
    for (with, without) in with.history.iter().zip(&without.history) {
        if with.epoch % epochs.div_ceil(ROWS) == 0 || with.epoch == epochs {
            table.row(format!("epoch {}", with.epoch), &[groups(Some(with)), groups(Some(without))].concat());
        }
    }
    lab.extras.tables.push(table);
}
