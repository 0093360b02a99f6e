//! Passalis & Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", 2018: the probability that sample j is a
//! neighbour of sample i, from cosines (eqs. 4 and 5): `P_ij = K_ij / Σ_j K_ij` with `K = (cos + 1) / 2`;
//! `L = mean P_t · log((P_t + ε) / (P_s + ε))` over all pairs (eq. 7, averaged as in the authors' code).

use super::cases::vectors;
use super::info::{Family, MethodInfo, Needs, Taps};
use super::math::{lengths, rows};
use super::pairwise::Pairwise;
use crate::error::Result;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "pkt",
    paper: "Passalis & Tefas 2018",
    family: Family::Relation,
    about: "who is whose neighbour in the batch, as probabilities",
    formula: "mean P_t · log((P_t + ε) / (P_s + ε)), P = rows of (cos + 1) / 2 with sum 1",
    needs: Needs::features(Taps::Penultimate),
    weight: 30000.0,
    hard_weight: 1.0,
    cost: 1.3,
    when: "As the most reliable of the cheap relational losses: on CIFAR-100 it rarely falls below hinton.",
    traps: &["The mean over pairs of near-equal probabilities is tiny, hence the weight."],
    hyperparameters: &[],
    build: |setup| Ok(Pairwise::boxed(INFO.name, setup, |s, t| probabilistic_transfer(s, t, EPS))),
    specs: SPECS,
};

/// The reference implementation's.
const EPS: f64 = 1e-7;

/// The divergence of both networks' neighbourhoods.
///
/// # Errors
/// The batches differ.
pub fn probabilistic_transfer(student: &Tensor, teacher: &Tensor, eps: f64) -> Result<Tensor> {
    let neighbours = |x: &Tensor| {
        let x = rows(x)?;
        let kernel = x.div(&lengths(&x)?.affine(1.0, eps)?)?.gram()?.affine(0.5, 0.5)?;
        kernel.div(&kernel.sum(&[1], true)?)
    };
    let (p_s, p_t) = (neighbours(student)?, neighbours(&teacher.detach())?);
    let log_ratio = p_t.affine(1.0, eps)?.div(&p_s.affine(1.0, eps)?)?.log()?;
    p_t.mul(&log_ratio)?.mean_all()
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "pkt",
    run: |case| {
        let (student, teacher) = (case.tensor("student")?, case.tensor("teacher")?);
        Ok(vec![("loss", probabilistic_transfer(&student, &teacher, case.number("eps")?)?)])
    },
    sample: Some(|random| vectors(random).attr("eps", EPS)),
}];
