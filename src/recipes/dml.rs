//! Zhang et al., "Deep Mutual Learning", 2018: students that start from different weights and learn from one another at every batch,
//! `L_i = CE_i + mean over j ≠ i of KL(p_j ‖ p_i)` (eq. 6). Its algorithm 1 updates them in turn, each from what the others say after
//! their turn. No teacher takes part.
//!
//! The partners answer as they are in training, with dropout. In turn, a network whose turn is over answers the batch once more.

use super::{Cohort, Lab, Prospect, Recipe, RecipeInfo};
use crate::distill::{Family, Hyperparameter, Needs};
use crate::error::Result;
use crate::models::Model;
use crate::report::AccuracyTable;
use crate::train::{Evaluation, JobResult, Lesson, Update};

pub(super) static INFO: RecipeInfo = RecipeInfo {
    name: "dml",
    paper: "Zhang et al. 2018",
    family: Family::Mutual,
    about: "students that learn from one another, without a teacher",
    formula: "student i: CE_i + mean over j ≠ i of T² · KL(softmax(z_j/T) ‖ softmax(z_i/T))",
    needs: Needs::NOTHING,
    weight: 1.0,
    hard_weight: 1.0,
    cost: 2.2,
    when: "When there is no good teacher: a cohort of small networks does better than each alone.",
    traps: &[
        "Partners are constants to each other's gradient; without that they agree by all becoming worse.",
        "One student has no partner: there must be two or more.",
    ],
    hyperparameters: &[
        Hyperparameter::count("students", [2, 64], 2, "networks that learn from one another; the first is returned"),
        Hyperparameter::choice(
            "update",
            &["sequential", "simultaneous"],
            "one after another, as the paper, or all at once",
        ),
        Hyperparameter::temperature(1.0, "T of Hinton's term between students"),
    ],
    build: |settings| {
        let update = if settings.is("update", "sequential") { Update::InTurn } else { Update::AtOnce };
        Ok(Box::new(MutualLearning { students: settings.count("students"), update }))
    },
    specs: &[],
};

struct MutualLearning {
    students: usize,
    update: Update,
}

impl Recipe for MutualLearning {
    fn check(&self, prospect: &Prospect) -> Result<()> {
        prospect.check_learning(&prospect.student.model, &prospect.student.model)
    }

    fn cohort(&self, lab: &Lab) -> Option<Cohort> {
        let student = |i: usize| {
            let partners = Lesson::Members((0..self.students).filter(|&j| j != i).collect());
            match i {
                0 => (lab.student.clone(), partners),
                _ => (lab.student.reseeded(i).named(&format!("student{}", i + 1)), partners),
            }
        };
        Some(Cohort { members: (0..self.students).map(student).collect(), update: self.update })
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let mut trained = lab.train_together(&self.cohort(lab).expect("students"), None)?;
        let judged = trained.iter().map(|(model, _)| lab.evaluate(model)).collect::<Result<Vec<Evaluation>>>()?;
        let mut table = AccuracyTable::new(format!("{} and its partners", lab.student.job), &["test images"]);
        for (i, student) in judged.iter().enumerate() {
            table.row(format!("student {}", i + 1), &[student.accuracy()]);
        }
        table.row("all students together", &[Evaluation::ensemble(&judged)?.accuracy()]);
        lab.extras.tables.push(table);
        Ok(trained.swap_remove(0))
    }
}
