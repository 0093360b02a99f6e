//! Activations and other layers without parameters.

use super::{Context, Module, Visitor};
use crate::backend::params::Unary;
use crate::error::Result;
use crate::tensor::Tensor;

/// An elementwise activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// 1 / (1 + e^−x).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// x · Φ(x).
    Gelu,
    /// x · σ(x).
    Silu,
    /// x · relu6(x + 3) / 6.
    Hardswish,
}

impl Activation {
    fn function(self) -> Unary {
        match self {
            Activation::Relu => Unary::Relu,
            Activation::Sigmoid => Unary::Sigmoid,
            Activation::Tanh => Unary::Tanh,
            Activation::Gelu => Unary::Gelu,
            Activation::Silu => Unary::Silu,
            Activation::Hardswish => Unary::Hardswish,
        }
    }
}

impl Module for Activation {
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Result<Tensor> {
        match self {
            Activation::Relu => cx.relu(x),
            other => x.unary(other.function()),
        }
    }

    fn visit(&self, _: &mut Visitor) {}

    fn ends_in_relu(&self) -> bool {
        *self == Activation::Relu
    }

    fn describe(&self) -> String {
        self.function().name().to_string()
    }
}

/// `[n, …]` to `[n, everything else]`.
pub struct Flatten;

impl Module for Flatten {
    fn forward(&self, x: &Tensor, _: &mut Context) -> Result<Tensor> {
        x.flatten(1)
    }

    fn visit(&self, _: &mut Visitor) {}

    fn describe(&self) -> String {
        "flatten".to_string()
    }
}
