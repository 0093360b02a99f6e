//! What several teachers say together: their logits, averaged class by class. Averaged logits do not depend on the temperature, so that
//! they are computed once for all of them; the average of softened probabilities (You et al. 2017), or of the losses from each teacher,
//! is another number.

use super::math::one_hot;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// How much each teacher counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Combine {
    /// One weight for each teacher, the same for all samples; divided by their sum.
    Weighted(Vec<f64>),
    /// For each sample, teachers that are sure of the right class count more (Zhang, Chen & Wang, CA-MKD, 2022, eq. 5):
    /// `w_k = (1 − softmax_k(CE_k)) / (K − 1)`.
    Confidence,
}

/// The combined logits `[n, classes]` of two or more teachers, without history.
///
/// # Errors
/// Fewer than two teachers, as many weights as there are not teachers, weights that are negative or sum to 0, or shapes that differ.
pub fn combine_logits(logits: &[Tensor], labels: &Tensor, how: &Combine) -> Result<Tensor> {
    if logits.len() < 2 {
        return Err(Error::argument("teachers", format!("{} is no committee; give at least 2", logits.len())));
    }
    let logits: Vec<Tensor> = logits.iter().map(Tensor::detach).collect();
    let mut weighted = Vec::new();
    match how {
        Combine::Weighted(weights) => {
            let sum: f64 = weights.iter().sum();
            if weights.len() != logits.len() || !weights.iter().all(|w| *w >= 0.0) || !(sum > 0.0 && sum.is_finite()) {
                let reason = format!("must be {} numbers of 0 or more, not all 0, found {weights:?}", logits.len());
                return Err(Error::argument("weights", reason));
            }
            for (logits, weight) in logits.iter().zip(weights) {
                weighted.push(logits.affine(weight / sum, 0.0)?);
            }
        }
        Combine::Confidence => {
            let errors = logits.iter().map(|logits| cross_entropies(logits, labels)).collect::<Result<Vec<_>>>()?;
            let unsure = Tensor::concat(&errors.iter().collect::<Vec<_>>(), 1)?.softmax(1.0)?;
            let scale = 1.0 / (logits.len() - 1) as f64;
            let weights = unsure.affine(-scale, scale)?;
            for (k, logits) in logits.iter().enumerate() {
                weighted.push(logits.mul(&weights.narrow(1, k, 1)?)?);
            }
        }
    }
    weighted.iter().skip(1).try_fold(weighted[0].clone(), |sum, x| sum.add(x))
}

/// The cross-entropy of each sample with its label, `[n, 1]`.
fn cross_entropies(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let right = one_hot(labels, logits.shape()[1], logits)?;
    logits.log_softmax(1.0)?.mul(&right)?.sum(&[1], true)?.affine(-1.0, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Device;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, [values.len() / 2, 2], Device::Cpu).unwrap()
    }

    #[test]
    fn weights_are_relative_and_confidence_is_judged_sample_by_sample() {
        // The first teacher is right about the first sample, the second about the second.
        let teachers = [tensor(&[4.0, 0.0, 4.0, 0.0]), tensor(&[0.0, 2.0, 0.0, 2.0])];
        let labels = Tensor::from_slice(&[0, 1], [2], Device::Cpu).unwrap();
        let combined = |how| combine_logits(&teachers, &labels, &how).unwrap().to_f64_vec().unwrap();
        assert_eq!(combined(Combine::Weighted(vec![1.0, 1.0])), [2.0, 1.0, 2.0, 1.0]);
        assert_eq!(combined(Combine::Weighted(vec![3.0, 1.0])), [3.0, 0.5, 3.0, 0.5]);
        let confident = combined(Combine::Confidence);
        // w_1 = 1 − softmax(CE)_1, and CE = ln(1 + e^∓z).
        let ce = [(1.0 + (-4f64).exp()).ln(), (1.0 + 2f64.exp()).ln()];
        let w = 1.0 - ce[0].exp() / (ce[0].exp() + ce[1].exp());
        assert!(
            (confident[0] - 4.0 * w).abs() < 1e-5 && (confident[1] - 2.0 * (1.0 - w)).abs() < 1e-5,
            "{confident:?}"
        );
        assert!(confident[0] > confident[1] && confident[2] < confident[3], "each is believed where it is right");
    }

    #[test]
    fn what_is_no_committee_is_refused() {
        let labels = Tensor::from_slice(&[0], [1], Device::Cpu).unwrap();
        let two = [tensor(&[1.0, 0.0]), tensor(&[0.0, 1.0])];
        assert!(combine_logits(&two[..1], &labels, &Combine::Confidence).is_err());
        for weights in [vec![1.0], vec![0.0, 0.0], vec![-1.0, 2.0]] {
            assert!(combine_logits(&two, &labels, &Combine::Weighted(weights)).is_err());
        }
    }
}
