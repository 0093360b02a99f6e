//! What the machine can do at best: measured, not looked up.

use super::timing::{Limit, Rate};
use crate::autograd::Cost;
use crate::backend::{self, params::Unary, Backend};
use crate::error::Result;
use crate::tensor::{DType, Device, Tensor};
use serde::Serialize;

/// The fastest copy and the fastest arithmetic of a device.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Bytes a second, read and written, of a large copy.
    pub bytes_per_second: f64,
    /// Floating-point operations a second of fused multiply-adds in registers.
    pub flops_per_second: f64,
}

/// Repetitions, of which the fastest counts.
const TRIES: usize = 5;

impl Limits {
    /// Measures a device, in a second or less.
    pub fn measure(device: Device) -> Result<Limits> {
        let backend = backend::of(device);
        Ok(Limits { bytes_per_second: copy_rate(backend, device)?, flops_per_second: multiply_add_rate(backend)? })
    }

    /// How close a run of `seconds` came to the limits.
    pub fn rate(&self, cost: Cost, seconds: f64) -> Rate {
        let (compute, memory) = (cost.flops / self.flops_per_second, cost.bytes / self.bytes_per_second);
        let (limit, least) = if compute > memory { (Limit::Compute, compute) } else { (Limit::Memory, memory) };
        Rate {
            gflops: cost.flops / seconds / 1e9,
            gbytes: cost.bytes / seconds / 1e9,
            limit,
            percent_of_limit: 100.0 * least / seconds,
        }
    }
}

fn fastest(backend: &dyn Backend, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut best = f64::INFINITY;
    for _ in 0..TRIES {
        best = best.min(backend.time(work)?);
    }
    Ok(best)
}

/// ReLU of a tensor that fits in no cache is as fast as a copy.
fn copy_rate(backend: &'static dyn Backend, device: Device) -> Result<f64> {
    let elements = if device == Device::Emulator { 1 << 14 } else { 1 << 26 };
    let x = Tensor::full([elements], 1.0, DType::F32, device)?;
    let seconds = fastest(backend, &mut || backend.unary(Unary::Relu, &x).map(drop))?;
    Ok(8.0 * elements as f64 / seconds)
}

/// Multiply-adds for long enough that starting them does not matter.
fn multiply_add_rate(backend: &dyn Backend) -> Result<f64> {
    const LONG_ENOUGH: f64 = 5e-3;
    let mut rounds = 16;
    loop {
        let mut flops = 0.0;
        let seconds = fastest(backend, &mut || {
            flops = backend.multiply_adds(rounds)?;
            Ok(())
        })?;
        if seconds > LONG_ENOUGH {
            return Ok(flops / seconds);
        }
        rounds *= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_whatever_takes_longer() {
        let limits = Limits { bytes_per_second: 1e9, flops_per_second: 1e10 };
        let rate = limits.rate(Cost { flops: 1e9, bytes: 1e6 }, 0.2);
        assert_eq!((rate.limit, rate.percent_of_limit.round()), (Limit::Compute, 50.0));
        let rate = limits.rate(Cost { flops: 1e3, bytes: 1e8 }, 0.4);
        assert_eq!((rate.limit, rate.percent_of_limit.round()), (Limit::Memory, 25.0));
    }
}
