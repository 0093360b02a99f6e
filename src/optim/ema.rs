//! The exponential moving average of a model's weights: a smoother copy for evaluation, or a teacher that follows its student.

use crate::error::{Error, Result};
use crate::nn::{Module, Parameter};
use crate::tensor::Tensor;
use std::collections::BTreeMap;

/// `average ← momentum · average + (1 − momentum) · value`, for parameters and buffers.
pub struct Ema {
    momentum: f64,
    averages: BTreeMap<String, Tensor>,
}

impl Ema {
    /// An average that starts at the module's values.
    ///
    /// # Errors
    /// `momentum` is not in [0, 1].
    pub fn new(module: &dyn Module, momentum: f64) -> Result<Ema> {
        match (0.0..=1.0).contains(&momentum) {
            true => Ok(Ema { momentum, averages: module.state() }),
            false => Err(Error::argument("ema", format!("the momentum must be in [0, 1], found {momentum}"))),
        }
    }

    /// Takes in the module's values of now.
    pub fn update(&mut self, module: &dyn Module) -> Result<()> {
        for (name, value) in module.state() {
            if let Some(average) = self.averages.get_mut(&name) {
                value.backend().lerp(average, &value, self.momentum)?;
            }
        }
        Ok(())
    }

    /// The averages, by name.
    pub fn state(&self) -> &BTreeMap<String, Tensor> {
        &self.averages
    }

    /// Gives the averages to a module of the same architecture.
    ///
    /// # Errors
    /// The module has a tensor of another shape.
    pub fn copy_to(&self, module: &dyn Module) -> Result<()> {
        let cells: Vec<(String, Parameter)> = module.parameters().into_iter().chain(module.buffers()).collect();
        for (name, cell) in cells {
            if let Some(average) = self.averages.get(&name) {
                cell.set(average)?;
            }
        }
        Ok(())
    }
}
