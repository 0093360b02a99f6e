//! Making a network smaller while it is trained: weights of few bits, and weights that are 0.

mod inputs;
mod prune;
mod quantize;

pub use inputs::{input_ranges, largest_inputs, round_inputs, set_input_ranges};
pub use prune::{Masks, Pruning};
pub use quantize::Quantization;

use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Module, Parameter};
use std::fmt;

/// What is done to a network while it is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Compression {
    /// What its weights are rounded to.
    pub quantization: Option<Quantization>,
    /// Which of its weights become 0.
    pub pruning: Option<Pruning>,
}

impl Compression {
    /// What `--quantize` and `--prune` ask for; an empty text asks for nothing.
    ///
    /// # Errors
    /// Something else is written there, or the two do not go together.
    pub fn parse(quantize: &str, prune: &str) -> Result<Compression> {
        let quantization = (!quantize.is_empty()).then(|| Quantization::named(quantize)).transpose()?;
        let pruning = (!prune.is_empty()).then(|| Pruning::parse(prune)).transpose()?;
        if let (Some(Quantization::Binary), Some(_)) = (quantization, pruning) {
            let reason = "goes with int8 and ternary, but binary weights cannot be 0; choose one of the two";
            return Err(Error::argument("prune", reason));
        }
        Ok(Compression { quantization, pruning })
    }

    /// Whether nothing is done.
    pub fn is_none(self) -> bool {
        self == Compression::default()
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let parts = [self.quantization.map(|q| q.name().to_string()), self.pruning.map(|p| p.to_string())];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// The weights of a network's layers by name, in order: what is compressed. Biases and scales are not.
fn weights(model: &Model) -> Vec<(String, Parameter)> {
    model.parameters().into_iter().filter(|(_, parameter)| parameter.get().shape().rank() >= 2).collect()
}

/// The share of a network's weights that are 0.
///
/// # Errors
/// They cannot be read back from the device.
pub fn sparsity(model: &Model) -> Result<f64> {
    let (mut zeros, mut all) = (0, 0);
    for (_, weight) in weights(model) {
        let values: Vec<f32> = weight.get().to_vec()?;
        zeros += values.iter().filter(|value| **value == 0.0).count();
        all += values.len();
    }
    Ok(zeros as f64 / all.max(1) as f64)
}

#[cfg(test)]
mod tests;
