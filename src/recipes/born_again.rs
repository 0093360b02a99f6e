//! Furlanello et al., "Born Again Neural Networks", 2018: generations of one architecture, each taught by the one before. The first learns
//! from the teacher (section 3.1: `min L(f(x, θ_{k−1}), f(x, θ_k))`), every generation starts from weights of its own, and at the end
//! all generations answer together (section 3.2, the mean of their probabilities).
//!
//! The paper's loss on images is the cross-entropy with the softmax of the generation before, without labels and at temperature 1: the
//! defaults here. Its BAN+L, with the labels beside it, is `--hard-weight`.

use super::{Lab, Recipe, RecipeInfo};
use crate::distill::{Family, Hyperparameter, Needs};
use crate::error::Result;
use crate::models::Model;
use crate::report::AccuracyTable;
use crate::train::{Evaluation, JobResult};
use std::sync::Arc;

pub(super) static INFO: RecipeInfo = RecipeInfo {
    name: "born-again",
    paper: "Furlanello et al. 2018",
    family: Family::Own,
    about: "generations of the student, each taught by the one before",
    formula: "generation k: T² · KL(softmax(z_{k−1}/T) ‖ softmax(z_k/T)), z_0 the teacher's",
    needs: Needs::LOGITS,
    weight: 1.0,
    hard_weight: 0.0,
    cost: 3.0,
    when: "When training time is cheap and the deployed size is fixed; the ensemble of generations is often better than the last.",
    traps: &[
        "Most of the gain comes with the first one or two generations; a longer chain can get worse.",
        "Compared with a baseline of one training it has had several times the computation.",
    ],
    hyperparameters: &[
        Hyperparameter::count("generations", [1, 100], 3, "students trained one after another; the last is returned"),
        Hyperparameter::temperature(1.0, "T of Hinton's term"),
    ],
    build: |settings| Ok(Box::new(BornAgain { generations: settings.count("generations") })),
    specs: &[],
};

struct BornAgain {
    generations: usize,
}

impl Recipe for BornAgain {
    fn check(&self, prospect: &super::Prospect) -> Result<()> {
        let student = &prospect.student.model;
        prospect.check_learning(student, &prospect.teacher.model)?;
        match self.generations {
            1 => Ok(()),
            _ => prospect.check_learning(student, student),
        }
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let mut parent = lab.teacher()?;
        let mut table = AccuracyTable::new(format!("{} born again", lab.student.job), &["test images"]);
        let mut generations: Vec<Evaluation> = Vec::new();
        for k in 1..self.generations {
            // The last has the student's own seed: all students of a seed start alike.
            let pupil = lab.student.reseeded(k).named(&format!("gen{k}"));
            let (model, _) = lab.train(&pupil, Some(&parent))?;
            generations.push(lab.evaluate(&model)?);
            parent = Arc::new(model);
        }
        let (model, result) = lab.train(&lab.student.clone(), Some(&parent))?;
        generations.push(lab.evaluate(&model)?);
        for (k, generation) in generations.iter().enumerate() {
            table.row(format!("generation {}", k + 1), &[generation.accuracy()]);
        }
        table.row("all generations together", &[Evaluation::ensemble(&generations)?.accuracy()]);
        lab.extras.tables.push(table);
        Ok((model, result))
    }
}
