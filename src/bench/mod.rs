//! Benchmarks: cases, how they are timed, and what the machine could do at best.
//!
//! The command `bench` and the programs in `benches/` run the same cases. Names follow the PyTorch programs that they are compared
//! with, so that two outputs join on `what`.

mod baseline;
mod cases;
mod convolutions;
mod kernels;
mod limits;
mod losses;
mod profile;
mod steps;
mod timing;

pub use baseline::{load_baseline, load_peer, Comparison};
pub use cases::Case;
pub use limits::Limits;
pub use profile::{profile, profile_work, Part, Profile};
pub use steps::{custom_step, Mode};
pub use timing::{measure, Measurement};

use crate::error::Result;
use crate::tensor::Device;

/// A family of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Single kernels: convolutions, products, rows, elementwise.
    Kernels,
    /// Whole training and inference steps of the notebook's networks.
    Step,
    /// The fused distillation loss, forward and backward.
    Loss,
}

/// The cases of a suite on a device.
pub fn cases(suite: Suite, device: Device) -> Result<Vec<Case>> {
    match suite {
        Suite::Kernels => kernels::cases(device),
        Suite::Step => steps::cases(device),
        Suite::Loss => losses::cases(device),
    }
}

/// Runs a suite on the CPU and prints one JSON object a line: what the programs in `benches/` do.
pub fn print(suite: Suite) -> Result<()> {
    let limits = Limits::measure(Device::Cpu)?;
    for case in cases(suite, Device::Cpu)? {
        let measurement = measure(case, Device::Cpu, &limits, None)?;
        println!("{}", serde_json::to_string(&measurement).expect("plain values"));
    }
    Ok(())
}
