//! Peng et al., "Correlation Congruence for Knowledge Distillation", 2019: the matrices of a Gaussian kernel between samples agree.
//! With features of length 1 the kernel is `exp(−γ‖f_i − f_j‖²) = e^{−2γ} e^{2γ f_i·f_j}`, whose exponential the paper expands (eq. 9):
//! `K = Σ_{p ≤ P} e^{−2γ} (2γ)^p / p! · (f̂ f̂ᵀ)^p`, elementwise powers, and `L = mean (K_s − K_t)²` (eq. 4).

use super::cases::vectors;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::{rows, unit_vectors};
use super::pairwise::Pairwise;
use crate::error::Result;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "cc",
    paper: "Peng et al. 2019",
    family: Family::Relation,
    about: "a Gaussian kernel between samples, the same for both networks",
    formula: "mean (K_s − K_t)², K = Σ_{p ≤ P} e^{−2γ} (2γ)^p / p! · (f̂ f̂ᵀ)^p",
    needs: Needs::features(Taps::Penultimate),
    weight: 0.02,
    hard_weight: 1.0,
    cost: 1.3,
    when: "As a mild addition to hinton.",
    traps: &[
        "RepDistiller's loss of this name is another one, supplied by the authors; its weight 0.02 is kept.",
        "Some texts call contrastive distillation (crd) by this name.",
    ],
    hyperparameters: &[
        Hyperparameter::above("gamma", 0.0, 0.4, "γ of the kernel"),
        Hyperparameter::count("order", [1, 16], 2, "P, how far the exponential is expanded"),
    ],
    build: |setup| {
        let (gamma, order) = (setup.settings.number("gamma"), setup.settings.count("order"));
        Ok(Pairwise::boxed(INFO.name, setup, move |s, t| correlation_congruence(s, t, gamma, order)))
    },
    specs: SPECS,
};

/// The mean squared difference of both kernel matrices.
///
/// # Errors
/// The batches differ.
pub fn correlation_congruence(student: &Tensor, teacher: &Tensor, gamma: f64, order: usize) -> Result<Tensor> {
    let kernel = |x: &Tensor| {
        let cosines = unit_vectors(&rows(x)?)?.gram()?;
        let mut factor = (-2.0 * gamma).exp();
        let mut power = cosines.clone();
        let mut sum = cosines.affine(factor * 2.0 * gamma, factor)?;
        factor *= 2.0 * gamma;
        for p in 2..=order {
            factor *= 2.0 * gamma / p as f64;
            power = power.mul(&cosines)?;
            sum = sum.add(&power.affine(factor, 0.0)?)?;
        }
        Ok::<Tensor, crate::Error>(sum)
    };
    kernel(student)?.mse_loss(&kernel(&teacher.detach())?)
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "correlation_congruence",
    run: |case| {
        let (gamma, order) = (case.number("gamma")?, case.count("taylor_order")?);
        let loss = correlation_congruence(&case.tensor("student")?, &case.tensor("teacher")?, gamma, order)?;
        Ok(vec![("loss", loss)])
    },
    sample: Some(|random| {
        let order = 1 + random.below(3);
        vectors(random).attr("gamma", 0.4).attr("taylor_order", order)
    }),
}];
