//! The exponential moving average of a model's weights: a smoother copy for evaluation, or a teacher that follows its student.

use crate::error::{Error, Result};
use crate::nn::{Module, Parameter};
use std::collections::BTreeMap;

/// `average ← momentum · average + (1 − momentum) · value`, for parameters and buffers of two modules of one architecture.
///
/// # Errors
/// `momentum` is not in [0, 1], or the modules differ.
pub fn follow(average: &dyn Module, module: &dyn Module, momentum: f64) -> Result<()> {
    if !(0.0..=1.0).contains(&momentum) {
        return Err(Error::argument("ema", format!("the momentum must be in [0, 1], found {momentum}")));
    }
    let cells = |module: &dyn Module| -> BTreeMap<String, Parameter> {
        module.parameters().into_iter().chain(module.buffers()).collect()
    };
    let values = cells(module);
    for (name, cell) in cells(average) {
        let missing =
            || Error::argument("ema", format!("`{name}` has nothing to follow; use one architecture for both"));
        let value = values.get(&name).map(Parameter::get).filter(|value| value.shape() == cell.get().shape());
        let value = value.ok_or_else(missing)?;
        value.backend().lerp(&mut cell.write(), &value.detach(), momentum)?;
    }
    Ok(())
}

/// The momentum of update number `step` (from 0), which grows to `momentum`: an average of few values follows the newest closely.
pub fn warmed_up(momentum: f64, step: u64) -> f64 {
    momentum.min((1.0 + step as f64) / (10.0 + step as f64))
}
