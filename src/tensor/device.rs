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
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Device::Cpu => "cpu",
            Device::Reference => "reference",
        })
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Device, Error> {
        match name {
            "cpu" => Ok(Device::Cpu),
            "reference" => Ok(Device::Reference),
            _ => Err(Error::argument("device", format!("unknown device `{name}`; use `cpu` or `reference`"))),
        }
    }
}
