//! Losses between the logits of a student and of a teacher, fused: softmax with temperature of both models, a divergence, the
//! cross-entropy with the labels, the weighted sum and its gradient in one kernel.
//!
//! [`Tensor::hinton_kd`] is the loss of Hinton, Vinyals & Dean (2015); [`Tensor::distillation`] has its relatives.

use super::case::{sample_extent, sample_labels, sample_normal, Case, OpSpec};
use super::check;
use super::losses::scaled;
use crate::autograd::{record, Cost};
use crate::backend::params::{Distillation, DistillationInputs, Divergence, HintonKd, IGNORE_INDEX};
use crate::error::{Error, Result};
use crate::tensor::random::Sequence;
use crate::tensor::{DType, Shape, Tensor};

/// The loss and its terms; all scalars.
pub struct DistillationLoss {
    /// `hard_weight · hard + soft_weight · soft`, to differentiate.
    pub total: Tensor,
    /// Cross-entropy with the labels, unweighted, without history; 0 without labels.
    pub hard: Tensor,
    /// The divergence at temperature T, times T² for a Kullback–Leibler divergence, unweighted, without history.
    pub soft: Tensor,
}

impl Tensor {
    /// `hard_weight · CE(z_s, y) + soft_weight · T² · KL(softmax(z_t/T) ‖ softmax(z_s/T))` of these student logits
    /// `[n, classes]`, both terms averaged over samples. The teacher receives no gradient. Samples with label −100 have no
    /// hard term.
    ///
    /// # Errors
    /// T is not above 0, a weight is negative, the shapes differ, or a label is no class.
    pub fn hinton_kd(&self, teacher: &Tensor, labels: &Tensor, p: HintonKd) -> Result<DistillationLoss> {
        self.distillation_loss("hinton_kd", teacher, Some(labels), None, p.into())
    }

    /// As [`Tensor::hinton_kd`] with any [`Divergence`] in place of the Kullback–Leibler divergence. Without `labels` there is no
    /// hard term. `sample_weights: [n]`, 0 or more, weigh the samples: terms are then `Σ weight · term / Σ weight`. Logits may be
    /// `bf16`; the gradient has their type.
    ///
    /// # Errors
    /// T is not above 0, a weight is negative, β is not in [0, 1], the shapes differ, or a label is no class.
    pub fn distillation(
        &self,
        teacher: &Tensor,
        labels: Option<&Tensor>,
        sample_weights: Option<&Tensor>,
        p: Distillation,
    ) -> Result<DistillationLoss> {
        self.distillation_loss("distillation", teacher, labels, sample_weights, p)
    }

    /// `T² · KL(softmax(z_s/T) ‖ softmax(z_t/T))`, averaged over samples: the student is drawn to a mode of the teacher instead of
    /// to its mean (Gu et al. 2024, MiniLLM).
    ///
    /// # Errors
    /// T is not above 0, or the shapes differ.
    pub fn reverse_kl(&self, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
        let p = Distillation::soft_only(Divergence::ReverseKl, temperature);
        Ok(self.distillation_loss("reverse_kl", teacher, None, None, p)?.total)
    }

    /// `β · KL(p ‖ m) + (1 − β) · KL(q ‖ m)` with `p = softmax(z_t/T)`, `q = softmax(z_s/T)` and `m = β·p + (1 − β)·q`, averaged over
    /// samples, without T² (Agarwal et al. 2024, GKD).
    ///
    /// # Errors
    /// T is not above 0, β is not in [0, 1], or the shapes differ.
    pub fn jsd_generalized(&self, teacher: &Tensor, temperature: f64, beta: f64) -> Result<Tensor> {
        let p = Distillation::soft_only(Divergence::JensenShannon { beta }, temperature);
        Ok(self.distillation_loss("jsd_generalized", teacher, None, None, p)?.total)
    }

    fn distillation_loss(
        &self,
        op: &'static str,
        teacher: &Tensor,
        labels: Option<&Tensor>,
        sample_weights: Option<&Tensor>,
        p: Distillation,
    ) -> Result<DistillationLoss> {
        check_arguments(op, self, teacher, labels, sample_weights, &p)?;
        let (student, teacher) = (self.detach(), teacher.detach());
        let inputs = DistillationInputs { student: &student, teacher: &teacher, labels, sample_weights };
        let output = self.backend().distillation(p, inputs)?;
        let gradient = output.grad;
        let cost = Cost::new(14.0 * self.numel() as f64, &[self, &teacher, &gradient]);
        let total = record(op, cost, output.total, &[self], move |dy, _| Ok(vec![Some(scaled(&gradient, dy)?)]))?;
        Ok(DistillationLoss { total, hard: output.hard, soft: output.soft })
    }
}

