//! Convolution, batch normalisation and ReLU, as networks repeat them.

use super::{BatchNorm2d, Context, Init, Module, Parameter, Visitor};
use crate::error::Result;
use crate::ops::Conv2dOptions;
use crate::tensor::Tensor;

/// `relu(batch_norm(conv(x)))`, the convolution without bias, and 2×2 max-pooling where asked for. In evaluation with running statistics
/// the normalisation is folded into the convolution's weights, and everything is one pass.
pub struct ConvNormRelu {
    weight: Parameter,
    norm: BatchNorm2d,
    options: Conv2dOptions,
    pool: bool,
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
        Ok(ConvNormRelu { weight, norm: BatchNorm2d::new(init, outputs)?, options, pool: false })
    }

    /// Takes the largest of each 2×2 window of the output, too.
    pub fn pooled(self) -> ConvNormRelu {
        ConvNormRelu { pool: true, ..self }
    }
}

impl Module for ConvNormRelu {
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Result<Tensor> {
        let (x, weight) = self.weight.in_use_on(x, cx.is_training())?;
        if !cx.folds_norms() || cx.wants_pre_activation() {
            let y = self.norm.forward(&x.conv2d(&weight, None, self.options)?, cx)?;
            // The largest of a window is the same before ReLU, of which a quarter remains to be done.
            return cx.relu(&if self.pool { y.max_pool2d(2, 2, 0)? } else { y });
        }
        let (weight, bias) = self.norm.fold(&weight)?;
        match self.pool {
            true => x.conv2d_relu_pool(&weight, &bias, self.options),
            false => x.conv2d_relu(&weight, Some(&bias), self.options),
        }
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
        visitor.child("norm", &self.norm);
    }

    fn ends_in_relu(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        let weight = self.weight.get();
        let [outputs, inputs, kernel, _] = weight.shape()[..] else { unreachable!("a convolution's weight") };
        let pool = if self.pool { ", max-pool 2×2" } else { "" };
        format!("conv {kernel}×{kernel}, {inputs} → {outputs}, batch norm, ReLU{pool}")
    }
}
