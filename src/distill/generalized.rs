//! Lopez-Paz, Bottou, Schölkopf & Vapnik, "Unifying distillation and privileged information", 2016: generalized distillation, for a
//! teacher that sees something of each image that the student does not (its eqs. 3 and 7, with the factor T² of the authors' code):
//! `L = T² · CE(softmax(z_t/T), softmax(z_s)) = −T² · mean over samples of Σ_k softmax(z_t/T)_k · log softmax(z_s)_k`.
//!
//! The student's own answers are not softened: with T → ∞ it would be drawn to the uniform distribution, not to the teacher's logits.
//! [`hinton`](super::hinton) softens both.

use super::cases::{logits_pair, positive};
use super::info::{Family, Hyperparameter, MethodInfo, Needs};
use super::{Loss, Method, StepInputs};
use crate::error::Result;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "generalized-distillation",
    paper: "Lopez-Paz et al. 2016",
    family: Family::Response,
    about: "soft labels of a teacher that sees more (privileged information); the student is not softened",
    formula: "T² · CE(softmax(z_t/T), softmax(z_s))",
    needs: Needs::LOGITS,
    weight: 0.5,
    hard_weight: 0.5,
    cost: 1.2,
    when: "With --teacher-view and --student-view, when the teacher sees what the student will not: sharper, other or more of it.",
    traps: &[
        "λ of the paper is the weight, 1 − λ is --hard-weight; T² grows fast: at T 20 a weight of 0.2 is 80 times the labels'.",
        "At large T the soft labels are nearly uniform and the student, which is not softened, becomes unsure of everything.",
    ],
    hyperparameters: &[Hyperparameter::constant_temperature(2.0, "T, softens the teacher's answers alone")],
    build: |setup| Ok(Box::new(Generalized { temperature: setup.settings.number("temperature") })),
    specs: SPECS,
};

/// `−T² · mean over samples of Σ softmax(z_t/T) · log softmax(z_s)`, for logits `[n, classes]`.
///
/// # Errors
/// The shapes differ.
pub fn soft_label_loss(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    let soft = teacher.detach().softmax(temperature)?;
    let of_sample = student.log_softmax(1.0)?.mul(&soft)?.sum(&[1], false)?;
    of_sample.mean_all()?.affine(-temperature * temperature, 0.0)
}

struct Generalized {
    temperature: f64,
}

impl Method for Generalized {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let loss = soft_label_loss(inputs.student_logits, inputs.teacher_logits()?, self.temperature)?;
        Ok(Loss::single(INFO.name, loss))
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "generalized_distillation",
    run: |case| {
        let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
        Ok(vec![("loss", soft_label_loss(&student, &teacher, case.number("temperature")?)?)])
    },
    sample: Some(|random| {
        let case = logits_pair(random);
        case.attr("temperature", positive(random))
    }),
}];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Device;

    /// Two classes, by hand: soft labels (0.8, 0.2) at T = 2 of logits (2 ln 4, 0); a student at (0, 0) pays ln 2, times T² = 4.
    #[test]
    fn the_teacher_alone_is_softened() {
        let logits = |z: &[f64]| Tensor::from_slice(z, [1, 2], Device::Reference).unwrap();
        let teacher = logits(&[2.0 * 4f64.ln(), 0.0]);
        let loss = soft_label_loss(&logits(&[0.0, 0.0]), &teacher, 2.0).unwrap().item().unwrap();
        assert!((loss - 4.0 * 2f64.ln()).abs() < 1e-12, "{loss}");
        // The best student says what the soft labels say, without a temperature of its own.
        let entropy = -(0.8 * 0.8f64.ln() + 0.2 * 0.2f64.ln());
        let best = soft_label_loss(&logits(&[4f64.ln(), 0.0]), &teacher, 2.0).unwrap().item().unwrap();
        assert!((best - 4.0 * entropy).abs() < 1e-12, "{best}");
    }
}
