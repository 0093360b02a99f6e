//! What a device can do at best (`kernels/limits.cu`), and the state in which it is measured.

use super::device::{args, CudaDevice};
use super::launch::{Config, THREADS};
use super::memory::address;
use crate::backend::precision::{self, Precision};
use crate::error::Result;
use crate::tensor::DType;

/// Overwrites more memory than the cache holds, and so much that the device is busy while the host starts what is measured.
pub(super) fn empty_cache(device: &CudaDevice) -> Result<()> {
    /// What others overwrite for the same purpose, some 100 µs on a large GPU.
    const LEAST: usize = 256 << 20;
    let info = device.driver()?.info();
    // The emulator has no cache, and would take minutes.
    let least = if info.cache == 0 { 0 } else { LEAST };
    let bytes = least.max(2 * info.cache as usize);
    super::elementwise::fill(device, &[bytes / DType::F32.size()].into(), 0.0).map(drop)
}

/// Multiply-adds on the units that products use at the active precision.
pub(super) fn multiply_adds(device: &CudaDevice, rounds: usize) -> Result<f64> {
    /// As in the kernels.
    const CHAINS: usize = 8;
    /// Threads that a multiprocessor holds.
    const BLOCKS_PER_MULTIPROCESSOR: usize = 2048 / THREADS as usize;
    // Multiply-adds of a warp in a chain and round.
    let (kernel, of_a_warp) = match precision::active() {
        Precision::F32 => ("multiply_adds", 32),
        Precision::Tf32 => ("multiply_adds_tf32", 16 * 8 * 8),
        Precision::Bf16 => ("multiply_adds_bf16", 16 * 8 * 16),
        Precision::F16 => ("multiply_adds_f16", 16 * 8 * 16),
    };
    let blocks = device.driver()?.info().multiprocessors as usize * BLOCKS_PER_MULTIPROCESSOR;
    let threads = blocks * THREADS as usize;
    let out = device.floats([threads])?;
    let config = Config { grid: [blocks as u32, 1, 1], block: THREADS };
    device.launch(kernel, config, args![address(&out), rounds as u32], &[&out])?;
    Ok(2.0 * (threads / 32 * of_a_warp * CHAINS * rounds) as f64)
}
