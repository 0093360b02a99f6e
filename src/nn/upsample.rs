//! Layers of generators: larger images, and a ReLU that lets some of the negative side through.

use super::{Context, Module, Visitor};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// `[n, c, h, w]` to `[n, c, 2h, 2w]`: each pixel four times (nearest neighbour).
pub struct Upsample;

impl Module for Upsample {
    fn forward(&self, x: &Tensor, _: &mut Context) -> Result<Tensor> {
        let [n, c, h, w] = x.shape()[..] else {
            let found = format!("{:?}", x.shape());
            return Err(Error::Shape { op: "upsample", arg: "images", expected: "[n, c, h, w]".to_string(), found });
        };
        x.reshape([n * c, h, 1, w, 1])?.expand([n * c, h, 2, w, 2])?.reshape([n, c, 2 * h, 2 * w])
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
