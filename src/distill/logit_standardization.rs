//! Sun et al., "Logit Standardization in Knowledge Distillation", 2024: both networks' logits are standardised for each sample before
//! Hinton's divergence, so that the student need not match the teacher's scale and shift (eq. 12, algorithm 2):
//! `z̃ = (z − mean z) / (std z + ε)`, `L = T² · KL(softmax(z̃_t/T) ‖ softmax(z̃_s/T))`, with the unbiased standard deviation.

use super::cases::{logits_pair, positive};
use super::info::{Family, Hyperparameter, MethodInfo, Needs};
use super::math::{root, soft_targets};
use super::{Loss, Method, Scheduled, StepInputs};
use crate::error::Result;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "logit-standardization",
    paper: "Sun et al. 2024",
    family: Family::Response,
    about: "Hinton's divergence of logits standardised for each sample",
    formula: "T² · KL(softmax(z̃_t/T) ‖ softmax(z̃_s/T)), z̃ = (z − mean z) / (std z + 1e-7)",
    needs: Needs::LOGITS,
    weight: 9.0,
    hard_weight: 0.1,
    cost: 1.2,
    when: "When the teacher's logits are much larger than a student of its size can make them.",
    traps: &["The weight is large because standardised logits are small: 9 with 0.1 for the labels is the paper's."],
    hyperparameters: &[Hyperparameter::temperature(2.0, "T, in units of the logits' deviation")],
    build: |setup| Ok(Box::new(LogitStandardization { temperature: setup.settings.scheduled("temperature") })),
    specs: SPECS,
};

/// Keeps equal logits finite; the reference implementation's.
const EPS: f64 = 1e-7;

/// Hinton's divergence, times T², of standardised logits.
///
/// # Errors
/// The shapes differ, or the temperature is not above 0.
pub fn logit_standardization(student: &Tensor, teacher: &Tensor, temperature: f64, eps: f64) -> Result<Tensor> {
    soft_targets(&standardised(student, eps)?, &standardised(&teacher.detach(), eps)?, temperature)
}

fn standardised(logits: &Tensor, eps: f64) -> Result<Tensor> {
    let classes = logits.shape().last().copied().unwrap_or(1);
    let centred = logits.sub(&logits.mean(&[1], true)?)?;
    let variance = centred.square()?.sum(&[1], true)?.affine(1.0 / (classes.max(2) - 1) as f64, 0.0)?;
    centred.div(&root(&variance)?.affine(1.0, eps)?)
}

struct LogitStandardization {
    temperature: Scheduled,
}

impl Method for LogitStandardization {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let teacher = inputs.teacher_logits()?;
        Ok(Loss::single(
            INFO.name,
            logit_standardization(inputs.student_logits, teacher, inputs.now(self.temperature), EPS)?,
        ))
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "logit_standardization_kd",
    run: |case| {
        case.require("std", "unbiased (n-1)")?;
        let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
        let loss = logit_standardization(&student, &teacher, case.number("temperature")?, case.number("eps")?)?;
        Ok(vec![("loss", loss)])
    },
    sample: Some(|random| {
        let temperature = positive(random);
        logits_pair(random).attr("temperature", temperature).attr("eps", EPS).attr("std", "unbiased (n-1)")
    }),
}];
