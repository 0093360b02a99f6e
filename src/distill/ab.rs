//! Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries", 2019: which neurons are active matters more than by how
//! much. The paper's alternative loss (eq. 5) of what comes before the ReLU (`block1.pre` and so on), for a student mapped to the teacher's
//! channels by a trained 1×1 convolution and batch norm: `(s + m)²` where the teacher is not active and s > −m, `(s − m)²` where it is and
//! s ≤ m; summed over the map, averaged over samples, and multiplied by the authors' 3/1000.
//!
//! It is a way to begin: first this loss alone, then the rest without it. `stages = joint` is a term beside the others.

use super::adapter::Regressors;
use super::cases::maps;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::method::TwoStages;
use super::{Loss, Method, Stage, StepInputs};
use crate::error::Result;
use crate::nn::Visitor;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "ab",
    paper: "Heo et al. 2019 (AB)",
    family: Family::Feature,
    about: "the boundaries between active and inactive neurons",
    formula: "3/1000 · Σ_l 2^(l−L) · Σ [(s + m)²₊ where t ≤ 0, (m − s)²₊ where t > 0] / B",
    needs: Needs::features(Taps::Stages).before_relu(),
    weight: 1.0,
    hard_weight: 1.0,
    cost: 8.0,
    when: "As the start of a training that goes on with labels.",
    traps: &[
        "It says nothing about how active a neuron is.",
        "It is a sum over the map: with `stages=joint` the weight depends on the layer's size.",
    ],
    hyperparameters: &[
        Hyperparameter::above("margin", 0.0, 1.0, "m, how far from the boundary is far enough"),
        Hyperparameter::choice("stages", &["two", "joint"], "first and alone, or beside the rest of the loss"),
        Hyperparameter::count("first-epochs", [1, 100000], 5, "epochs of the first of two stages; at most half of all"),
    ],
    build: |setup| {
        let margin = setup.settings.number("margin");
        let stages = TwoStages::new(setup.settings, "first-epochs");
        let regressors = Regressors::normalised(&mut setup.init, setup.pairs.clone())?;
        Ok(Box::new(Ab { regressors, margin, stages }))
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

/// The authors' factor, which keeps a sum over a map near other losses.
const FACTOR: f64 = 3e-3;

struct Ab {
    regressors: Regressors,
    margin: f64,
    stages: TwoStages,
}

impl Method for Ab {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        // The deepest layer counts 1, each one before it half of the next.
        let sum = self.regressors.sum(INFO.name, inputs, |student, teacher, deeper| {
            activation_boundaries(student, teacher, self.margin)?.affine(FACTOR * 0.5f64.powi(deeper), 0.0)
        })?;
        Ok(Loss::single(INFO.name, sum))
    }

    fn stage(&self, epoch: usize, epochs: usize) -> Stage {
        self.stages.stage(epoch, epochs)
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