fn check_arguments(
    op: &'static str,
    student: &Tensor,
    teacher: &Tensor,
    labels: Option<&Tensor>,
    sample_weights: Option<&Tensor>,
    p: &Distillation,
) -> Result<()> {
    check::rank(op, "logits", student, 2, "[n, classes]")?;
    if student.dtype() != DType::BF16 {
        check::float(op, "logits", student)?;
    }
    check::dtype(op, "teacher_logits", teacher, student.dtype())?;
    check::same_device(op, student, teacher)?;
    check::shape(op, "teacher_logits", teacher, student.shape())?;
    if let Some(labels) = labels {
        check::labels(op, student, labels, IGNORE_INDEX)?;
    }
    if let Some(weights) = sample_weights {
        let expected = if student.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        check::dtype(op, "sample_weights", weights, expected)?;
        check::same_device(op, student, weights)?;
        check::shape(op, "sample_weights", weights, &Shape::from([student.shape()[0]]))?;
    }
    check::temperature(op, p.temperature)?;
    for (name, weight) in [("hard_weight", p.hard_weight), ("soft_weight", p.soft_weight)] {
        if !(weight >= 0.0 && weight.is_finite()) {
            return Err(Error::argument(op, format!("{name} must be 0 or more, found {weight}")));
        }
    }
    match p.divergence {
        Divergence::JensenShannon { beta } if !(0.0..=1.0).contains(&beta) => {
            Err(Error::argument(op, format!("beta must be in [0, 1], found {beta}")))
        }
        _ => Ok(()),
    }
}

fn sample_logits(random: &mut Sequence) -> Case {
    let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 1, 6));
    Case::new()
        .input("student_logits", sample_normal(random, &[n, classes]))
        .input("teacher_logits", sample_normal(random, &[n, classes]))
        .attr("temperature", 0.5 + 5.0 * f64::from(random.uniform()))
        .attr("detached", vec!["teacher_logits"])
}

fn sample_with_labels(random: &mut Sequence) -> Case {
    let case = sample_logits(random);
    let shape = *case.inputs()["student_logits"].shape();
    let labels = sample_labels(random, &[shape[0]], shape[1]);
    case.input("labels", labels)
        .attr("hard_weight", f64::from(random.uniform()))
        .attr("soft_weight", f64::from(random.uniform()))
}

fn outputs(loss: DistillationLoss) -> super::Outputs {
    vec![("hard", loss.hard), ("soft", loss.soft), ("total", loss.total)]
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "hinton_kd",
        run: |case| {
            let weights = HintonKd {
                temperature: case.number("temperature")?,
                hard_weight: case.number("hard_weight")?,
                soft_weight: case.number("soft_weight")?,
            };
            let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
            Ok(outputs(student.hinton_kd(&teacher, &case.tensor("labels")?, weights)?))
        },
        sample: Some(sample_with_labels),
    },
    OpSpec {
        name: "distillation_weighted",
        run: |case| {
            let p = Distillation {
                divergence: Divergence::JensenShannon { beta: case.number("beta")? },
                temperature: case.number("temperature")?,
                hard_weight: case.number("hard_weight")?,
                soft_weight: case.number("soft_weight")?,
            };
            let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
            let (labels, weights) = (case.tensor("labels")?, case.tensor("sample_weights")?.detach());
            Ok(outputs(student.distillation(&teacher, Some(&labels), Some(&weights), p)?))
        },
        sample: Some(|random| {
            let case = sample_with_labels(random).attr("beta", f64::from(random.uniform()));
            let n = case.inputs()["labels"].numel();
            let weights = super::case::sample_positive(random, &[n]);
            case.input("sample_weights", weights).attr("detached", vec!["teacher_logits", "sample_weights"])
        }),
    },
    OpSpec {
        name: "reverse_kl",
        run: |case| {
            let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
            Ok(vec![("loss", student.reverse_kl(&teacher, case.number("temperature")?)?)])
        },
        sample: Some(sample_logits),
    },
    OpSpec {
        name: "jsd_generalized",
        run: |case| {
            case.require("mixture", "beta*teacher + (1-beta)*student")?;
            let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
            let loss = student.jsd_generalized(&teacher, case.number("temperature")?, case.number("beta")?)?;
            Ok(vec![("loss", loss)])
        },
        sample: Some(|random| {
            let beta = f64::from(random.uniform());
            sample_logits(random).attr("beta", beta).attr("mixture", "beta*teacher + (1-beta)*student")
        }),
    },
];
