//! Training on labels alone: the teacher's own training, and the baseline that a distilled student must beat. It has no term of its own;
//! what is left is the cross-entropy that every method has beside it.

use super::info::{Family, MethodInfo, Needs};
use super::math::zero;
use super::{Loss, Method, Setup, StepInputs};
use crate::error::Result;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "hard-labels",
    paper: "no distillation",
    family: Family::Baseline,
    about: "cross-entropy with the labels; the baseline",
    formula: "CE(z_s, y)",
    needs: Needs::NOTHING,
    weight: 0.0,
    hard_weight: 1.0,
    cost: 1.0,
    when: "Always, beside everything else: what a method gains is measured against it.",
    traps: &[],
    hyperparameters: &[],
    build: |_: &mut Setup| Ok(Box::new(HardLabels)),
    specs: &[],
};

struct HardLabels;

impl Method for HardLabels {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        Ok(Loss { total: zero(inputs.student_logits)?, terms: Vec::new() })
    }
}
