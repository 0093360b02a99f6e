//! Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7: part of the target is spread evenly over the
//! classes, `L = CE(z_s, (1 − ε) · y + ε / C)`. There is no teacher: what distillation gains beyond smoother targets is what it gains over this
//! (Müller, Kornblith & Hinton 2019). The kernel, [`Tensor::cross_entropy`](crate::Tensor::cross_entropy), has its fixtures beside it.

use super::info::{Family, Hyperparameter, MethodInfo, Needs};
use super::{Loss, Method, StepInputs};
use crate::error::Result;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "label-smoothing",
    paper: "Szegedy et al. 2016",
    family: Family::Baseline,
    about: "labels that are never quite sure; a control without a teacher",
    formula: "(1 − ε) · CE(z_s, y) + ε · mean_c −log p_s[c]",
    needs: Needs { labels: true, ..Needs::NOTHING },
    weight: 1.0,
    hard_weight: 0.0,
    cost: 1.0,
    when: "As the control: a teacher that does not beat it teaches no more than that no answer is certain.",
    traps: &["A teacher that was trained with it teaches worse: its answers no longer say which classes are alike."],
    hyperparameters: &[Hyperparameter::between(
        "epsilon",
        [0.0, 1.0],
        0.1,
        "ε, the part that is spread over all classes",
    )],
    build: |setup| Ok(Box::new(LabelSmoothing { epsilon: setup.settings.number("epsilon") })),
    specs: &[],
};

struct LabelSmoothing {
    epsilon: f64,
}

impl Method for LabelSmoothing {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        Ok(Loss::single(INFO.name, inputs.student_logits.cross_entropy(inputs.labels, self.epsilon)?))
    }
}
