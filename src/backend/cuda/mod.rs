//! The CUDA backend: our kernels (`kernels/*.cu`) on an NVIDIA GPU, or on the emulator where there is none.
//!
//! `driver` says what is asked of a device, `device` puts tensors into its memory, `launch` chooses grids and blocks, and one file
//! for each kernel family turns a call of the [`Backend`] into launches.

mod backend;
#[cfg(feature = "cuda")]
pub mod binaries;
pub mod bundle;
mod conv2d;
mod conv2d_3x3;
mod device;
pub mod driver;
mod elementwise;
#[cfg(feature = "emulator")]
pub mod emulator;
mod format;
#[cfg(feature = "cuda")]
pub mod gpu;
mod images;
pub mod launch;
mod layout;
mod limits;
mod losses;
mod matmul;
mod memory;
mod norm;
#[cfg(feature = "cuda")]
pub mod nvrtc;
mod optim;
mod pool2d;
mod relations;
mod softmax;
mod tuner;
mod warpgroups;
mod winograd;

pub use device::CudaDevice;

use super::Backend;
use crate::error::Result;
use crate::tensor::Device;
use bundle::LaunchCounts;
use driver::Driver;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The backend of a GPU or of the emulator.
pub fn of(device: Device) -> &'static dyn Backend {
    cuda(device)
}

/// A device by its name; it is opened at its first use and stays open.
fn cuda(device: Device) -> &'static CudaDevice {
    static DEVICES: Mutex<BTreeMap<String, &'static CudaDevice>> = Mutex::new(BTreeMap::new());
    let mut devices = DEVICES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    devices.entry(device.to_string()).or_insert_with(|| Box::leak(Box::new(CudaDevice::new(device))))
}

/// The driver of a GPU or of the emulator.
///
/// # Errors
/// There is no such device here.
pub fn driver(device: Device) -> Result<&'static Arc<dyn Driver>> {
    cuda(device).driver()
}

/// What was launched in bundles so far.
///
/// # Errors
/// There is no such device here.
pub fn launch_counts(device: Device) -> Result<LaunchCounts> {
    Ok(cuda(device).bundler()?.counts())
}

/// GPUs of this machine.
pub fn gpu_count() -> u32 {
    #[cfg(feature = "cuda")]
    let count = gpu::Gpu::count();
    #[cfg(not(feature = "cuda"))]
    let count = 0;
    count
}
