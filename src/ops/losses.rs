//! Task losses: scalars to minimise. Means are over samples for classification, over all elements otherwise.

use super::case::{sample_extent, sample_labels, sample_normal, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::backend::params::{Binary, CrossEntropy, IGNORE_INDEX};
use crate::error::{Error, Result};
use crate::tensor::random::Sequence;
use crate::tensor::{Shape, Tensor};

impl Tensor {
    /// Mean cross-entropy of these logits `[n, classes]` with `labels: [n]` (`I32`). Label smoothing ε (Szegedy et al. 2016)
    /// mixes in the mean over classes: `(1−ε)·(−log p_y) + ε·mean(−log p)`. Samples with label −100 do not count.
    ///
    /// # Errors
    /// A label that is no class (the first is named), or ε outside [0, 1].
    pub fn cross_entropy(&self, labels: &Tensor, label_smoothing: f64) -> Result<Tensor> {
        const OP: &str = "cross_entropy";
        check::float(OP, "logits", self)?;
        check::labels(OP, self, labels, IGNORE_INDEX)?;
        if !(0.0..=1.0).contains(&label_smoothing) {
            return Err(Error::argument(OP, format!("label smoothing must be in [0, 1], found {label_smoothing}")));
        }
        let backend = self.backend();
        let (loss, gradient) = backend.cross_entropy(CrossEntropy { label_smoothing }, &self.detach(), labels)?;
        let cost = Cost::new(5.0 * self.numel() as f64, &[self, labels, &gradient]);
        record(OP, cost, loss, &[self], move |dy, _| Ok(vec![Some(scaled(&gradient, dy)?)]))
    }

    /// The mean squared difference. The difference alone is kept for the gradient, which is one more pass over it.
    pub fn mse_loss(&self, target: &Tensor) -> Result<Tensor> {
        const OP: &str = "mse_loss";
        check::alike(OP, self, "target", target)?;
        check::shape(OP, "target", target, self.shape())?;
        let (backend, count) = (self.backend(), self.numel().max(1) as f64);
        let difference = backend.binary(Binary::Sub, &self.detach(), &target.detach())?;
        let loss = match self.device().is_host() {
            true => backend.full(&Shape::SCALAR, backend.sum_of_squares(&[&difference])? / count, self.dtype())?,
            // To look at a sum would be to wait for the device.
            false => difference.square()?.mean_all()?,
        };
        let cost = Cost::new(3.0 * count, &[self, target, &difference]);
        let needs_target = target.is_tracked();
        record(OP, cost, loss, &[self, target], move |dy, _| {
            let gradient = scaled_by(&difference, 2.0 / count, dy)?;
            let of_target = needs_target.then(|| backend.affine(&gradient, -1.0, 0.0)).transpose()?;
            Ok(vec![Some(gradient), of_target])
        })
    }

    /// The mean of `½d²/β` where `|d| < β`, else `|d| − β/2` (Girshick 2015), with `β > 0`.
    pub fn smooth_l1_loss(&self, target: &Tensor, beta: f64) -> Result<Tensor> {
        const OP: &str = "smooth_l1_loss";
        check::shape(OP, "target", target, self.shape())?;
        if !(beta > 0.0 && beta.is_finite()) {
            return Err(Error::argument(OP, format!("beta must be above 0, found {beta}")));
        }
        // With d = |input − target| and q = min(d, β), the loss is q·(d − q/2)/β.
        let d = self.sub(target)?.abs()?;
        let q = d.sub(&d.affine(1.0, -beta)?.relu()?)?;
        q.mul(&d.sub(&q.affine(0.5, 0.0)?)?)?.affine(1.0 / beta, 0.0)?.mean_all()
    }

    /// Mean binary cross-entropy of these logits with targets t in [0, 1]: `−t·log σ(z) − (1−t)·log σ(−z)`.
    pub fn bce_with_logits(&self, target: &Tensor) -> Result<Tensor> {
        check::shape("bce_with_logits", "target", target, self.shape())?;
        let n = self.numel();
        let zeros = Tensor::zeros([n, 1], self.dtype(), self.device())?;
        // The log-softmax of (z, 0) is (log σ(z), log σ(−z)), stable for any z.
        let log_p = Tensor::concat(&[&self.reshape([n, 1])?, &zeros], 1)?.log_softmax(1.0)?;
        let target = target.reshape([n, 1])?;
        let targets = Tensor::concat(&[&target, &target.affine(-1.0, 1.0)?], 1)?;
        log_p.mul(&targets)?.sum_all()?.affine(-1.0 / n.max(1) as f64, 0.0)
    }

    /// `Σ p (log p − log q) / n` for these log-probabilities `log q: [n, …]` and probabilities `p`; 0 · log 0 is 0.
    pub fn kl_div_batchmean(&self, p: &Tensor) -> Result<Tensor> {
        const OP: &str = "kl_div_batchmean";
        check::dim(OP, self, 0)?;
        check::shape(OP, "p", p, self.shape())?;
        let batch = self.shape()[0].max(1) as f64;
        // The logarithm of max(p, tiny): finite where p is 0, and exact everywhere else.
        let p = p.detach();
        let log_p = p.affine(1.0, -TINY)?.relu()?.affine(1.0, TINY)?.log()?;
        p.mul(&log_p.sub(self)?)?.sum_all()?.affine(1.0 / batch, 0.0)
    }
}

/// Below every probability that `f32` arithmetic produces, above 0.
const TINY: f64 = 1e-37;

/// A gradient that was computed in the forward pass, times the gradient of the loss itself.
pub(super) fn scaled(gradient: &Tensor, dy: &Tensor) -> Result<Tensor> {
    scaled_by(gradient, 1.0, dy)
}

/// `factor · dy · x` for a scalar `dy`, in one pass where `dy` can be looked at.
pub(super) fn scaled_by(x: &Tensor, factor: f64, dy: &Tensor) -> Result<Tensor> {
    let times = |factor: f64| match factor {
        1.0 => Ok(x.clone()),
        factor => x.backend().affine(x, factor, 0.0),
    };
    match dy.device().is_host() {
        true => times(factor * dy.item()?),
        // To look at `dy` would be to wait for the device.
        false => x.backend().binary(Binary::Mul, &times(factor)?, dy),
    }
}

fn sample_pair(random: &mut Sequence, names: [&str; 2]) -> Case {
    let dims = [sample_extent(random, 1, 3), sample_extent(random, 1, 4)];
    let (a, b) = (sample_normal(random, &dims), sample_normal(random, &dims));
    Case::new().input(names[0], a).input(names[1], b)
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "cross_entropy",
        run: |case| {
            let loss =
                case.tensor("logits")?.cross_entropy(&case.tensor("labels")?, case.number("label_smoothing")?)?;
            Ok(vec![("loss", loss)])
        },
        sample: Some(|random| {
            let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 1, 6));
            Case::new()
                .input("logits", sample_normal(random, &[n, classes]))
                .input("labels", sample_labels(random, &[n], classes))
                .attr("label_smoothing", f64::from(random.uniform_in(0.0, 0.3)))
        }),
    },
    OpSpec {
        name: "mse_loss",
        run: |case| Ok(vec![("loss", case.tensor("input")?.mse_loss(&case.tensor("target")?.detach())?)]),
        sample: Some(|random| sample_pair(random, ["input", "target"]).attr("detached", vec!["target"])),
    },
    OpSpec {
        name: "smooth_l1_loss",
        run: |case| {
            let loss = case.tensor("input")?.smooth_l1_loss(&case.tensor("target")?.detach(), case.number("beta")?)?;
            Ok(vec![("loss", loss)])
        },
        sample: Some(|random| {
            let beta = f64::from(random.uniform_in(0.3, 2.0));
            sample_pair(random, ["input", "target"]).attr("detached", vec!["target"]).attr("beta", beta)
        }),
    },
    OpSpec {
        name: "bce_with_logits",
        run: |case| Ok(vec![("loss", case.tensor("logits")?.bce_with_logits(&case.tensor("target")?.detach())?)]),
        sample: Some(|random| sample_pair(random, ["logits", "target"]).attr("detached", vec!["target"])),
    },
    OpSpec {
        name: "kl_div_batchmean",
        run: |case| Ok(vec![("loss", case.tensor("log_q")?.kl_div_batchmean(&case.tensor("p")?)?)]),
        sample: Some(|random| {
            let case = sample_pair(random, ["log_q", "p"]).attr("detached", vec!["p"]);
            let p = case.inputs()["p"].softmax(1.0).expect("a valid sample");
            case.input("p", p)
        }),
    },
];
