//! Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries", 2019: which neurons are active matters more than by how
//! much. The paper's alternative loss (eq. 5), for a student mapped to the teacher's channels by a trained 1×1 convolution:
//! `(s + m)²` where the teacher is not active and s > −m, `(s − m)²` where it is and s ≤ m; summed over the map, averaged over samples.

use super::adapter::Regressors;
use super::cases::maps;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::pairwise::sum_over;
use super::{Loss, Method, StepInputs};
use crate::error::Result;
use crate::nn::Visitor;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "ab",
    paper: "Heo et al. 2019 (AB)",
    family: Family::Feature,
    about: "the boundaries between active and inactive neurons",
    formula: "Σ_l 2^(l−L) · Σ [(s + m)²₊ where t ≤ 0, (m − s)²₊ where t > 0] / B",
    needs: Needs::features(Taps::Stages),
    weight: 0.003,
    hard_weight: 1.0,
    cost: 1.5,
    when: "As the start of a training that goes on with labels: the paper uses it for initialisation.",
    traps: &[
        "It says nothing about how active a neuron is.",
        "It is a sum over the map: the weight 3/1000 is the reference implementation's and depends on the layer's size.",
    ],
    hyperparameters: &[Hyperparameter::above("margin", 0.0, 1.0, "m, how far from the boundary is far enough")],
    build: |setup| {
        let margin = setup.settings.number("margin");
        Ok(Box::new(Ab { regressors: Regressors::new(&mut setup.init, setup.pairs.clone())?, margin }))
    },
    specs: SPECS,
};

/// The boundary loss of mapped student features and the teacher's.
///
/// # Errors
/// The shapes differ.
pub fn activation_boundaries(student: &Tensor, teacher: &Tensor, margin: f64) -> Result<Tensor> {
    let active = teacher.is_positive()?;
    let too_high = student.affine(1.0, margin)?.relu()?.square()?.mul(&active.affine(-1.0, 1.0)?)?;
    let too_low = student.affine(-1.0, margin)?.relu()?.square()?.mul(&active)?;
    too_high.add(&too_low)?.sum_all()?.affine(1.0 / student.shape()[0].max(1) as f64, 0.0)
}

struct Ab {
    regressors: Regressors,
    margin: f64,
}

impl Method for Ab {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let layers = self.regressors.iter().len() as i32;
        let sum = sum_over(INFO.name, self.regressors.iter().enumerate(), |(l, (pair, regressor))| {
            let (student, teacher) = inputs.features(pair)?;
            let (student, teacher) = regressor.align(student, teacher)?;
            // The deepest layer counts 1, each one before it half of the next.
            activation_boundaries(&student, &teacher, self.margin)?.affine(0.5f64.powi(layers - 1 - l as i32), 0.0)
        })?;
        Ok(Loss::single(INFO.name, sum))
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.regressors.visit(visitor);
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "activation_boundaries",
    run: |case| {
        let (student, teacher) = (case.tensor("student")?, case.tensor("teacher")?);
        Ok(vec![("loss", activation_boundaries(&student, &teacher, case.number("margin")?)?)])
    },
    sample: Some(|random| maps(random, [2, 2], [3, 3]).attr("margin", 1.0)),
}];
