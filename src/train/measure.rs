//! What a model costs to run: latency, throughput, memory.

use crate::autograd::no_grad;
use crate::backend;
use crate::error::Result;
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::{DType, Device, Rng, Tensor};

/// The time of one forward pass, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Images in a pass.
    pub batch: usize,
    /// Half of the passes were faster.
    pub median_ms: f64,
    /// 95 % of the passes were faster.
    pub p95_ms: f64,
}

/// What a model costs to run.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// A single image.
    pub single: Latency,
    /// A batch of 128.
    pub batch: Latency,
    /// Images per second at batch 128.
    pub throughput: f64,
    /// Bytes of the weights.
    pub parameter_bytes: usize,
    /// The most bytes that a pass over 128 images needs besides the weights and the images.
    pub peak_activation_bytes: usize,
}

const BATCH: usize = 128;
const WARM_UP: usize = 3;

/// Times forward passes over random images on this machine: medians after a warm-up.
pub fn measure(model: &Model, device: Device) -> Result<Footprint> {
    let single = single_latency(model, device)?;
    let batch = latency(model, device, BATCH, 15)?;
    let parameter_bytes = model.state().values().map(|t| t.numel() * t.dtype().size()).sum();
    let images = images(model, device, BATCH)?;
    let backend = backend::of(device);
    let peak_activation_bytes = backend.peak_memory(&mut || pass(model, &images))?;
    let throughput = BATCH as f64 / (batch.median_ms / 1e3);
    Ok(Footprint { single, batch, throughput, parameter_bytes, peak_activation_bytes })
}

/// Times forward passes of a single random image on this machine.
pub fn single_latency(model: &Model, device: Device) -> Result<Latency> {
    latency(model, device, 1, 100)
}

fn latency(model: &Model, device: Device, batch: usize, passes: usize) -> Result<Latency> {
    let images = images(model, device, batch)?;
    // The emulator's times say nothing and take long.
    let (warm_up, passes) = if device == Device::Emulator { (0, 1) } else { (WARM_UP, passes) };
    for _ in 0..warm_up {
        pass(model, &images)?;
    }
    let mut ms = Vec::with_capacity(passes);
    for _ in 0..passes {
        ms.push(1e3 * backend::of(device).time(&mut || pass(model, &images))?);
    }
    Ok(Latency { batch, median_ms: quantile(&mut ms, 50), p95_ms: quantile(&mut ms, 95) })
}

/// The time that so many percent of these do not exceed; it sorts them.
///
/// # Panics
/// There are none.
pub fn quantile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() - 1) * percent / 100]
}

fn images(model: &Model, device: Device, batch: usize) -> Result<Tensor> {
    let [c, h, w] = model.task().input;
    Tensor::uniform([batch, c, h, w], 0.0, 1.0, DType::F32, device, Rng::new(0, 0))
}

fn pass(model: &Model, images: &Tensor) -> Result<()> {
    backend::bundled(images.device(), || no_grad(|| model.forward(images, &mut Context::eval()))).map(drop)
}
