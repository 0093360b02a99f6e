//! Where tensors live and which backend computes on them.

use crate::error::Error;
use std::fmt;
use std::str::FromStr;

/// A device: the backend that computes on a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// Threads and vector instructions of this machine's processor.
    #[default]
    Cpu,
    /// Plain loops in `f32` or `f64`: slow, obvious, the oracle of every other backend.
    Reference,
    /// An NVIDIA GPU, by its number.
    Cuda(u32),
    /// The CUDA kernels on this machine's processor, strictly checked (feature `emulator`).
    Emulator,
}

impl Device {
    /// Whether tensors of this device lie in the memory of the processor.
    pub fn is_host(self) -> bool {
        matches!(self, Device::Cpu | Device::Reference)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Reference => f.write_str("reference"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
            Device::Emulator => f.write_str("emulator"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Device, Error> {
        match name {
            "cpu" => Ok(Device::Cpu),
            "reference" => Ok(Device::Reference),
            "cuda" => Ok(Device::Cuda(0)),
            "emulator" => Ok(Device::Emulator),
            _ => name.strip_prefix("cuda:").and_then(|number| number.parse().ok()).map(Device::Cuda).ok_or_else(|| {
                let reason = format!("unknown device `{name}`; use `cpu`, `cuda:0`, `auto`, `emulator` or `reference`");
                Error::argument("device", reason)
            }),
        }
    }
}
