//! The kernel emulator: the CUDA kernels, compiled by the C++ compiler, run on the processor.
//!
//! Each CUDA thread is a coroutine; between two rendezvous the threads of a block run one after another in a random order, and the
//! blocks of a grid in a random order in parallel, all determined by a seed ([`with_schedule`]). Every access to memory is checked
//! before it happens, so that a bug is an error that names kernel, block and thread (see `access`), and never a crash.
//!
//! - `compile.rs` (build script) and `device.cuh`: from CUDA to C++;
//! - `memory`: device memory, who lives where, and who wrote what;
//! - `block`: a block's threads and their rendezvous;
//! - `access`: the checks;
//! - `copies`: asynchronous copies to shared memory;
//! - `matrix`: what a warp does on tensor cores;
//! - `hooks`: what compiled kernels call.

mod access;
mod block;
mod copies;
mod hooks;
mod kernels;
mod matrix;
mod memory;

use super::driver::{DeviceInfo, DevicePtr, Driver, Graph, Launch, MemoryUse};
use crate::error::{Error, Result};
use block::Grid;
use memory::Memory;
use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Bytes of device memory: enough for tests, little enough to run out of.
const MEMORY: u64 = 4 << 30;

thread_local! {
    static SCHEDULE: Cell<u64> = const { Cell::new(0) };
}

/// Runs `body`, whose launches run their threads and blocks in the order of this seed. A correct kernel computes the same under every
/// seed.
pub fn with_schedule<R>(seed: u64, body: impl FnOnce() -> R) -> R {
    struct Restore(u64);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCHEDULE.set(self.0);
        }
    }
    let _restore = Restore(SCHEDULE.replace(seed));
    body()
}

/// The emulated device.
#[derive(Clone)]
pub struct Emulator(Arc<Inner>);

struct Inner {
    info: DeviceInfo,
    memory: Memory,
    /// What is being recorded, if anything.
    recording: Mutex<Option<Vec<Step>>>,
}

/// A step of a recording.
enum Step {
    Launch(Launch),
    Copy { from: DevicePtr, to: DevicePtr, bytes: usize },
}

impl Default for Emulator {
    fn default() -> Emulator {
        let info = DeviceInfo {
            name: "kernel emulator".to_string(),
            capability: (8, 0),
            multiprocessors: 2,
            memory: MEMORY,
            cache: 0,
        };
        Emulator(Arc::new(Inner { info, memory: Memory::new(MEMORY), recording: Mutex::new(None) }))
    }
}

impl Emulator {
    /// An emulated device with empty memory.
    pub fn new() -> Emulator {
        Emulator::default()
    }

    /// Whether the step was recorded instead of carried out.
    fn records(&self, step: impl FnOnce() -> Step) -> bool {
        let mut recording = self.0.recording.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match recording.as_mut() {
            Some(steps) => {
                steps.push(step());
                true
            }
            None => false,
        }
    }

    fn carry_out(&self, step: &Step) -> Result<()> {
        match step {
            Step::Launch(launch) => Grid::run(launch, &self.0.memory, SCHEDULE.get()),
            Step::Copy { from, to, bytes } => self.0.memory.copy(*from, *to, *bytes),
        }
    }

    /// Copies between host and device cannot be part of a recording.
    fn refuse_while_recording(&self, what: &str) -> Result<()> {
        match self.0.recording.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).is_some() {
            true => Err(Error::Device { op: "record", reason: format!("{what} while launches are recorded") }),
            false => Ok(()),
        }
    }
}

impl Driver for Emulator {
    fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    fn allocate(&self, bytes: usize) -> Result<DevicePtr> {
        self.0.memory.allocate(bytes)
    }

    fn free(&self, memory: DevicePtr, _bytes: usize) {
        self.0.memory.free(memory);
    }

    fn memory_use(&self) -> Result<MemoryUse> {
        Ok(self.0.memory.usage())
    }

    fn upload(&self, to: DevicePtr, from: &[u8]) -> Result<()> {
        self.refuse_while_recording("an upload")?;
        self.0.memory.write(to, from)
    }

    fn download(&self, from: DevicePtr, to: &mut [u8]) -> Result<()> {
        self.refuse_while_recording("a download")?;
        self.0.memory.read(from, to)
    }

    fn copy(&self, from: DevicePtr, to: DevicePtr, bytes: usize) -> Result<()> {
        match self.records(|| Step::Copy { from, to, bytes }) {
            true => Ok(()),
            false => self.carry_out(&Step::Copy { from, to, bytes }),
        }
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        match self.records(|| Step::Launch(launch.clone())) {
            true => Ok(()),
            false => Grid::run(launch, &self.0.memory, SCHEDULE.get()),
        }
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Graph>> {
        let slot = || self.0.recording.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if slot().replace(Vec::new()).is_some() {
            return Err(Error::Device { op: "record", reason: "a recording within a recording".to_string() });
        }
        let done = work();
        let steps = slot().take().unwrap_or_default();
        done?;
        Ok(Box::new(Recording { emulator: self.clone(), steps }))
    }
}

struct Recording {
    emulator: Emulator,
    steps: Vec<Step>,
}

impl Graph for Recording {
    fn replay(&self) -> Result<()> {
        self.steps.iter().try_for_each(|step| self.emulator.carry_out(step))
    }
}
