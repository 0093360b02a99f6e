//! Activations of 8 bits: each layer's input is rounded to 255 levels of a range that follows what the layer sees while training
//! (Jacob et al. 2018, section 3.1): the largest magnitude of a batch, averaged over batches.

use super::quantize::{largest, INT8_LIMIT};
use super::{weights, Quantization};
use crate::error::Result;
use crate::models::Model;
use crate::nn::View;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// How much of the range each batch leaves as it was.
const MOMENTUM: f32 = 0.99;

/// A layer that computes with rounded weights, or with an input of 8 bits, or both.
pub(super) struct Rounded {
    /// What the weight is rounded to; `None` once it is.
    weight: Option<Quantization>,
    /// The range of the input; `None` where it stays in `f32`, 0 before the first batch.
    range: Option<Mutex<f32>>,
}

impl Rounded {
    /// A layer under training.
    pub(super) fn training(quantization: Quantization) -> Rounded {
        let range = quantization.rounds_inputs().then(|| Mutex::new(0.0));
        Rounded { weight: Some(quantization), range }
    }
}

impl View for Rounded {
    fn weight(&self, weight: &Tensor) -> Result<Tensor> {
        self.weight.map_or(Ok(weight.clone()), |quantization| quantization.round(weight))
    }

    fn input(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        let Some(range) = &self.range else { return Ok(x.clone()) };
        let mut range = range.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if training {
            let now = largest(&x.to_vec()?) as f32;
            *range = if *range == 0.0 { now } else { MOMENTUM * *range + (1.0 - MOMENTUM) * now };
        }
        match *range {
            0.0 => Ok(x.clone()),
            range => x.fake_quantize(f64::from(range) / f64::from(INT8_LIMIT), INT8_LIMIT),
        }
    }

    fn range(&self) -> Option<f32> {
        self.range.as_ref().map(|range| *range.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn set_range(&self, to: f32) {
        if let Some(range) = &self.range {
            *range.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = to;
        }
    }
}

/// The ranges of a network's layers, by the names of their weights; empty where inputs are not rounded.
pub fn input_ranges(model: &Model) -> BTreeMap<String, f32> {
    weights(model).into_iter().filter_map(|(name, weight)| Some((name, weight.view()?.range()?))).collect()
}

/// Sets the ranges of a network under training.
pub fn set_input_ranges(model: &Model, ranges: &BTreeMap<String, f32>) {
    for (name, weight) in weights(model) {
        if let (Some(view), Some(range)) = (weight.view(), ranges.get(&name)) {
            view.set_range(*range);
        }
    }
}

/// From now on a finished network rounds the inputs of the layers that have a range.
pub fn round_inputs(model: &Model, ranges: &BTreeMap<String, f32>) {
    for (name, weight) in weights(model) {
        let view = |range: &f32| Arc::new(Rounded { weight: None, range: Some(Mutex::new(*range)) }) as Arc<dyn View>;
        weight.compute_with(ranges.get(&name).map(view));
    }
}
