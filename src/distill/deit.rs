//! Touvron et al., "Training data-efficient image transformers & distillation through attention" (DeiT), 2021. A network with two heads
//! learns the labels with one and the teacher with the other:
//! hard (eq. 3) `½ CE(cls, y) + ½ CE(dist, argmax z_t)`, soft (eq. 2) `(1−λ) CE(cls, y) + λ T² KL(softmax(z_t/T) ‖ softmax(dist/T))`.
//!
//! A student that has a tap `distillation` has a second head there. One that has not learns both with its only head, which the paper
//! calls distillation without a token (its table 3).

use super::info::{Family, Hyperparameter, MethodInfo, Needs};
use super::math::soft_targets;
use super::{Loss, Method, Scheduled, StepInputs};
use crate::error::Result;
use crate::ops::case::{sample_extent, sample_labels, sample_normal};
use crate::ops::{Case, OpSpec};
use crate::tensor::random::Sequence;
use crate::tensor::Tensor;

pub(super) static HARD: MethodInfo = MethodInfo {
    name: "deit-hard",
    paper: "Touvron et al. 2021",
    family: Family::Response,
    about: "the teacher's decision as a second label",
    formula: "CE(dist, argmax z_t), beside CE(cls, y); half each",
    needs: Needs::LOGITS,
    weight: 0.5,
    hard_weight: 0.5,
    cost: 1.2,
    when: "For vision transformers with a distillation token, and whenever the teacher's probabilities cannot be had.",
    traps: &["With two heads, average both at test time.", "The teacher's doubt is lost: hinton keeps it."],
    hyperparameters: &[],
    build: |_| Ok(Box::new(Hard)),
    specs: HARD_SPECS,
};

pub(super) static SOFT: MethodInfo = MethodInfo {
    name: "deit-soft",
    paper: "Touvron et al. 2021",
    family: Family::Response,
    about: "hinton's divergence on a second head",
    formula: "T² · KL(softmax(z_t/T) ‖ softmax(dist/T)), beside CE(cls, y); λ = 0.1 and 0.9",
    needs: Needs::LOGITS,
    weight: 0.1,
    hard_weight: 0.9,
    cost: 1.2,
    when: "As the softer variant of deit-hard, which the paper found better.",
    traps: &[
        "The reference code divides by samples × classes where the paper averages over samples; this is the paper.",
    ],
    hyperparameters: &[Hyperparameter::temperature(3.0, "T of both distributions")],
    build: |setup| Ok(Box::new(Soft { temperature: setup.settings.scheduled("temperature") })),
    specs: SOFT_SPECS,
};

/// Cross-entropy of a head with the class that the teacher would choose.
///
/// # Errors
/// The shapes differ.
pub fn teacher_decision(head: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    head.cross_entropy(&teacher.argmax()?, 0.0)
}

/// The second head, if the student has one, else the only one.
fn head<'a>(inputs: &StepInputs<'a>) -> &'a Tensor {
    inputs.student_features.get("distillation").unwrap_or(inputs.student_logits)
}

struct Hard;

impl Method for Hard {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        Ok(Loss::single(HARD.name, teacher_decision(head(inputs), inputs.teacher_logits()?)?))
    }
}

struct Soft {
    temperature: Scheduled,
}

impl Method for Soft {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        Ok(Loss::single(SOFT.name, soft_targets(head(inputs), inputs.teacher_logits()?, inputs.now(self.temperature))?))
    }
}

fn two_heads(random: &mut Sequence) -> Case {
    let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 2, 6));
    Case::new()
        .input("cls_logits", sample_normal(random, &[n, classes]))
        .input("dist_logits", sample_normal(random, &[n, classes]))
        .input("teacher_logits", sample_normal(random, &[n, classes]))
        .input("labels", sample_labels(random, &[n], classes))
        .attr("detached", vec!["teacher_logits"])
}

/// `(1 − share) · CE(cls, y) + share · second`.
fn beside_labels(case: &Case, share: f64, second: &Tensor) -> Result<Tensor> {
    let labels = case.tensor("cls_logits")?.cross_entropy(&case.tensor("labels")?, 0.0)?;
    labels.affine(1.0 - share, 0.0)?.add(&second.affine(share, 0.0)?)
}

const HARD_SPECS: &[OpSpec] = &[OpSpec {
    name: "deit_hard",
    run: |case| {
        let second = teacher_decision(&case.tensor("dist_logits")?, &case.tensor("teacher_logits")?)?;
        Ok(vec![("loss", beside_labels(case, 0.5, &second)?)])
    },
    sample: Some(two_heads),
}];

const SOFT_SPECS: &[OpSpec] = &[OpSpec {
    name: "deit_soft",
    run: |case| {
        let teacher = case.tensor("teacher_logits")?;
        let second = soft_targets(&case.tensor("dist_logits")?, &teacher, case.number("temperature")?)?;
        Ok(vec![("loss", beside_labels(case, case.number("lambda")?, &second)?)])
    },
    sample: Some(|random| two_heads(random).attr("temperature", 3.0).attr("lambda", 0.1)),
}];
