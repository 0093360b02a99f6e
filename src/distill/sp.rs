//! Tung & Mori, "Similarity-Preserving Knowledge Distillation", 2019: samples that excite the teacher alike shall excite the student alike.
//! `G = F Fᵀ` of flattened features, each row divided by its length (eqs. 1 and 2), `L = ‖G_s − G_t‖²_F / B²` (eq. 4).
//!
//! The notebook's form divides the features by their lengths instead of the rows of G: the matrix of cosines, which is not the paper's.

use super::cases::vectors;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::{rows, unit_vectors};
use super::pairwise::Pairwise;
use crate::error::Result;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "sp",
    paper: "Tung & Mori 2019",
    family: Family::Relation,
    about: "samples that are alike to the teacher are alike to the student",
    formula: "‖G_s − G_t‖²_F / B², G = F Fᵀ with rows of length 1",
    needs: Needs::features(Taps::LastStage),
    weight: 3000.0,
    hard_weight: 1.0,
    cost: 1.5,
    when: "When the networks' features have nothing in common but the samples: no adapter, any widths.",
    traps: &[
        "It compares the samples of a batch: small batches say little.",
        "The notebook's form is not the paper's.",
    ],
    hyperparameters: &[Hyperparameter::choice(
        "form",
        &["paper", "notebook"],
        "what has length 1: the rows of G, or the features",
    )],
    build: |setup| {
        let loss = if setup.settings.is("form", "notebook") { similarity_of_cosines } else { similarity };
        Ok(Pairwise::boxed(INFO.name, setup, loss))
    },
    specs: SPECS,
};

/// The paper's form.
///
/// # Errors
/// The batches differ.
pub fn similarity(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let relation = |x: &Tensor| unit_vectors(&rows(x)?.gram()?);
    relation(student)?.mse_loss(&relation(&teacher.detach())?)
}

/// The notebook's form.
///
/// # Errors
/// The batches differ.
pub fn similarity_of_cosines(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let relation = |x: &Tensor| unit_vectors(&rows(x)?)?.gram();
    relation(student)?.mse_loss(&relation(&teacher.detach())?)
}

const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "similarity_preserving",
        run: |case| Ok(vec![("loss", similarity(&case.tensor("student")?, &case.tensor("teacher")?)?)]),
        sample: Some(vectors),
    },
    OpSpec {
        name: "similarity_preserving_seed",
        run: |case| Ok(vec![("loss", similarity_of_cosines(&case.tensor("student")?, &case.tensor("teacher")?)?)]),
        sample: Some(vectors),
    },
];
