//! Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015:
//! `hard_weight · CE(z_s, y) + soft_weight · T² · KL(softmax(z_t/T) ‖ softmax(z_s/T))`.
//!
//! The factor T² keeps the soft term's gradient at the same scale when T changes (section 2 of the paper). What texts call α or λ
//! multiplies sometimes one term, sometimes the other; here each weight has its name. Both terms and the gradient are one kernel,
//! [`Tensor::hinton_kd`](crate::Tensor::hinton_kd), which has its fixtures beside it.

use super::info::{Family, Hyperparameter, MethodInfo, Needs};
use super::math::soft_targets;
use super::{Loss, Method, Scheduled, StepInputs};
use crate::backend::params::HintonKd;
use crate::error::Result;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "hinton",
    paper: "Hinton, Vinyals & Dean 2015",
    family: Family::Response,
    about: "match the teacher's tempered softmax, and the labels",
    formula: "T² · KL(softmax(z_t/T) ‖ softmax(z_s/T))",
    needs: Needs::LOGITS,
    weight: 0.5,
    hard_weight: 0.5,
    cost: 1.2,
    when: "First, always: it is cheap, needs no look inside the teacher, and many elaborate methods do not beat it.",
    traps: &[
        "What papers call α or λ multiplies sometimes one term, sometimes the other; here they are --hard-weight and --soft-weight.",
        "Without T² the soft term fades as T grows; it is part of the loss here, at every weight.",
    ],
    hyperparameters: &[Hyperparameter::temperature(3.0, "T, softens both distributions; 2 to 5 is usual")],
    build: |setup| Ok(Box::new(Hinton { temperature: setup.settings.scheduled("temperature") })),
    specs: &[],
};

struct Hinton {
    temperature: Scheduled,
}

impl Method for Hinton {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let soft = soft_targets(inputs.student_logits, inputs.teacher_logits()?, inputs.now(self.temperature))?;
        Ok(Loss::single(INFO.name, soft))
    }

    fn loss_with_labels(&self, inputs: &StepInputs, hard_weight: f64, weight: f64) -> Result<Option<Loss>> {
        let p = HintonKd { temperature: inputs.now(self.temperature), hard_weight, soft_weight: weight };
        let loss = inputs.student_logits.hinton_kd(inputs.teacher_logits()?, inputs.labels, p)?;
        let terms = vec![("hard".to_string(), loss.hard), ("soft".to_string(), loss.soft)];
        Ok(Some(Loss { total: loss.total, terms }))
    }
}
