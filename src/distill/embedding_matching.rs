//! Embedding matching between modalities, as CLIP's encoders are distilled (Yang et al., "CLIP-KD: An Empirical Study of CLIP Model
//! Distillation", 2024): the student's embedding, brought to the teacher's width by a trained linear map, points where the teacher's
//! does, and the samples of a batch are as similar to the student as to the teacher:
//! `L = mean (1 − cos(W f_s, f_t)) + similarity · mean over all pairs of (cos_s(i, j) − cos_t(i, j))²`.

use super::adapter::Regressors;
use super::cases::equal_vectors;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps, NON_NEGATIVE};
use super::math::{rows, unit_vectors};
use super::method::plus;
use super::{Loss, Method, StepInputs};
use crate::error::{Error, Result};
use crate::nn::Visitor;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "embedding-matching",
    paper: "Yang et al. 2024 (CLIP-KD)",
    family: Family::Relation,
    about: "across modalities: embeddings that point where the teacher's do, and the same similarities",
    formula: "mean (1 − cos(W f_s, f_t)) + similarity · mean (S_s − S_t)², S the cosines of all pairs in the batch",
    needs: Needs::features(Taps::Penultimate),
    weight: 1.0,
    hard_weight: 1.0,
    cost: 1.3,
    when: "When teacher and student see different modalities of the same thing, or have different tasks: it needs no common classes.",
    traps: &[
        "It compares the samples of a batch: small batches say little.",
        "Features after ReLU all lie in one corner: their cosines are large even for strangers, and the term small.",
    ],
    hyperparameters: &[Hyperparameter::between(
        "similarity",
        NON_NEGATIVE,
        1.0,
        "what the similarity matrices count for beside the embeddings",
    )],
    build: |setup| {
        let similarity = setup.settings.number("similarity");
        Ok(Box::new(EmbeddingMatching {
            regressors: Regressors::new(&mut setup.init, setup.pairs.clone())?,
            similarity,
        }))
    },
    specs: SPECS,
};

/// `mean (1 − cos)` of embeddings `[n, d]`, and the mean squared difference of their cosine matrices `[n, n]`.
///
/// # Errors
/// The shapes differ.
pub fn embedding_losses(student: &Tensor, teacher: &Tensor) -> Result<[Tensor; 2]> {
    let (student, teacher) = (unit_vectors(&rows(student)?)?, unit_vectors(&rows(&teacher.detach())?)?);
    let cosine = student.mul(&teacher)?.sum(&[1], false)?.mean_all()?.affine(-1.0, 1.0)?;
    Ok([cosine, student.gram()?.mse_loss(&teacher.gram()?)?])
}

struct EmbeddingMatching {
    regressors: Regressors,
    similarity: f64,
}

impl Method for EmbeddingMatching {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let (mut cosine, mut similarity) = (None, None);
        for aligned in self.regressors.aligned(inputs) {
            let (mapped, teacher) = aligned?;
            let [a, b] = embedding_losses(&mapped, &teacher)?;
            (cosine, similarity) = (Some(plus(cosine, &a)?), Some(plus(similarity, &b)?));
        }
        match (cosine, similarity) {
            (Some(cosine), Some(similarity)) => {
                Loss::weighted(vec![("cosine", 1.0, cosine), ("similarity", self.similarity, similarity)])
            }
            _ => Err(Error::argument(INFO.name, "there is nothing to compare; name feature maps with student-taps")),
        }
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.regressors.visit(visitor);
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "embedding_matching",
    run: |case| {
        let [cosine, similarity] = embedding_losses(&case.tensor("student")?, &case.tensor("teacher")?)?;
        Ok(vec![("cosine", cosine), ("similarity", similarity)])
    },
    sample: Some(equal_vectors),
}];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Device;

    #[test]
    fn lengths_do_not_matter_and_directions_do() {
        let rows = |x: &[f64]| Tensor::from_slice(x, [2, 2], Device::Reference).unwrap();
        let losses = |student: &[f64]| {
            let teacher = rows(&[1.0, 0.0, 0.0, 1.0]);
            embedding_losses(&rows(student), &teacher).unwrap().map(|loss| loss.item().unwrap())
        };
        assert_eq!(losses(&[3.0, 0.0, 0.0, 0.5]), [0.0, 0.0]);
        // Both students point to the first teacher: one cosine of 0, and two of four pairs off by 1.
        let [cosine, similarity] = losses(&[1.0, 0.0, 2.0, 0.0]);
        assert!((cosine - 0.5).abs() < 1e-12 && (similarity - 0.5).abs() < 1e-12, "{cosine} {similarity}");
    }
}
