//! Li et al., "Curriculum Temperature for Knowledge Distillation" (CTKD), 2023: Hinton's loss at a temperature that is learned against the
//! student: its gradient is reversed, so that it moves to where the loss is larger (eq. 4), `T = T₀ + range · σ(θ)` (eq. 7, the global
//! form), and the reversal grows with a curriculum, `λ(e) = λ_max · (1 − cos(π · min(e / E, 1))) / 2` (eq. 9): from easy to hard.

use super::cases::logits_pair;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, NON_NEGATIVE};
use super::{Loss, Method, StepInputs};
use crate::error::Result;
use crate::nn::{Parameter, Visitor};
use crate::ops::case::sample_normal;
use crate::ops::OpSpec;
use crate::tensor::Tensor;
use std::f64::consts::PI;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "ctkd",
    paper: "Li et al. 2023",
    family: Family::Response,
    about: "hinton at a temperature that is learned, to make it harder as the student gets better",
    formula: "T² · KL(softmax(z_t/T) ‖ softmax(z_s/T)), T = T₀ + range · σ(θ); θ gets −λ times its gradient",
    needs: Needs::LOGITS,
    weight: 0.5,
    hard_weight: 0.5,
    cost: 1.2,
    when: "Instead of a search for the temperature; `hinton` with temperature = 4..1 is the schedule without learning.",
    traps: &[
        "Without the reversal the temperature flees to where the loss is small and teaches nothing.",
        "θ takes the student's learning rate and optimiser: with sgd it moves slowly.",
    ],
    hyperparameters: &[
        Hyperparameter::above("least", 0.0, 1.0, "T₀, which T cannot go below"),
        Hyperparameter::above("range", 0.0, 20.0, "how far above T₀ it can go"),
        Hyperparameter::between("lambda", NON_NEGATIVE, 1.0, "λ_max of the reversal"),
        Hyperparameter::count("curriculum-epochs", [1, 100000], 10, "E, epochs over which λ grows from 0"),
    ],
    build: |setup| {
        let number = |name| setup.settings.number(name);
        Ok(Box::new(Ctkd {
            theta: setup.init.constant([1], 1.0)?,
            least: number("least"),
            range: number("range"),
            lambda: number("lambda"),
            curriculum: setup.settings.count("curriculum-epochs"),
        }))
    },
    specs: SPECS,
};

/// `T² · KL(softmax(teacher/T) ‖ softmax(student/T))`, averaged over samples, for a temperature `[1]` that gets a gradient as well: through
/// both distributions, as in the authors' code.
///
/// # Errors
/// Shapes that do not fit.
pub fn at_learned_temperature(student: &Tensor, teacher: &Tensor, temperature: &Tensor) -> Result<Tensor> {
    let samples = student.shape()[0].max(1) as f64;
    let log_p = teacher.detach().div(temperature)?.log_softmax(1.0)?;
    let log_q = student.div(temperature)?.log_softmax(1.0)?;
    let kl = log_p.exp()?.mul(&log_p.sub(&log_q)?)?.sum_all()?.affine(1.0 / samples, 0.0)?;
    kl.mul(&temperature.square()?.sum_all()?)
}

/// `x`, whose gradient is multiplied by `−lambda` on its way back (Ganin & Lempitsky 2015).
pub fn reverse_gradient(x: &Tensor, lambda: f64) -> Result<Tensor> {
    x.detach().affine(1.0 + lambda, 0.0)?.add(&x.affine(-lambda, 0.0)?)
}

struct Ctkd {
    theta: Parameter,
    least: f64,
    range: f64,
    lambda: f64,
    curriculum: usize,
}

impl Method for Ctkd {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let done = (inputs.epoch.saturating_sub(1) as f64 / self.curriculum as f64).min(1.0);
        let lambda = self.lambda * (1.0 - (PI * done).cos()) / 2.0;
        let theta = reverse_gradient(&self.theta.get(), lambda)?;
        let temperature = theta.sigmoid()?.affine(self.range, self.least)?;
        let loss = at_learned_temperature(inputs.student_logits, inputs.teacher_logits()?, &temperature)?;
        let terms = vec![(INFO.name.to_string(), loss.detach()), ("temperature".to_string(), temperature.detach())];
        Ok(Loss { total: loss, terms })
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("theta", &self.theta);
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "ctkd",
    run: |case| {
        let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
        // Reversed twice: a finite difference knows nothing of a reversal.
        let theta = reverse_gradient(&case.tensor("theta")?, -1.0)?;
        let temperature = theta.sigmoid()?.affine(case.number("range")?, case.number("least")?)?;
        Ok(vec![("loss", at_learned_temperature(&student, &teacher, &temperature)?)])
    },
    sample: Some(|random| {
        let theta = sample_normal(random, &[1]);
        logits_pair(random).input("theta", theta).attr("least", 1.0).attr("range", 5.0)
    }),
}];
