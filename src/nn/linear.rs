//! Fully connected layers.

use super::{Context, Init, Module, Parameter, Visitor};
use crate::error::Result;
use crate::tensor::Tensor;

/// `y = x Wᵀ + b` for `x: [n, in]`, with ReLU fused in where asked for.
pub struct Linear {
    weight: Parameter,
    bias: Parameter,
    relu: bool,
}

impl Linear {
    /// A layer from `inputs` to `outputs` features.
    pub fn new(init: &mut Init, inputs: usize, outputs: usize) -> Result<Linear> {
        let weight = init.kaiming_uniform([outputs, inputs], inputs)?;
        Ok(Linear { weight, bias: init.kaiming_uniform([outputs], inputs)?, relu: false })
    }

    /// A layer with Glorot-uniform weights and biases of 0 (Glorot & Bengio 2010).
    pub fn glorot(init: &mut Init, inputs: usize, outputs: usize) -> Result<Linear> {
        let weight = init.glorot_uniform([outputs, inputs], inputs, outputs)?;
        Ok(Linear { weight, bias: init.constant([outputs], 0.0)?, relu: false })
    }

    /// Applies ReLU to the output, in the same pass.
    pub fn relu(mut self) -> Linear {
        self.relu = true;
        self
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Result<Tensor> {
        let ((x, weight), bias) = (self.weight.in_use_on(x, cx.is_training())?, self.bias.get());
        if self.relu && cx.wants_pre_activation() {
            return cx.relu(&x.linear(&weight, Some(&bias))?);
        }
        match self.relu {
            true => x.linear_relu(&weight, Some(&bias)),
            false => x.linear(&weight, Some(&bias)),
        }
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
        visitor.parameter("bias", &self.bias);
    }

    fn ends_in_relu(&self) -> bool {
        self.relu
    }

    fn describe(&self) -> String {
        let shape = *self.weight.get().shape();
        format!("linear {} → {}{}", shape[1], shape[0], if self.relu { ", ReLU" } else { "" })
    }
}
