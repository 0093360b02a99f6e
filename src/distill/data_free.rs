//! Losses of images that are made from a teacher alone: confident answers, smooth pixels, and statistics like those of its training
//! (Yin et al., "Dreaming to Distill" (DeepInversion), 2020, eqs. 3 and 4).

use super::math::root;
use crate::error::{Error, Result};
use crate::ops::case::{sample_extent, sample_normal, sample_positive};
use crate::ops::{Case, OpSpec};
use crate::tensor::Tensor;

/// `mean over samples of −Σ p log(p + eps)`, `p = softmax(z)`: low where the network is sure.
///
/// # Errors
/// Not logits `[n, classes]`.
pub fn entropy(logits: &Tensor, eps: f64) -> Result<Tensor> {
    let p = logits.softmax(1.0)?;
    p.mul(&p.affine(1.0, eps)?.log()?)?.sum(&[1], false)?.mean_all()?.affine(-1.0, 0.0)
}

/// `Σ |∂x|` over both directions of images `[n, c, h, w]`: low where pixels are like their neighbours.
///
/// # Errors
/// Not images of at least 2×2 pixels.
pub fn total_variation(images: &Tensor) -> Result<Tensor> {
    let [_, _, h, w] = images.shape()[..] else {
        let found = format!("{:?}", images.shape());
        return Err(Error::Shape { op: "total_variation", arg: "images", expected: "[n, c, h, w]".to_string(), found });
    };
    let steps = |dim: usize, extent: usize| {
        let len = extent.saturating_sub(1);
        images.narrow(dim, extent - len, len)?.sub(&images.narrow(dim, 0, len)?)?.abs()?.sum_all()
    };
    steps(2, h)?.add(&steps(3, w)?)
}

/// `‖mean − running_mean‖₂ + ‖var − running_var‖₂` over the channels of `[n, c, h, w]`, with the biased variance.
///
/// # Errors
/// Shapes that do not fit.
pub fn statistics_distance(x: &Tensor, running_mean: &Tensor, running_var: &Tensor) -> Result<Tensor> {
    let mean = x.mean(&[0, 2, 3], true)?;
    let var = x.sub(&mean)?.square()?.mean(&[0, 2, 3], false)?;
    let distance = |a: &Tensor, b: &Tensor| root(&a.sub(&b.detach())?.square()?.sum_all()?);
    distance(&mean.flatten(0)?, running_mean)?.add(&distance(&var, running_var)?)
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "entropy_tv",
        run: |case| {
            case.require("teacher", "linear(flatten(x))")?;
            let x = case.tensor("x")?;
            let logits =
                x.flatten(1)?.linear(&case.tensor("weight")?.detach(), Some(&case.tensor("bias")?.detach()))?;
            let (entropy, tv) = (entropy(&logits, case.number("eps")?)?, total_variation(&x)?);
            let total = entropy.add(&tv.affine(case.number("tv_weight")?, 0.0)?)?;
            Ok(vec![("entropy", entropy.detach()), ("tv", tv.detach()), ("total", total)])
        },
        sample: Some(|random| {
            let [n, c] = [(); 2].map(|()| sample_extent(random, 1, 2));
            Case::new()
                .input("x", sample_normal(random, &[n, c, 3, 3]))
                .input("weight", sample_normal(random, &[4, 9 * c]))
                .input("bias", sample_normal(random, &[4]))
                .attr("teacher", "linear(flatten(x))")
                .attr("eps", 1e-8)
                .attr("tv_weight", 0.1)
                .attr("detached", vec!["weight", "bias"])
        }),
    },
    OpSpec {
        name: "bn_statistics",
        run: |case| {
            case.require("variance", "biased")?;
            let (mean, var) = (case.tensor("running_mean")?, case.tensor("running_var")?);
            Ok(vec![("loss", statistics_distance(&case.tensor("x")?, &mean, &var)?)])
        },
        sample: Some(|random| {
            let c = sample_extent(random, 1, 3);
            Case::new()
                .input("x", sample_normal(random, &[3, c, 2, 2]))
                .input("running_mean", sample_normal(random, &[c]))
                .input("running_var", sample_positive(random, &[c]))
                .attr("variance", "biased")
                .attr("detached", vec!["running_mean", "running_var"])
        }),
    },
];
