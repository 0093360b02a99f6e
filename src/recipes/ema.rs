//! A teacher that follows its student, after Tarvainen & Valpola, "Mean teachers are better role models", 2017 (eq. 2): the moving average
//! of the student's weights and of its batch-norm statistics, `teacher ← m · teacher + (1 − m) · student` after every step, with
//! `m = min(momentum, (1 + t) / (10 + t))` at step t, so that the first, bad weights are soon forgotten.
//!
//! The paper compares softmax outputs by their mean squared difference on images with and without labels; here the student learns by
//! Hinton's term, or any other, on the labelled ones. The average answers in evaluation, without dropout.

use super::{Cohort, Lab, Prospect, Recipe, RecipeInfo};
use crate::distill::{Family, Hyperparameter, Needs};
use crate::error::Result;
use crate::models::Model;
use crate::report::AccuracyTable;
use crate::train::{JobResult, Lesson, Update};

pub(super) static INFO: RecipeInfo = RecipeInfo {
    name: "ema",
    paper: "Tarvainen & Valpola 2017",
    family: Family::Own,
    about: "the moving average of the student's own weights teaches it",
    formula: "teacher ← m · teacher + (1 − m) · student; student: CE + T² · KL(softmax(z_ema/T) ‖ softmax(z_s/T))",
    needs: Needs::NOTHING,
    weight: 1.0,
    hard_weight: 1.0,
    cost: 1.4,
    when: "When there is no teacher: the average costs one evaluation a step and is itself usually the better network.",
    traps: &[
        "Batch norm's running statistics must be averaged, too, or the average answers with those of its first step.",
        "A momentum of 0.999 remembers about a thousand steps: in a shorter training, lower it.",
    ],
    hyperparameters: &[
        Hyperparameter::between("momentum", [0.0, 1.0], 0.999, "m, once warmed up"),
        Hyperparameter::choice("deploy", &["average", "student"], "which of the two is returned"),
        Hyperparameter::temperature(3.0, "T of Hinton's term"),
    ],
    build: |settings| {
        Ok(Box::new(AverageTeacher {
            momentum: settings.number("momentum"),
            average: settings.is("deploy", "average"),
        }))
    },
    specs: &[],
};

struct AverageTeacher {
    momentum: f64,
    /// Whether the average is returned.
    average: bool,
}

impl AverageTeacher {
    /// Which member of the cohort the student is, and which the average: the first is the one that is returned.
    fn places(&self) -> [usize; 2] {
        match self.average {
            true => [1, 0],
            false => [0, 1],
        }
    }
}

impl Recipe for AverageTeacher {
    fn check(&self, prospect: &Prospect) -> Result<()> {
        prospect.check_learning(&prospect.student.model, &prospect.student.model)
    }

    fn cohort(&self, lab: &Lab) -> Option<Cohort> {
        let [student, average] = self.places();
        let learns = Lesson::Members(vec![average]);
        let follows = Lesson::Average { of: student, momentum: self.momentum };
        let members = match self.average {
            true => vec![(lab.student.clone(), follows), (lab.student.named("student"), learns)],
            false => vec![(lab.student.clone(), learns), (lab.student.named("average"), follows)],
        };
        Some(Cohort { members, update: Update::AtOnce })
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let [student, average] = self.places();
        let mut trained = lab.train_together(&self.cohort(lab).expect("two networks"), None)?;
        let mut table = AccuracyTable::new(format!("{} and its average", lab.student.job), &["test images"]);
        table.row("student", &[trained[student].1.accuracy()]);
        table.row("average of its weights", &[trained[average].1.accuracy()]);
        lab.extras.tables.push(table);
        Ok(trained.swap_remove(0))
    }
}
