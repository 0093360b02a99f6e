//! Convolution, batch normalisation and ReLU, as residual networks repeat them.

use super::{BatchNorm2d, Context, Init, Module, Parameter, Visitor};
use crate::error::Result;
use crate::ops::Conv2dOptions;
use crate::tensor::Tensor;

/// `relu(batch_norm(conv(x)))`, the convolution without bias. In evaluation with running statistics the normalisation is folded
/// into the convolution's weights, and everything is one pass.
pub struct ConvNormRelu {
    weight: Parameter,
    norm: BatchNorm2d,
    options: Conv2dOptions,
}

impl ConvNormRelu {
    /// A `kernel × kernel` convolution from `inputs` to `outputs` channels.
    pub fn new(
        init: &mut Init,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        options: Conv2dOptions,
    ) -> Result<ConvNormRelu> {
        let per_group = inputs / options.groups.max(1);
        let weight = init.kaiming_uniform([outputs, per_group, kernel, kernel], per_group * kernel * kernel)?;
        Ok(ConvNormRelu { weight, norm: BatchNorm2d::new(init, outputs)?, options })
    }
}

impl Module for ConvNormRelu {
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Result<Tensor> {
        let (x, weight) = self.weight.in_use_on(x, cx.is_training())?;
        if !cx.folds_norms() {
            return self.norm.forward(&x.conv2d(&weight, None, self.options)?, cx)?.relu();
        }
        let (weight, bias) = self.norm.fold(&weight)?;
        x.conv2d_relu(&weight, Some(&bias), self.options)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
        visitor.child("norm", &self.norm);
    }

    fn describe(&self) -> String {
        let weight = self.weight.get();
        let [outputs, inputs, kernel, _] = weight.shape()[..] else { unreachable!("a convolution's weight") };
        format!("conv {kernel}×{kernel}, {inputs} → {outputs}, batch norm, ReLU")
    }
}
