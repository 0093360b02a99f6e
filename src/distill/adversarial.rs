//! Losses of a student against a discriminator that tells its outputs from the teacher's (Goodfellow et al. 2014):
//! `L = CE + α · T² · KL + β · BCE(discriminator(student), 1)` for the student, and for the discriminator
//! `½ BCE(teacher's, 1) + ½ BCE(student's, 0)`.

use super::cases::{labelled_logits, positive};
use super::math::soft_targets;
use crate::error::Result;
use crate::ops::case::sample_normal;
use crate::ops::OpSpec;
use crate::tensor::{DType, Tensor};

/// How well the student passes for the teacher: the discriminator's logits of its outputs against "is the teacher".
///
/// # Errors
/// Not float logits.
pub fn fooling(discriminator_logits: &Tensor) -> Result<Tensor> {
    discriminator_logits.bce_with_logits(&filled(discriminator_logits, 1.0)?)
}

/// The discriminator's own loss, of its logits of the teacher's outputs and of the student's.
///
/// # Errors
/// Not float logits.
pub fn telling_apart(of_teacher: &Tensor, of_student: &Tensor) -> Result<Tensor> {
    let of_student = of_student.bce_with_logits(&filled(of_student, 0.0)?)?;
    fooling(of_teacher)?.add(&of_student)?.affine(0.5, 0.0)
}

fn filled(like: &Tensor, value: f64) -> Result<Tensor> {
    let dtype = if like.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    Tensor::full(*like.shape(), value, dtype, like.device())
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "adversarial_student_loss",
        run: |case| {
            let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
            let hard = student.cross_entropy(&case.tensor("labels")?, 0.0)?;
            let soft = soft_targets(&student, &teacher, case.number("temperature")?)?;
            let adversarial = fooling(&case.tensor("discriminator_logits")?)?;
            let (alpha, beta) = (case.number("alpha")?, case.number("beta")?);
            let total = hard.add(&soft.affine(alpha, 0.0)?)?.add(&adversarial.affine(beta, 0.0)?)?;
            let [hard, soft, adversarial] = [hard, soft, adversarial].map(|term| term.detach());
            Ok(vec![("hard", hard), ("soft", soft), ("adversarial", adversarial), ("total", total)])
        },
        sample: Some(|random| {
            let temperature = positive(random);
            let case = labelled_logits(random);
            let n = case.inputs()["student_logits"].shape()[0];
            let logits = sample_normal(random, &[n, 1]);
            case.input("discriminator_logits", logits)
                .attr("temperature", temperature)
                .attr("alpha", 0.7)
                .attr("beta", 0.1)
        }),
    },
    OpSpec {
        name: "discriminator_loss",
        run: |case| Ok(vec![("loss", telling_apart(&case.tensor("teacher")?, &case.tensor("student")?)?)]),
        sample: Some(|random| {
            let (teacher, student) = (sample_normal(random, &[3, 1]), sample_normal(random, &[3, 1]));
            crate::ops::Case::new().input("teacher", teacher).input("student", student)
        }),
    },
];
