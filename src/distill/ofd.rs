//! Heo et al., "A Comprehensive Overhaul of Feature Distillation" (OFD), 2019. The teacher's features pass a margin ReLU
//! `max(f_t, m_c)` (eq. 2), m_c the mean of the channel's negative values; the student's, mapped by a 1×1 convolution and batch norm, are
//! compared by a partial distance that does not punish a student below a teacher that is itself below 0 (eq. 3):
//! `L = Σ_l 2^(l−L) · Σ d(t, s) / B`, `d = 0` where `s ≤ t ≤ 0`, else `(t − s)²`.
//!
//! Both sides are taken before their ReLU (section 3.2), from `block1.pre` and so on. Of features behind it, which can be named as well,
//! nothing is negative: m is 0, and a student is not punished for being below 0 where the teacher is 0.

use super::adapter::Regressors;
use super::cases::maps;
use super::info::{Family, MethodInfo, Needs, Taps};
use super::math::at_least;
use super::{Loss, Method, StepInputs};
use crate::autograd::no_grad;
use crate::error::Result;
use crate::nn::Visitor;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "ofd",
    paper: "Heo et al. 2019 (OFD)",
    family: Family::Feature,
    about: "margin ReLU and a distance that spares what the next ReLU would cut",
    formula: "Σ_l 2^(l−L) · Σ d(max(t, m), s) / B, d = 0 where s ≤ t ≤ 0, else (t − s)²",
    needs: Needs::features(Taps::Stages).before_relu(),
    weight: 1e-3,
    hard_weight: 1.0,
    cost: 8.0,
    when: "For convolutional students of the teacher's family; one of the strongest feature losses before reviewkd.",
    traps: &["It is a sum over the map: the weight depends on the layers' sizes. 1/1000 is the paper's."],
    hyperparameters: &[],
    build: |setup| Ok(Box::new(Ofd { regressors: Regressors::normalised(&mut setup.init, setup.pairs.clone())? })),
    specs: SPECS,
};

/// The partial distance of mapped student features from the teacher's, summed over the features and averaged over samples. The margin
/// of each channel is the mean of the batch's negative values, 0 if there are none.
///
/// # Errors
/// The shapes differ, or there are no channels.
pub fn partial_distance(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (target, counts) = no_grad(|| {
        let teacher = teacher.detach();
        let others: Vec<usize> = (0..teacher.shape().rank()).filter(|&dim| dim != 1).collect();
        let below = teacher.affine(-1.0, 0.0)?;
        let negative = below.is_positive()?.sum(&others, true)?;
        let margin = below.relu()?.sum(&others, true)?.affine(-1.0, 0.0)?.div(&at_least(&negative, 1.0)?)?;
        // max(t, m) = m + max(t − m, 0)
        let target = teacher.sub(&margin)?.relu()?.add(&margin)?;
        let above = |x: &Tensor| x.is_positive()?.affine(-1.0, 1.0);
        let spared = above(&student.detach().sub(&target)?)?.mul(&above(&target)?)?;
        Ok::<_, crate::Error>((target, spared.affine(-1.0, 1.0)?))
    })?;
    let squares = student.sub(&target)?.square()?.mul(&counts)?;
    squares.sum_all()?.affine(1.0 / student.shape()[0].max(1) as f64, 0.0)
}

struct Ofd {
    regressors: Regressors,
}

impl Method for Ofd {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let sum = self.regressors.sum(INFO.name, inputs, |student, teacher, deeper| {
            partial_distance(student, teacher)?.affine(0.5f64.powi(deeper), 0.0)
        })?;
        Ok(Loss::single(INFO.name, sum))
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.regressors.visit(visitor);
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "margin_relu_distance",
    run: |case| Ok(vec![("loss", partial_distance(&case.tensor("student")?, &case.tensor("teacher")?)?)]),
    sample: Some(|random| maps(random, [2, 2], [3, 3])),
}];
