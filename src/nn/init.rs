//! Initial weights, by PyTorch's defaults: weights and biases of convolutions and linear layers are uniform in
//! ±1/√fan_in (`kaiming_uniform_` with a = √5; He et al. 2015), embeddings are standard normal, scales 1 and shifts 0.

use super::Parameter;
use crate::error::Result;
use crate::tensor::{DType, Device, Rng, Shape, Tensor};

/// Hands out initial weights: the same ones for the same seed, whatever the device.
pub struct Init {
    rng: Rng,
    drawn: u64,
    device: Device,
}

impl Init {
    /// Weights for a model on `device`, drawn from `rng`.
    pub fn new(rng: Rng, device: Device) -> Init {
        Init { rng, drawn: 0, device }
    }

    fn next_rng(&mut self) -> Rng {
        self.drawn += 1;
        self.rng.derive(self.drawn)
    }

    /// Uniform in ±1/√fan_in.
    pub fn kaiming_uniform(&mut self, shape: impl Into<Shape>, fan_in: usize) -> Result<Parameter> {
        self.uniform(shape, 1.0 / (fan_in.max(1) as f64).sqrt())
    }

    /// Uniform in ±√(6 / (fan_in + fan_out)) (Glorot & Bengio 2010).
    pub fn glorot_uniform(&mut self, shape: impl Into<Shape>, fan_in: usize, fan_out: usize) -> Result<Parameter> {
        self.uniform(shape, (6.0 / (fan_in + fan_out).max(1) as f64).sqrt())
    }

    /// Uniform in ±`bound`.
    fn uniform(&mut self, shape: impl Into<Shape>, bound: f64) -> Result<Parameter> {
        let rng = self.next_rng();
        Ok(Parameter::new(&Tensor::uniform(shape, -bound, bound, DType::F32, self.device, rng)?))
    }

    /// Standard normal.
    pub fn standard_normal(&mut self, shape: impl Into<Shape>) -> Result<Parameter> {
        let rng = self.next_rng();
        Ok(Parameter::new(&Tensor::normal(shape, 0.0, 1.0, DType::F32, self.device, rng)?))
    }

    /// Every element `value`.
    pub fn constant(&mut self, shape: impl Into<Shape>, value: f64) -> Result<Parameter> {
        Ok(Parameter::new(&Tensor::full(shape, value, DType::F32, self.device)?))
    }

    /// A buffer, uniform in ±`bound`.
    pub fn uniform_buffer(&mut self, shape: impl Into<Shape>, bound: f64) -> Result<Parameter> {
        let rng = self.next_rng();
        Ok(Parameter::buffer(&Tensor::uniform(shape, -bound, bound, DType::F32, self.device, rng)?))
    }

    /// A buffer with every element `value`.
    pub fn constant_buffer(&mut self, shape: impl Into<Shape>, value: f64) -> Result<Parameter> {
        Ok(Parameter::buffer(&Tensor::full(shape, value, DType::F32, self.device)?))
    }
}
