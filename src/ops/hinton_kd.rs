//! The distillation loss of Hinton, Vinyals & Dean (2015), fused: softmax with temperature of both models, Kullback–Leibler
//! divergence, cross-entropy, the weighted sum and its gradient in one pass over the logits.

use super::case::{sample_extent, sample_labels, sample_normal, Case, OpSpec};
use super::check;
use super::losses::scaled;
use crate::autograd::{record, Cost};
use crate::backend::params::{HintonKd, IGNORE_INDEX};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The loss and its terms; all scalars.
pub struct HintonKdLoss {
    /// `hard_weight · hard + soft_weight · soft`, to differentiate.
    pub total: Tensor,
    /// Cross-entropy with the labels, unweighted, without history.
    pub hard: Tensor,
    /// `T² · KL(teacher ‖ student)` at temperature T, unweighted, without history.
    pub soft: Tensor,
}

impl Tensor {
    /// `hard_weight · CE(z_s, y) + soft_weight · T² · KL(softmax(z_t/T) ‖ softmax(z_s/T))` of these student logits
    /// `[n, classes]`, both terms averaged over samples. The teacher receives no gradient. Samples with label −100 have no
    /// hard term.
    ///
    /// # Errors
    /// T is not above 0, a weight is negative, the shapes differ, or a label is no class.
    pub fn hinton_kd(&self, teacher: &Tensor, labels: &Tensor, p: HintonKd) -> Result<HintonKdLoss> {
        const OP: &str = "hinton_kd";
        check::labels(OP, self, labels, IGNORE_INDEX)?;
        check::alike(OP, self, "teacher_logits", teacher)?;
        check::shape(OP, "teacher_logits", teacher, self.shape())?;
        check::temperature(OP, p.temperature)?;
        for (name, weight) in [("hard_weight", p.hard_weight), ("soft_weight", p.soft_weight)] {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Error::argument(OP, format!("{name} must be 0 or more, found {weight}")));
            }
        }
        let output = self.backend().hinton_kd(p, &self.detach(), &teacher.detach(), labels)?;
        let gradient = output.grad;
        let cost = Cost::new(14.0 * self.numel() as f64, &[self, teacher, labels, &gradient]);
        let total = record(OP, cost, output.total, &[self], move |dy, _| Ok(vec![Some(scaled(&gradient, dy)?)]))?;
        Ok(HintonKdLoss { total, hard: output.hard, soft: output.soft })
    }
}

pub(super) const SPECS: &[OpSpec] = &[OpSpec {
    name: "hinton_kd",
    run: |case| {
        let weights = HintonKd {
            temperature: case.number("temperature")?,
            hard_weight: case.number("hard_weight")?,
            soft_weight: case.number("soft_weight")?,
        };
        let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
        let loss = student.hinton_kd(&teacher, &case.tensor("labels")?, weights)?;
        Ok(vec![("hard", loss.hard), ("soft", loss.soft), ("total", loss.total)])
    },
    sample: Some(|random| {
        let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 1, 6));
        let mut weight = || f64::from(random.uniform_in(0.0, 1.0));
        let (hard, soft, t) = (weight(), weight(), 0.5 + 5.0 * weight());
        Case::new()
            .input("student_logits", sample_normal(random, &[n, classes]))
            .input("teacher_logits", sample_normal(random, &[n, classes]))
            .input("labels", sample_labels(random, &[n], classes))
            .attr("temperature", t)
            .attr("hard_weight", hard)
            .attr("soft_weight", soft)
            .attr("detached", vec!["teacher_logits"])
    }),
}];
