//! Normalisation layers.

use super::{Context, Init, Module, Parameter, Visitor};
use crate::backend;
use crate::error::Result;
use crate::tensor::Tensor;

/// Batch normalisation over `[n, c, h, w]` (Ioffe & Szegedy 2015), eps 1e-5, momentum 0.1.
pub struct BatchNorm2d {
    weight: Parameter,
    bias: Parameter,
    running_mean: Parameter,
    running_var: Parameter,
}

const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

impl BatchNorm2d {
    /// For `channels` channels.
    pub fn new(init: &mut Init, channels: usize) -> Result<BatchNorm2d> {
        Ok(BatchNorm2d {
            weight: init.constant([channels], 1.0)?,
            bias: init.constant([channels], 0.0)?,
            running_mean: init.constant_buffer([channels], 0.0)?,
            running_var: init.constant_buffer([channels], 1.0)?,
        })
    }

    /// The weight and bias of a convolution that includes this normalisation in evaluation, from its `weight` without it.
    pub fn fold(&self, weight: &Tensor) -> Result<(Tensor, Tensor)> {
        let [scale, bias] = [&self.weight, &self.bias].map(|parameter| parameter.get());
        weight.fold_batch_norm(&scale, &bias, &self.running_mean.get(), &self.running_var.get(), EPS)
    }

    /// `N / (N + n) · running + n / (N + n) · batch` for mean and (biased) variance, n the batch's images and N `source`.
    fn mixed_statistics(&self, x: &Tensor, source: f64) -> Result<(Tensor, Tensor)> {
        let share = source / (source + x.shape()[0] as f64);
        let (mut mean, mut var) = x.channel_moments()?;
        let backend = backend::of(x.device());
        backend.lerp(&mut mean, &self.running_mean.get(), 1.0 - share)?;
        backend.lerp(&mut var, &self.running_var.get(), 1.0 - share)?;
        Ok((mean, var))
    }

    /// `running ← (1 − momentum) · running + momentum · batch`; the variance is the unbiased one.
    fn track(&self, mean: &Tensor, unbiased_var: &Tensor) -> Result<()> {
        let backend = backend::of(mean.device());
        backend.lerp(&mut self.running_mean.write(), mean, 1.0 - MOMENTUM)?;
        backend.lerp(&mut self.running_var.write(), unbiased_var, 1.0 - MOMENTUM)
    }
}

impl Module for BatchNorm2d {
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Result<Tensor> {
        let (weight, bias) = (self.weight.get(), self.bias.get());
        if !cx.is_training() {
            let (mean, var) = (self.running_mean.get(), self.running_var.get());
            cx.norm_input(x, &mean, &var);
            return match cx.batch_statistics() {
                None => x.batch_norm_eval(&weight, &bias, &mean, &var, EPS),
                Some(0.0) => Ok(x.batch_norm_train(&weight, &bias, EPS)?.y),
                Some(source) => {
                    let (mean, var) = self.mixed_statistics(&x.detach(), source)?;
                    x.batch_norm_eval(&weight, &bias, &mean, &var, EPS)
                }
            };
        }
        let batch = x.batch_norm_train(&weight, &bias, EPS)?;
        self.track(&batch.mean, &batch.unbiased_var)?;
        Ok(batch.y)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
        visitor.parameter("bias", &self.bias);
        visitor.buffer("running_mean", &self.running_mean);
        visitor.buffer("running_var", &self.running_var);
    }

    fn describe(&self) -> String {
        format!("batch norm, {} channels", self.weight.get().numel())
    }
}

/// Layer normalisation over the last dimension (Ba et al. 2016), eps 1e-5.
pub struct LayerNorm {
    weight: Parameter,
    bias: Parameter,
}

impl LayerNorm {
    /// For rows of `width` numbers.
    pub fn new(init: &mut Init, width: usize) -> Result<LayerNorm> {
        Ok(LayerNorm { weight: init.constant([width], 1.0)?, bias: init.constant([width], 0.0)? })
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor, _: &mut Context) -> Result<Tensor> {
        x.layer_norm(&self.weight.get(), &self.bias.get(), EPS)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
        visitor.parameter("bias", &self.bias);
    }

    fn describe(&self) -> String {
        format!("layer norm, {} wide", self.weight.get().numel())
    }
}
