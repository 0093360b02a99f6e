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
//! - `barriers`, `products`: what compute capability 9.0 adds: barriers in shared memory, bulk copies, products by four warps;
//! - `hooks`: what compiled kernels call.

mod access;
mod barriers;
mod block;
mod copies;
mod hooks;
mod kernels;
mod matrix;
mod memory;
mod products;

use super::driver::{predecessors, DeviceInfo, DevicePtr, Driver, Graph, Launch, MemoryUse, Node, Step};
use crate::error::Result;
use crate::tensor::Rng;
use block::Grid;
use memory::Memory;
use std::cell::Cell;
use std::sync::Arc;
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
}

impl Default for Emulator {
    fn default() -> Emulator {
        let info = DeviceInfo {
            name: "kernel emulator".to_string(),
            capability: (9, 0),
            multiprocessors: 2,
            memory: MEMORY,
            cache: 0,
        };
        Emulator(Arc::new(Inner { info, memory: Memory::new(MEMORY) }))
    }
}

impl Emulator {
    /// An emulated device with empty memory.
    pub fn new() -> Emulator {
        Emulator::default()
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
        self.0.memory.write(to, from)
    }

    fn download(&self, from: DevicePtr, to: &mut [u8]) -> Result<()> {
        self.0.memory.read(from, to)
    }

    fn copy(&self, from: DevicePtr, to: DevicePtr, bytes: usize) -> Result<()> {
        self.0.memory.copy(from, to, bytes)
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        Grid::run(launch, &self.0.memory, SCHEDULE.get())
    }

    fn clusters(&self, kernel: &'static str, _threads: u32) -> u32 {
        /// Fewer than tests have rows, so that each takes several.
        const AT_ONCE: u32 = 2;
        kernels::kernel(kernel).filter(|kernel| kernel.cluster > 1).map_or(0, |_| AT_ONCE)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn time_each(&self, steps: &[Step]) -> Result<Vec<f64>> {
        steps.iter().map(|step| self.time(&mut || self.carry_out(step))).collect()
    }

    fn graph(&self, nodes: &[Node]) -> Result<Box<dyn Graph>> {
        Ok(Box::new(EmulatedGraph { emulator: self.clone(), nodes: nodes.to_vec(), after: predecessors(nodes) }))
    }
}

/// A graph whose steps come in any order that their lanes allow, by the schedule's seed.
struct EmulatedGraph {
    emulator: Emulator,
    nodes: Vec<Node>,
    after: Vec<Vec<usize>>,
}

impl Graph for EmulatedGraph {
    fn set(&mut self, number: usize, step: &Step) -> Result<()> {
        self.nodes[number].step = step.clone();
        Ok(())
    }

    fn launch(&self) -> Result<()> {
        let mut random = Rng::new(SCHEDULE.get(), self.nodes.len() as u64).sequence();
        let (mut left, mut done) = ((0..self.nodes.len()).collect::<Vec<_>>(), vec![false; self.nodes.len()]);
        while !left.is_empty() {
            let ready: Vec<usize> =
                (0..left.len()).filter(|&i| self.after[left[i]].iter().all(|&earlier| done[earlier])).collect();
            let number = left.remove(ready[random.next_u32() as usize % ready.len()]);
            self.emulator.carry_out(&self.nodes[number].step)?;
            done[number] = true;
        }
        Ok(())
    }
}
