//! Trainable maps between features of different widths.

use super::math::{rows, same_size};
use super::pairwise::sum_over;
use super::taps::TapPair;
use super::StepInputs;
use crate::error::Result;
use crate::nn::{BatchNorm2d, Context, Init, Module, Parameter, Visitor};
use crate::ops::Conv2dOptions;
use crate::tensor::{Rng, Tensor};

/// A linear map of channels without bias: a 1×1 convolution for feature maps, a matrix for feature vectors. Where one side has height
/// and width and the other has not, the map is flattened. What becomes of feature maps may be normalised.
pub struct Regressor {
    weight: Parameter,
    spatial: bool,
    norm: Option<BatchNorm2d>,
}

impl Regressor {
    /// From the student's features to as many channels as the teacher's have.
    pub fn new(init: &mut Init, pair: &TapPair) -> Result<Regressor> {
        let spatial = pair.student_shape.len() == 3 && pair.teacher_shape.len() == 3;
        let [from, to] = if spatial { pair.channels() } else { pair.widths() };
        Regressor::between(init, from, to, spatial)
    }

    /// From `from` to `to` channels of feature maps (`spatial`) or features of vectors.
    pub fn between(init: &mut Init, from: usize, to: usize, spatial: bool) -> Result<Regressor> {
        let weight = match spatial {
            true => init.kaiming_uniform([to, from, 1, 1], from)?,
            false => init.kaiming_uniform([to, from], from)?,
        };
        Ok(Regressor { weight, spatial, norm: None })
    }

    /// The same with a batch norm behind it, if it is one of feature maps.
    pub fn normalised(self, init: &mut Init) -> Result<Regressor> {
        let norm = self.spatial.then(|| BatchNorm2d::new(init, self.weight.get().shape()[0])).transpose()?;
        Ok(Regressor { norm, ..self })
    }

    /// The mapped features.
    pub fn apply(&self, student: &Tensor) -> Result<Tensor> {
        if !self.spatial {
            return rows(student)?.linear(&self.weight.get(), None);
        }
        let mapped = student.conv2d(&self.weight.get(), None, Conv2dOptions::default())?;
        match &self.norm {
            None => Ok(mapped),
            // Nothing here is random.
            Some(norm) => norm.forward(&mapped, &mut Context::train(Rng::new(0, 0))),
        }
    }

    /// The mapped features of the student and those of the teacher, at one size: mapped first, pooled then.
    pub fn align(&self, student: &Tensor, teacher: &Tensor) -> Result<(Tensor, Tensor)> {
        let mapped = self.apply(student)?;
        match self.spatial {
            true => same_size(&mapped, &teacher.detach()),
            false => Ok((mapped, rows(&teacher.detach())?)),
        }
    }

    /// Shows its tensors, under a name.
    pub fn visit(&self, name: &str, visitor: &mut Visitor) {
        visitor.group(name, |visitor| {
            visitor.parameter("weight", &self.weight);
            if let Some(norm) = &self.norm {
                visitor.child("norm", norm);
            }
        });
    }
}

/// One regressor for each pair, and their names in checkpoints.
pub(super) struct Regressors(Vec<(TapPair, Regressor)>);

impl Regressors {
    pub(super) fn new(init: &mut Init, pairs: Vec<TapPair>) -> Result<Regressors> {
        let mut made = Vec::new();
        for pair in pairs {
            let regressor = Regressor::new(init, &pair)?;
            made.push((pair, regressor));
        }
        Ok(Regressors(made))
    }

    /// Each with a batch norm behind it.
    pub(super) fn normalised(init: &mut Init, pairs: Vec<TapPair>) -> Result<Regressors> {
        let Regressors(made) = Regressors::new(init, pairs)?;
        let with_norm = |(pair, regressor): (TapPair, Regressor)| Ok((pair, regressor.normalised(init)?));
        Ok(Regressors(made.into_iter().map(with_norm).collect::<Result<_>>()?))
    }

    /// Of each pair the student's mapped features and the teacher's, at one size.
    pub(super) fn aligned<'a>(
        &'a self,
        inputs: &'a StepInputs<'a>,
    ) -> impl Iterator<Item = Result<(Tensor, Tensor)>> + 'a {
        self.0.iter().map(|(pair, regressor)| {
            let (student, teacher) = inputs.features(pair)?;
            regressor.align(student, teacher)
        })
    }

    /// The sum over the pairs of `loss(the student's mapped features, the teacher's, how many deeper pairs there are)`, for the method of this
    /// name.
    pub(super) fn sum(
        &self,
        method: &'static str,
        inputs: &StepInputs,
        loss: impl Fn(&Tensor, &Tensor, i32) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let deeper = (0..self.0.len() as i32).rev();
        sum_over(method, deeper.zip(self.aligned(inputs)), |(deeper, aligned)| {
            let (mapped, teacher) = aligned?;
            loss(&mapped, &teacher, deeper)
        })
    }

    pub(super) fn visit(&self, visitor: &mut Visitor) {
        for (i, (_, regressor)) in self.0.iter().enumerate() {
            regressor.visit(&format!("regressor{i}"), visitor);
        }
    }
}
