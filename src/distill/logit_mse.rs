//! Ba & Caruana, "Do Deep Nets Really Need to be Deep?", 2014: the student regresses the teacher's logits,
//! `L = mean (z_s − z_t)²` (their eq. 1, averaged over classes as well).

use super::cases::logits_pair;
use super::info::{Family, MethodInfo, Needs};
use super::{Loss, Method, StepInputs};
use crate::error::Result;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "logit-mse",
    paper: "Ba & Caruana 2014",
    family: Family::Response,
    about: "regress the teacher's logits",
    formula: "mean (z_s − z_t)²",
    needs: Needs::LOGITS,
    weight: 1.0,
    hard_weight: 1.0,
    cost: 1.2,
    when: "When teacher and student have logits of a similar scale; it is the limit of hinton at a high temperature.",
    traps: &[
        "It punishes a difference that softmax ignores: a constant added to all logits. See logit-standardization.",
    ],
    hyperparameters: &[],
    build: |_| Ok(Box::new(LogitMse)),
    specs: SPECS,
};

/// `mean (z_s − z_t)²`; no gradient reaches the teacher.
///
/// # Errors
/// The shapes differ.
pub fn logit_mse(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    student.mse_loss(&teacher.detach())
}

struct LogitMse;

impl Method for LogitMse {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        Ok(Loss::single(INFO.name, logit_mse(inputs.student_logits, inputs.teacher_logits()?)?))
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "logit_mse",
    run: |case| Ok(vec![("loss", logit_mse(&case.tensor("student_logits")?, &case.tensor("teacher_logits")?)?)]),
    sample: Some(logits_pair),
}];
