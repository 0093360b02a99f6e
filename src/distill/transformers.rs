//! Losses between the layers of two transformers.
//!
//! DistilBERT (Sanh et al. 2019, section 2): `mean (1 − cos(s_i, t_i))` of hidden states. TinyBERT (Jiao et al. 2020): the mean squared
//! difference of attention scores before softmax (eq. 7) and of hidden states through a projection (eq. 8).

use super::cases::equal_vectors;
use super::math::unit_vectors;
use crate::error::Result;
use crate::ops::case::sample_normal;
use crate::ops::{Case, OpSpec};
use crate::tensor::Tensor;

/// `mean (1 − cos(s_i, t_i))` of vectors along the last dimension.
///
/// # Errors
/// The shapes differ.
pub fn hidden_cosine(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let cosines = unit_vectors(student)?.mul(&unit_vectors(&teacher.detach())?)?;
    cosines.sum(&[student.shape().rank().saturating_sub(1)], false)?.mean_all()?.affine(-1.0, 1.0)
}

/// `mean (s − t)²` of attention scores before softmax, `[n, heads, length, length]`.
///
/// # Errors
/// The shapes differ.
pub fn attention_scores(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    student.mse_loss(&teacher.detach())
}

/// `mean (s Pᵀ − t)²` of hidden states `[n, length, width]` through a projection `[width_t, width_s]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn hidden_states(student: &Tensor, teacher: &Tensor, projection: &Tensor) -> Result<Tensor> {
    student.linear(projection, None)?.mse_loss(&teacher.detach())
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "distilbert_cosine",
        run: |case| Ok(vec![("loss", hidden_cosine(&case.tensor("student")?, &case.tensor("teacher")?)?)]),
        sample: Some(equal_vectors),
    },
    OpSpec {
        name: "tinybert_attention_mse",
        run: |case| {
            case.require("inputs", "attention scores before softmax")?;
            Ok(vec![("loss", attention_scores(&case.tensor("student")?, &case.tensor("teacher")?)?)])
        },
        sample: Some(|random| equal_vectors(random).attr("inputs", "attention scores before softmax")),
    },
    OpSpec {
        name: "tinybert_hidden_mse",
        run: |case| {
            let (student, teacher) = (case.tensor("student")?, case.tensor("teacher")?);
            Ok(vec![("loss", hidden_states(&student, &teacher, &case.tensor("projection")?)?)])
        },
        sample: Some(|random| {
            Case::new()
                .input("student", sample_normal(random, &[2, 3, 2]))
                .input("teacher", sample_normal(random, &[2, 3, 4]))
                .input("projection", sample_normal(random, &[4, 2]))
                .attr("detached", vec!["teacher"])
        }),
    },
];
