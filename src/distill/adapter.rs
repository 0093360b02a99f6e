//! Trainable maps between features of different widths.

use super::math::{rows, same_size};
use super::taps::TapPair;
use crate::error::Result;
use crate::nn::{Init, Parameter, Visitor};
use crate::ops::Conv2dOptions;
use crate::tensor::Tensor;

/// A linear map of channels without bias: a 1×1 convolution for feature maps, a matrix for feature vectors. Where one side has height
/// and width and the other has not, the map is flattened.
pub struct Regressor {
    weight: Parameter,
    spatial: bool,
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
        Ok(Regressor { weight, spatial })
    }

    /// The mapped features.
    pub fn apply(&self, student: &Tensor) -> Result<Tensor> {
        match self.spatial {
            true => student.conv2d(&self.weight.get(), None, Conv2dOptions::default()),
            false => rows(student)?.linear(&self.weight.get(), None),
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

    /// Shows its weight.
    pub fn visit(&self, name: &str, visitor: &mut Visitor) {
        visitor.parameter(name, &self.weight);
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

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &(TapPair, Regressor)> {
        self.0.iter()
    }

    pub(super) fn visit(&self, visitor: &mut Visitor) {
        for (i, (_, regressor)) in self.0.iter().enumerate() {
            regressor.visit(&format!("regressor{i}.weight"), visitor);
        }
    }
}
