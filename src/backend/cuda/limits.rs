//! What a device can do at best (`kernels/limits.cu`), and the state in which it is measured.

use super::device::{args, CudaDevice};
use super::launch::{Config, THREADS};
use super::memory::address;
use crate::error::Result;
use crate::tensor::DType;

/// Overwrites more memory than the cache holds.
pub(super) fn empty_cache(device: &CudaDevice) -> Result<()> {
    let bytes = 2 * device.driver()?.info().cache as usize;
    super::elementwise::fill(device, &[bytes / DType::F32.size()].into(), 0.0).map(drop)
}

pub(super) fn multiply_adds(device: &CudaDevice, rounds: usize) -> Result<f64> {
    /// As in the kernel.
    const CHAINS: usize = 8;
    /// Threads that a multiprocessor holds.
    const BLOCKS_PER_MULTIPROCESSOR: usize = 2048 / THREADS as usize;
    let blocks = device.driver()?.info().multiprocessors as usize * BLOCKS_PER_MULTIPROCESSOR;
    let threads = blocks * THREADS as usize;
    let out = device.floats([threads])?;
    let config = Config { grid: [blocks as u32, 1, 1], block: THREADS };
    device.launch("multiply_adds", config, args![address(&out), rounds as u32], &[&out])?;
    Ok(2.0 * (threads * CHAINS * rounds) as f64)
}
