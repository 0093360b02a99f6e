//! Divergences other than Hinton's between the tempered distributions of teacher and student. The losses are kernels with fixtures of
//! their own: [`Tensor::reverse_kl`](crate::Tensor::reverse_kl) and [`Tensor::jsd_generalized`](crate::Tensor::jsd_generalized).

use super::info::{Family, Hyperparameter, MethodInfo, Needs};
use super::{Loss, Method, Scheduled, StepInputs};
use crate::error::Result;

const TEMPERATURE: Hyperparameter = Hyperparameter::temperature(1.0, "T of both distributions");

/// Gu et al., "MiniLLM", 2024, eq. 1.
pub(super) static REVERSE_KL: MethodInfo = MethodInfo {
    name: "reverse-kl",
    paper: "Gu et al. 2024 (MiniLLM)",
    family: Family::Response,
    about: "the divergence the other way round: seek a mode of the teacher, not its mean",
    formula: "T² · KL(softmax(z_s/T) ‖ softmax(z_t/T))",
    needs: Needs::LOGITS,
    weight: 0.5,
    hard_weight: 0.5,
    cost: 1.2,
    when: "For generative students too small to cover all that the teacher might say.",
    traps: &[
        "It is blind to classes on which the student has put no probability yet; classifiers gain little from it.",
    ],
    hyperparameters: &[TEMPERATURE],
    build: |setup| Ok(Box::new(ReverseKl { temperature: setup.settings.scheduled("temperature") })),
    specs: &[],
};

/// Agarwal et al., "On-Policy Distillation of Language Models" (GKD), 2024, eq. 1.
pub(super) static JSD: MethodInfo = MethodInfo {
    name: "jsd",
    paper: "Agarwal et al. 2024 (GKD)",
    family: Family::Response,
    about: "generalised Jensen–Shannon divergence, between both directions",
    formula: "β · KL(p_t ‖ m) + (1 − β) · KL(p_s ‖ m), m = β · p_t + (1 − β) · p_s",
    needs: Needs::LOGITS,
    weight: 0.5,
    hard_weight: 0.5,
    cost: 1.2,
    when: "Between hinton (β near 0) and reverse-kl (β near 1), and bounded where both can explode.",
    traps: &["There is no T² in it: at a high temperature its gradient is small."],
    hyperparameters: &[
        Hyperparameter::between("beta", [0.0, 1.0], 0.5, "the teacher's share of the mixture; 0 and 1 make the loss 0"),
        TEMPERATURE,
    ],
    build: |setup| {
        let number = |name| setup.settings.number(name);
        Ok(Box::new(Jsd { beta: number("beta"), temperature: setup.settings.scheduled("temperature") }))
    },
    specs: &[],
};

struct ReverseKl {
    temperature: Scheduled,
}

impl Method for ReverseKl {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let teacher = inputs.teacher_logits()?;
        Ok(Loss::single(REVERSE_KL.name, inputs.student_logits.reverse_kl(teacher, inputs.now(self.temperature))?))
    }
}

struct Jsd {
    beta: f64,
    temperature: Scheduled,
}

impl Method for Jsd {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let teacher = inputs.teacher_logits()?;
        Ok(Loss::single(
            JSD.name,
            inputs.student_logits.jsd_generalized(teacher, inputs.now(self.temperature), self.beta)?,
        ))
    }
}
