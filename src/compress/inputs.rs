//! Activations of 8 bits: each layer's input is rounded to 255 levels. In training they reach from −m to m with m the largest magnitude of
//! this batch, so that nothing is cut off and every gradient passes; in evaluation m is the average of the batches' largest magnitudes, and
//! what lies beyond is cut off (Jacob et al. 2018, section 3.1).
//!
//! What differs from the paper: there the average is used in training as well, from some 50,000 steps on, and activations stay in `f32` before
//! that. Trainings here are shorter than that, and a range of the first, random weights would cut off what is learned afterwards. The momentum
//! of the average therefore grows, too, and levels are symmetric round 0.

use super::quantize::{largest, INT8_LIMIT};
use super::{weights, Quantization};
use crate::error::Result;
use crate::models::Model;
use crate::nn::{InputRange, View};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How much of the average a batch leaves as it was, at most. After few batches it is less: those of early weights are soon forgotten.
const MOMENTUM: f32 = 0.99;

/// A layer that computes with rounded weights, or with an input of 8 bits, or both.
pub(super) struct Rounded {
    /// What the weight is rounded to; `None` once it is.
    weight: Option<Quantization>,
    /// The range of the input; `None` where it stays in `f32`.
    range: Option<Mutex<InputRange>>,
}

impl Rounded {
    /// A layer under training.
    pub(super) fn training(quantization: Quantization) -> Rounded {
        let range = quantization.rounds_inputs().then(Mutex::default);
        Rounded { weight: Some(quantization), range }
    }
}

impl View for Rounded {
    fn weight(&self, weight: &Tensor) -> Result<Tensor> {
        self.weight.map_or(Ok(weight.clone()), |quantization| quantization.round(weight))
    }

    fn input(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        let Some(range) = &self.range else { return Ok(x.clone()) };
        let mut average = range.lock().unwrap_or_else(PoisonError::into_inner);
        let largest = match training {
            true => {
                let largest = largest(&x.to_vec()?) as f32;
                *average = with(*average, largest);
                largest
            }
            false => average.largest,
        };
        match largest {
            0.0 => Ok(x.clone()),
            largest => x.fake_quantize(f64::from(largest) / f64::from(INT8_LIMIT), INT8_LIMIT),
        }
    }

    fn range(&self) -> Option<InputRange> {
        self.range.as_ref().map(|range| *range.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_range(&self, to: InputRange) {
        if let Some(range) = &self.range {
            *range.lock().unwrap_or_else(PoisonError::into_inner) = to;
        }
    }
}

/// The average after one more batch: the batch's own after the first.
fn with(average: InputRange, largest: f32) -> InputRange {
    let InputRange { largest: before, batches } = average;
    let momentum = match batches {
        0 => 0.0,
        t => ((1.0 + t as f32) / (10.0 + t as f32)).min(MOMENTUM),
    };
    InputRange { largest: momentum * before + (1.0 - momentum) * largest, batches: batches.saturating_add(1) }
}

/// The ranges of a network's layers, by the names of their weights; empty where inputs are not rounded.
pub fn input_ranges(model: &Model) -> BTreeMap<String, InputRange> {
    weights(model).into_iter().filter_map(|(name, weight)| Some((name, weight.view()?.range()?))).collect()
}

/// Sets the ranges of a network under training.
pub fn set_input_ranges(model: &Model, ranges: &BTreeMap<String, InputRange>) {
    for (name, weight) in weights(model) {
        if let (Some(view), Some(range)) = (weight.view(), ranges.get(&name)) {
            view.set_range(*range);
        }
    }
}

/// From now on a finished network rounds the inputs of the layers that have a range; the largest magnitudes are by the weights' names.
pub fn round_inputs(model: &Model, largest: &BTreeMap<String, f32>) {
    for (name, weight) in weights(model) {
        let view = |largest: &f32| {
            let range = InputRange { largest: *largest, ..InputRange::default() };
            Arc::new(Rounded { weight: None, range: Some(Mutex::new(range)) }) as Arc<dyn View>
        };
        weight.compute_with(largest.get(&name).map(view));
    }
}

/// What [`round_inputs`] takes, of a network under training or a finished one.
pub fn largest_inputs(model: &Model) -> BTreeMap<String, f32> {
    input_ranges(model).into_iter().map(|(name, range)| (name, range.largest)).collect()
}
