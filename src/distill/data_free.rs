//! Losses of images that are made from a teacher alone: confident answers, smooth pixels, statistics like those of its training, answers
//! that the student does not share (Yin et al., "Dreaming to Distill" (DeepInversion), 2020, eqs. 3, 4 and 8), and those of generators
//! (Chen et al., "Data-Free Learning of Student Networks" (DAFL), 2019, eqs. 2, 3 and 5; Fang et al., "Data-Free Adversarial
//! Distillation" (DFAD), 2019, eq. 3).

use super::cases::positive;
use super::math::{at_least, root};
use crate::error::{Error, Result};
use crate::ops::case::{sample_away_from_zero, sample_extent, sample_normal, sample_positive};
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
    let (mean, var) = x.channel_moments()?;
    let distance = |a: &Tensor, b: &Tensor| root(&a.sub(&b.detach())?.square()?.sum_all()?);
    distance(&mean, running_mean)?.add(&distance(&var, running_var)?)
}

/// `CE(z, argmax z)`: low where each image is surely of some class (DAFL's one-hot loss).
///
/// # Errors
/// Not logits `[n, classes]`.
pub fn one_hot_loss(logits: &Tensor) -> Result<Tensor> {
    logits.cross_entropy(&logits.detach().argmax()?, 0.0)
}

/// `Σ p̄ log₁₀ p̄`, `p̄` the mean of the batch's softmaxes: low where all classes are equally frequent (DAFL's information entropy loss; the
/// paper has the natural logarithm, its authors' code this one).
///
/// # Errors
/// Not logits `[n, classes]`.
pub fn class_balance_loss(logits: &Tensor) -> Result<Tensor> {
    let mean = logits.softmax(1.0)?.mean(&[0], false)?;
    mean.mul(&at_least(&mean, SMALLEST)?.log()?)?.sum_all()?.affine(std::f64::consts::LOG10_E, 0.0)
}

/// `−mean |f|`: low where the features are excited, as they are by images like those of the training (DAFL's activation loss).
///
/// # Errors
/// None that is to be expected.
pub fn activation_loss(features: &Tensor) -> Result<Tensor> {
    features.abs()?.mean_all()?.affine(-1.0, 0.0)
}

/// `mean |z_s − z_t|` with gradients for both (DFAD's discrepancy: the student makes it small, the generator large).
///
/// # Errors
/// The shapes differ.
pub fn discrepancy(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    student.sub(teacher)?.abs()?.mean_all()
}

/// `1 − JS(softmax(z_t/T), softmax(z_s/T))`, averaged over samples, with gradients for both: low where the student does not yet agree
/// with its teacher (DeepInversion's competition).
///
/// # Errors
/// The shapes differ.
pub fn competition(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    let log = |p: &Tensor| at_least(p, SMALLEST)?.log();
    let (p, q) = (teacher.softmax(temperature)?, student.softmax(temperature)?);
    let log_mean = log(&p.add(&q)?.affine(0.5, 0.0)?)?;
    let divergence = |x: &Tensor| x.mul(&log(x)?.sub(&log_mean)?)?.sum(&[1], false)?.mean_all();
    divergence(&p)?.add(&divergence(&q)?)?.affine(-0.5, 1.0)
}

/// Probabilities below this have no logarithm.
const SMALLEST: f64 = 1e-12;

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
    OpSpec {
        name: "dafl_generator",
        run: |case| {
            let (logits, features) = (case.tensor("logits")?, case.tensor("features")?);
            Ok(vec![
                ("one_hot", one_hot_loss(&logits)?),
                ("class_balance", class_balance_loss(&logits)?),
                ("activation", activation_loss(&features)?),
            ])
        },
        sample: Some(|random| {
            let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 2, 5));
            Case::new()
                .input("logits", sample_normal(random, &[n, classes]))
                .input("features", sample_away_from_zero(random, &[n, 3], 0.1))
        }),
    },
    OpSpec {
        name: "dfad_discrepancy",
        run: |case| Ok(vec![("loss", discrepancy(&case.tensor("student_logits")?, &case.tensor("teacher_logits")?)?)]),
        sample: Some(|random| {
            let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 2, 5));
            let student = sample_normal(random, &[n, classes]);
            let apart = sample_away_from_zero(random, &[n, classes], 0.1);
            let teacher = student.add(&apart).expect("equal shapes");
            Case::new().input("student_logits", student).input("teacher_logits", teacher)
        }),
    },
    OpSpec {
        name: "deep_inversion_competition",
        run: |case| {
            let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
            Ok(vec![("loss", competition(&student, &teacher, case.number("temperature")?)?)])
        },
        sample: Some(|random| {
            let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 2, 5));
            Case::new()
                .input("student_logits", sample_normal(random, &[n, classes]))
                .input("teacher_logits", sample_normal(random, &[n, classes]))
                .attr("temperature", positive(random))
        }),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Device;

    fn logits(z: &[f64], n: usize) -> Tensor {
        Tensor::from_slice(z, [n, z.len() / n], Device::Reference).unwrap()
    }

    #[test]
    fn balance_is_best_where_all_classes_are_equally_frequent() {
        let value = |z: &[f64]| class_balance_loss(&logits(z, 2)).unwrap().item().unwrap();
        assert!((value(&[50.0, 0.0, 0.0, 50.0]) + 2f64.log10()).abs() < 1e-9, "both classes: −log₁₀ 2");
        assert!(value(&[50.0, 0.0, 50.0, 0.0]).abs() < 1e-9, "one class: 0");
    }

    #[test]
    fn competition_is_one_where_they_agree_and_less_where_they_do_not() {
        let value = |s: &[f64]| competition(&logits(s, 1), &logits(&[9.0, 0.0], 1), 1.0).unwrap().item().unwrap();
        assert!((value(&[9.0, 0.0]) - 1.0).abs() < 1e-9);
        assert!((value(&[0.0, 60.0]) - (1.0 - 2f64.ln())).abs() < 1e-2, "{}", value(&[0.0, 60.0]));
    }
}
