//! Huang et al., "Knowledge Distillation from A Stronger Teacher" (DIST), 2022: match relations instead of values, by Pearson's correlation
//! ρ, which ignores shift and scale. With `p = softmax(z/T)`: `inter = T² · mean over samples of 1 − ρ(p_s[i,:], p_t[i,:])` (eq. 5),
//! `intra = T² · mean over classes of 1 − ρ(p_s[:,j], p_t[:,j])` (eq. 8), `L = β · inter + γ · intra` (eq. 9).

use super::cases::{logits_pair, positive};
use super::info::{Family, Hyperparameter, MethodInfo, Needs, NON_NEGATIVE};
use super::math::lengths;
use super::{Loss, Method, Scheduled, StepInputs};
use crate::error::Result;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "dist",
    paper: "Huang et al. 2022",
    family: Family::Response,
    about: "correlation of probabilities, over classes and over samples",
    formula: "β · T² · mean_i (1 − ρ(p_s[i,:], p_t[i,:])) + γ · T² · mean_j (1 − ρ(p_s[:,j], p_t[:,j]))",
    needs: Needs::LOGITS,
    weight: 1.0,
    hard_weight: 1.0,
    cost: 1.2,
    when: "When the teacher is much stronger than the student can ever be.",
    traps: &["The second part compares samples of a batch: it says nothing in a batch of one."],
    hyperparameters: &[
        Hyperparameter::between("beta", NON_NEGATIVE, 1.0, "weight of the part over classes; 2 on CIFAR"),
        Hyperparameter::between("gamma", NON_NEGATIVE, 1.0, "weight of the part over samples; 2 on CIFAR"),
        Hyperparameter::temperature(1.0, "T of both distributions; 4 on CIFAR"),
    ],
    build: |setup| {
        let number = |name| setup.settings.number(name);
        Ok(Box::new(Dist {
            beta: number("beta"),
            gamma: number("gamma"),
            temperature: setup.settings.scheduled("temperature"),
        }))
    },
    specs: SPECS,
};

/// Keeps the quotient of a constant row finite; the reference implementation's.
const EPS: f64 = 1e-8;

/// Both parts, unweighted: (between classes, between samples).
///
/// # Errors
/// The shapes differ, or the temperature is not above 0.
pub fn dist(student: &Tensor, teacher: &Tensor, temperature: f64, eps: f64) -> Result<(Tensor, Tensor)> {
    let (student, teacher) = (student.softmax(temperature)?, teacher.detach().softmax(temperature)?);
    let scale = temperature * temperature;
    let distance = |s: &Tensor, t: &Tensor| correlation(s, t, eps)?.mean_all()?.affine(-scale, scale);
    Ok((distance(&student, &teacher)?, distance(&student.transpose(0, 1)?, &teacher.transpose(0, 1)?)?))
}

/// Pearson's correlation of each pair of rows.
fn correlation(a: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = |x: &Tensor| x.sub(&x.mean(&[1], true)?);
    let (a, b) = (centred(a)?, centred(b)?);
    let scale = lengths(&a)?.mul(&lengths(&b)?)?.affine(1.0, eps)?;
    a.mul(&b)?.sum(&[1], true)?.div(&scale)
}

struct Dist {
    beta: f64,
    gamma: f64,
    temperature: Scheduled,
}

impl Method for Dist {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let (inter, intra) = dist(inputs.student_logits, inputs.teacher_logits()?, inputs.now(self.temperature), EPS)?;
        Loss::weighted(vec![("inter", self.beta, inter), ("intra", self.gamma, intra)])
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "dist_kd",
    run: |case| {
        let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
        let (inter, intra) = dist(&student, &teacher, case.number("temperature")?, case.number("eps")?)?;
        let total = inter.affine(case.number("beta")?, 0.0)?.add(&intra.affine(case.number("gamma")?, 0.0)?)?;
        Ok(vec![("inter", inter.detach()), ("intra", intra.detach()), ("total", total)])
    },
    sample: Some(|random| {
        let temperature = positive(random);
        let case = logits_pair(random).attr("temperature", temperature);
        case.attr("eps", EPS).attr("beta", 2.0).attr("gamma", 0.5)
    }),
}];
