//! Training on labels alone: the teacher's own training, and the baseline that a distilled student must beat.

use super::{Loss, Method, MethodInfo, StepInputs};
use crate::error::Result;

pub(super) const INFO: MethodInfo =
    MethodInfo { name: "hard-labels", paper: "no distillation", about: "cross-entropy with the labels; the baseline" };

/// Mean cross-entropy with the labels.
pub struct HardLabels;

impl Method for HardLabels {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn needs_teacher(&self) -> bool {
        false
    }

    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let total = inputs.student_logits.cross_entropy(inputs.labels, 0.0)?;
        Ok(Loss { terms: vec![("hard", total.detach())], total })
    }
}
