//! What this machine has that kdengine can use, and what to do about what is missing.

use crate::backend::cpu::kernels::isa::{self, Isa};
use crate::backend::precision;
use crate::folders;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Everything that `kdengine doctor` reports.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// The instruction sets that kernels are compiled for and this processor has, the fastest first.
    pub instruction_sets: Vec<&'static str>,
    /// The one in use.
    pub instruction_set: &'static str,
    /// Threads that can run at a time.
    pub threads: usize,
    /// Bytes of memory, where the system tells.
    pub memory: Option<u64>,
    /// GPUs, in the order of their numbers.
    pub gpus: Vec<GpuFacts>,
    /// The driver's version, or why there is none.
    pub driver: Result<String, String>,
    /// How the CUDA kernels got in.
    pub kernels: KernelFacts,
    /// Whether the emulator of the CUDA kernels is built in.
    pub emulator: bool,
    /// Where data sets and compiled kernels are kept.
    pub cache: Option<PathBuf>,
    /// What could be better, and how.
    pub advice: Vec<String>,
}

/// What a report says about where and how its numbers were made.
pub fn facts(device: &str) -> BTreeMap<String, String> {
    let facts = [
        ("version", concat!("kdengine ", env!("CARGO_PKG_VERSION")).to_string()),
        ("processor", processor()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("device", device.to_string()),
        ("precision", precision::active().to_string()),
        ("threads", rayon::current_num_threads().to_string()),
        ("command line", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
    ];
    facts.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}

/// A GPU.
#[derive(Clone, Debug, Serialize)]
pub struct GpuFacts {
    /// The name to give to `--device`.
    pub device: String,
    /// The product's name.
    pub name: String,
    /// Compute capability.
    pub capability: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Multiprocessors.
    pub multiprocessors: u32,
}

/// How the CUDA kernels got into the program.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "how")]
pub enum KernelFacts {
    /// Compiled when the program was built, for these targets.
    Built { targets: Vec<String> },
    /// As sources, compiled at their first use by this version of nvrtc.
    RunTime { nvrtc: String },
    /// They cannot be used, and why.
    Absent { reason: String },
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Machine {
        let mut machine = Machine {
            processor: processor(),
            instruction_sets: Isa::available().map(Isa::name).collect(),
            instruction_set: isa::active().name(),
            threads: rayon::current_num_threads(),
            memory: memory(),
            gpus: gpus(),
            driver: driver(),
            kernels: kernels(),
            emulator: cfg!(feature = "emulator"),
            cache: folders::cache(),
            advice: Vec::new(),
        };
        machine.advice = machine.advise();
        machine
    }

    fn advise(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if !cfg!(feature = "cuda") {
            advice
                .push("this kdengine was built without CUDA; build it with `--features cuda` to use a GPU".to_string());
        }
        if self.instruction_set == Isa::Portable.name() && self.instruction_sets.len() > 1 {
            advice.push(format!("{} is set and slows the processor down; unset it", isa::ISA_VARIABLE));
        }
        match (&self.driver, self.gpus.is_empty()) {
            (Err(_), _) => {
                advice.push("to use an NVIDIA GPU, install its driver; --device cpu needs nothing".to_string())
            }
            (Ok(_), true) => {
                advice.push("the driver is there but sees no GPU; look at CUDA_VISIBLE_DEVICES".to_string())
            }
            (Ok(_), false) => {}
        }
        if let (KernelFacts::Absent { reason }, false) = (&self.kernels, self.gpus.is_empty()) {
            advice.push(format!("the GPU cannot be used: {reason}"));
        }
        advice
    }
}

/// The processor's name where the system tells it.
pub(crate) fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    name.map_or("unknown".to_string(), |name| name.trim().to_string())
}

fn memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kilobytes: u64 =
        info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse().ok()?;
    Some(1024 * kilobytes)
}

#[cfg(feature = "cuda")]
mod cuda {
    use super::{GpuFacts, KernelFacts};
    use crate::backend::cuda::binaries::{self, Origin};
    use crate::backend::cuda::gpu::{self, Gpu};
    use crate::backend::cuda::nvrtc::HOW_TO_INSTALL;
    use crate::Device;

    pub fn gpus() -> Vec<GpuFacts> {
        let facts = |number| {
            let info = Gpu::describe(number).ok()?;
            let ((major, minor), device) = (info.capability, Device::Cuda(number).to_string());
            let (capability, multiprocessors) = (format!("{major}.{minor}"), info.multiprocessors);
            Some(GpuFacts { device, name: info.name, capability, memory: info.memory, multiprocessors })
        };
        (0..Gpu::count()).filter_map(facts).collect()
    }

    pub fn driver() -> Result<String, String> {
        gpu::driver_version().map(|(major, minor)| format!("CUDA {major}.{minor}"))
    }

    pub fn kernels() -> KernelFacts {
        match binaries::origin() {
            Origin::Built(targets) => KernelFacts::Built { targets },
            Origin::RunTime((major, minor)) => KernelFacts::RunTime { nvrtc: format!("{major}.{minor}") },
            Origin::Absent(reason) => KernelFacts::Absent { reason: format!("{reason}; {HOW_TO_INSTALL}") },
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use super::{GpuFacts, KernelFacts};

    const WITHOUT: &str = "this kdengine was built without CUDA";

    pub fn gpus() -> Vec<GpuFacts> {
        Vec::new()
    }

    pub fn driver() -> Result<String, String> {
        Err(WITHOUT.to_string())
    }

    pub fn kernels() -> KernelFacts {
        KernelFacts::Absent { reason: WITHOUT.to_string() }
    }
}

use cuda::{driver, gpus, kernels};
