//! Huang & Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017: the distributions of channel activation
//! patterns agree, measured by the maximum mean discrepancy (eq. 5) with the polynomial kernel k(x, y) = (xᵀy)² (section 4.1):
//! `L = k(t,t) + k(s,s) − 2 k(s,t)`, `k(a,b)` the mean over samples and pairs of channels of `⟨a_i, b_j⟩²`, channels flattened and of
//! length 1.
//!
//! The pairs of channels of a whole batch are B·C² numbers; they are computed for a few samples at a time.

use super::cases::maps;
use super::info::{Family, MethodInfo, Needs, Taps};
use super::math::{same_size, unit_vectors};
use super::pairwise::Pairwise;
use crate::error::Result;
use crate::ops::{sum_of_tiles, OpSpec};
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "nst",
    paper: "Huang & Wang 2017",
    family: Family::Feature,
    about: "the distribution of channels' activation patterns",
    formula: "k(t,t) + k(s,s) − 2 k(s,t), k the mean of ⟨a_i, b_j⟩² over pairs of channels of length 1",
    needs: Needs::features(Taps::LastStage),
    weight: 50.0,
    hard_weight: 1.0,
    cost: 2.9,
    when: "When channels of both networks see the same positions, however many channels there are.",
    traps: &["Work grows with the square of the channels: keep to late stages."],
    hyperparameters: &[],
    build: |setup| {
        setup.pairs.iter().try_for_each(|pair| pair.require_maps(INFO.name))?;
        Ok(Pairwise::boxed(INFO.name, setup, selectivity))
    },
    specs: SPECS,
};

/// Pairs of channels that exist at a time.
const TILE: usize = 1 << 21;

/// The squared maximum mean discrepancy of both networks' channels; maps of two sizes are first brought to the smaller.
///
/// # Errors
/// Not feature maps, or the batches differ.
pub fn selectivity(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (student, teacher) = same_size(student, &teacher.detach())?;
    let channels = |x: &Tensor| unit_vectors(&x.flatten(2)?);
    let (student, teacher) = (channels(&student)?, channels(&teacher)?);
    let (n, most) = (student.shape()[0], student.shape()[1].max(teacher.shape()[1]));
    sum_of_tiles("nst", &student, n, TILE / (most * most).max(1), |student, range| {
        let [s, t] = [student, &teacher].map(|x| x.narrow(0, range.start, range.len()));
        let (s, t) = (s?, t?);
        let kernel = |a: &Tensor, b: &Tensor| a.matmul_transposed(b)?.square()?.mean_all();
        let share = range.len() as f64 / n as f64;
        kernel(&t, &t)?.add(&kernel(&s, &s)?)?.sub(&kernel(&s, &t)?.affine(2.0, 0.0)?)?.affine(share, 0.0)
    })
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "nst",
    run: |case| {
        case.require("kernel", "polynomial, degree 2, c=0")?;
        Ok(vec![("loss", selectivity(&case.tensor("student")?, &case.tensor("teacher")?)?)])
    },
    sample: Some(|random| maps(random, [2, 3], [3, 3]).attr("kernel", "polynomial, degree 2, c=0")),
}];
