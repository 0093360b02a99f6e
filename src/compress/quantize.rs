//! Quantisation-aware training: the forward pass computes with rounded weights, the gradient passes straight through to weights in `f32`
//! that are kept beside them, and at the end the rounded ones are the network's (Jacob et al. 2018; Polino, Pascanu & Alistarh 2018 for doing
//! so while distilling). With int8, the layers' inputs are rounded, too (see `inputs`); with ternary and binary they stay in `f32`.

use super::inputs::{largest_inputs, round_inputs, Rounded};
use super::weights;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Module, Parameter};
use crate::suggest::nearest;
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

/// What weights are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// −127 to 127 times one scale for each layer, the largest weight over 127.
    Int8,
    /// The same with one scale for each filter or output.
    Int8PerChannel,
    /// −α, 0, α (Li, Zhang & Liu 2016): 0 below 0.7 · mean |w|, α the mean |w| of the others.
    Ternary,
    /// −α, α (Rastegari et al. 2016): α the mean |w| of each filter or output.
    Binary,
}

const ALL: [Quantization; 4] =
    [Quantization::Int8, Quantization::Int8PerChannel, Quantization::Ternary, Quantization::Binary];

/// The limit of signed 8-bit numbers that are symmetric round 0.
pub(super) const INT8_LIMIT: u32 = 127;

impl Quantization {
    /// The name on the command line and in saved models.
    pub fn name(self) -> &'static str {
        match self {
            Quantization::Int8 => "int8",
            Quantization::Int8PerChannel => "int8-per-channel",
            Quantization::Ternary => "ternary",
            Quantization::Binary => "binary",
        }
    }

    /// The quantisation with this name.
    ///
    /// # Errors
    /// There is none; the error names the nearest.
    pub fn named(name: &str) -> Result<Quantization> {
        ALL.into_iter().find(|q| q.name() == name).ok_or_else(|| {
            let known = ALL.map(Quantization::name);
            let hint = nearest(name, &known).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
            Error::argument("quantize", format!("there is no `{name}`; {hint}known: {}", known.join(", ")))
        })
    }

    /// Whether the layers' inputs are rounded as well.
    pub(super) fn rounds_inputs(self) -> bool {
        matches!(self, Quantization::Int8 | Quantization::Int8PerChannel)
    }

    /// A weight `[outputs, …]` rounded, with a straight-through gradient.
    ///
    /// # Errors
    /// The weight is not a float tensor with outputs.
    pub fn round(self, weight: &Tensor) -> Result<Tensor> {
        match self {
            Quantization::Int8 => weight.fake_quantize(largest(&weight.to_vec()?) / f64::from(INT8_LIMIT), INT8_LIMIT),
            Quantization::Int8PerChannel => {
                let scale = per_output(weight, |filter| largest(filter) / f64::from(INT8_LIMIT))?;
                weight.div(&scale)?.fake_quantize(1.0, INT8_LIMIT)?.mul(&scale)
            }
            Quantization::Ternary => weight.ternarize(),
            Quantization::Binary => {
                let mean = |values: &[f32]| {
                    values.iter().map(|w| f64::from(w.abs())).sum::<f64>() / values.len().max(1) as f64
                };
                let whole = mean(&weight.to_vec()?).max(f64::MIN_POSITIVE);
                weight.binarize()?.mul(&per_output(weight, |filter| mean(filter) / whole)?)
            }
        }
    }

    /// The weights of a network that are rounded. The first and the last layer of a ternary or binary one keep theirs: there, few bits cost
    /// most accuracy and save least memory (Rastegari et al. 2016).
    fn rounded(self, model: &Model) -> Vec<(String, Parameter)> {
        let weights = weights(model);
        match (self, weights.len()) {
            (Quantization::Ternary | Quantization::Binary, 0..=2) => Vec::new(),
            (Quantization::Ternary | Quantization::Binary, n) => weights[1..n - 1].to_vec(),
            _ => weights,
        }
    }

    /// From now on the network computes with rounded weights.
    pub fn begin(self, model: &Model) {
        for (_, weight) in self.rounded(model) {
            weight.compute_with(Some(Arc::new(Rounded::training(self))));
        }
    }

    /// The rounded weights become the network's own.
    ///
    /// # Errors
    /// See [`Quantization::round`].
    pub fn finish(self, model: &Model) -> Result<()> {
        for (_, weight) in self.rounded(model) {
            let rounded = weight.in_use()?.detach();
            weight.set(&rounded)?;
        }
        round_inputs(model, &largest_inputs(model));
        Ok(())
    }

    /// Bytes of a network's parameters and buffers if each rounded weight takes as few bits as it needs, and each scale 4 bytes.
    pub fn packed_bytes(self, model: &Model) -> usize {
        let all: usize = model.state().values().map(|tensor| tensor.numel() * size_of::<f32>()).sum();
        let saved = |(_, weight): (String, Parameter)| {
            let weight = weight.get();
            let (n, outputs) = (weight.numel(), weight.shape()[0]);
            let (bits, scales) = match self {
                Quantization::Int8 => (8, 1),
                Quantization::Int8PerChannel => (8, outputs),
                Quantization::Ternary => (2, 1),
                Quantization::Binary => (1, outputs),
            };
            let packed = (n * bits).div_ceil(8) + scales * size_of::<f32>();
            n * size_of::<f32>() - packed.min(n * size_of::<f32>())
        };
        all - self.rounded(model).into_iter().map(saved).sum::<usize>()
    }
}

/// The largest magnitude, or 1 where all are 0.
pub(super) fn largest(values: &[f32]) -> f64 {
    match values.iter().fold(0f32, |most, x| most.max(x.abs())) {
        0.0 => 1.0,
        most => f64::from(most),
    }
}

/// A number for each output of a weight `[outputs, …]`, shaped to be multiplied with it. It is a constant.
fn per_output(weight: &Tensor, of: impl Fn(&[f32]) -> f64) -> Result<Tensor> {
    let (shape, values) = (weight.shape(), weight.to_vec::<f32>()?);
    let each = values.len() / shape[0].max(1);
    let numbers: Vec<f32> = values.chunks(each.max(1)).map(|filter| of(filter) as f32).collect();
    let mut dims = vec![1; shape.rank()];
    dims[0] = shape[0];
    Tensor::from_slice(&numbers, Shape::new(&dims)?, weight.device())
}
