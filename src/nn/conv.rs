//! Convolution layers.

use super::{Context, Init, Module, Parameter, Visitor};
use crate::error::Result;
use crate::ops::Conv2dOptions;
use crate::tensor::Tensor;

/// What follows a convolution in the same pass over memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConvThen {
    /// Nothing.
    #[default]
    Nothing,
    /// ReLU.
    Relu,
    /// ReLU, then 2×2 max-pooling.
    ReluPool,
}

/// A 2-D convolution of `[n, c_in, h, w]` with bias, and what follows it.
pub struct Conv2d {
    weight: Parameter,
    bias: Parameter,
    options: Conv2dOptions,
    then: ConvThen,
}

impl Conv2d {
    /// A `kernel × kernel` convolution from `inputs` to `outputs` channels; stride 1, no padding.
    pub fn new(init: &mut Init, inputs: usize, outputs: usize, kernel: usize) -> Result<Conv2d> {
        Conv2d::with_options(init, inputs, outputs, kernel, Conv2dOptions::default())
    }

    /// A convolution with stride, padding, dilation or groups.
    pub fn with_options(
        init: &mut Init,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        options: Conv2dOptions,
    ) -> Result<Conv2d> {
        let per_group = inputs / options.groups.max(1);
        let fan_in = per_group * kernel * kernel;
        let weight = init.kaiming_uniform([outputs, per_group, kernel, kernel], fan_in)?;
        Ok(Conv2d { weight, bias: init.kaiming_uniform([outputs], fan_in)?, options, then: ConvThen::Nothing })
    }

    /// A convolution that keeps the image's size (odd kernels), followed by `then`.
    pub fn same(init: &mut Init, inputs: usize, outputs: usize, kernel: usize, then: ConvThen) -> Result<Conv2d> {
        let options = Conv2dOptions { padding: [kernel / 2; 2], ..Conv2dOptions::default() };
        Ok(Conv2d { then, ..Conv2d::with_options(init, inputs, outputs, kernel, options)? })
    }
}

impl Module for Conv2d {
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Result<Tensor> {
        let ((x, weight), bias) = (self.weight.in_use_on(x, cx.is_training())?, self.bias.get());
        if self.ends_in_relu() && cx.wants_pre_activation() {
            let y = x.conv2d(&weight, Some(&bias), self.options)?;
            // The largest of a window is the same before ReLU and behind it.
            let pools = self.then == ConvThen::ReluPool;
            return cx.relu(&if pools { y.max_pool2d(2, 2, 0)? } else { y });
        }
        match self.then {
            ConvThen::Nothing => x.conv2d(&weight, Some(&bias), self.options),
            ConvThen::Relu => x.conv2d_relu(&weight, Some(&bias), self.options),
            ConvThen::ReluPool => x.conv2d_relu_pool(&weight, &bias, self.options),
        }
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
        visitor.parameter("bias", &self.bias);
    }

    fn ends_in_relu(&self) -> bool {
        self.then != ConvThen::Nothing
    }

    fn describe(&self) -> String {
        let shape = *self.weight.get().shape();
        let then = match self.then {
            ConvThen::Nothing => "",
            ConvThen::Relu => ", ReLU",
            ConvThen::ReluPool => ", ReLU, max-pool 2×2",
        };
        let (inputs, outputs, kh, kw) = (shape[1] * self.options.groups, shape[0], shape[2], shape[3]);
        format!("conv {kh}×{kw}, {inputs} → {outputs}{then}")
    }
}
