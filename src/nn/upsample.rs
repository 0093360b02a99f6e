//! Layers of generators: larger images, and a ReLU that lets some of the negative side through.

use super::{Context, Module, Visitor};
use crate::error::Result;
use crate::tensor::Tensor;

/// `[n, c, h, w]` to `[n, c, 2h, 2w]`: each pixel four times (nearest neighbour).
pub struct Upsample;

impl Module for Upsample {
    fn forward(&self, x: &Tensor, _: &mut Context) -> Result<Tensor> {
        x.upsample_nearest2x()
    }

    fn visit(&self, _: &mut Visitor) {}

    fn describe(&self) -> String {
        "twice as large, nearest neighbour".to_string()
    }
}

/// `max(x, 0) + slope · min(x, 0)`; the derivative at 0 is `slope`.
pub struct LeakyRelu {
    /// In [0, 1).
    pub slope: f64,
}

impl Module for LeakyRelu {
    fn forward(&self, x: &Tensor, _: &mut Context) -> Result<Tensor> {
        x.affine(self.slope, 0.0)?.add(&x.relu()?.affine(1.0 - self.slope, 0.0)?)
    }

    fn visit(&self, _: &mut Visitor) {}

    fn describe(&self) -> String {
        format!("leaky ReLU, {}", self.slope)
    }
}
