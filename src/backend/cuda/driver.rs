//! What the CUDA backend asks of a device. Two devices answer: an NVIDIA GPU (`gpu`) and the emulator, which runs the same kernels
//! on the processor (`emulator`).

use crate::backend::Later;
use crate::error::Result;
use crate::tensor::Shape;
use std::collections::BTreeMap;

/// An address in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct DevicePtr(pub u64);

impl DevicePtr {
    /// No memory.
    pub const NULL: DevicePtr = DevicePtr(0);
}

/// What a device is.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// The product's name.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of device memory.
    pub memory: u64,
    /// Bytes of the last cache before it.
    pub cache: u64,
}

/// Device memory now, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Held by this process's tensors.
    pub in_use: u64,
    /// Not held by anybody.
    pub free: u64,
}

/// One argument of a kernel, in its binary form.
#[derive(Clone, Debug, PartialEq)]
pub struct Arg(Box<[u8]>);

impl Arg {
    /// The bytes that the kernel receives.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<T: bytemuck::NoUninit> From<T> for Arg {
    /// A number, an address, or a struct with the layout of the kernel's (`repr(C)`, no padding).
    fn from(value: T) -> Arg {
        Arg(bytemuck::bytes_of(&value).into())
    }
}

/// A kernel launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The name of an `extern "C" __global__` function in `kernels/`.
    pub kernel: &'static str,
    /// Blocks, by x, y and z.
    pub grid: [u32; 3],
    /// Threads a block.
    pub block: u32,
    /// The kernel's arguments, in order.
    pub args: Vec<Arg>,
    /// The shapes of the tensors at work, for messages.
    pub shapes: Vec<Shape>,
}

/// What a device does by itself, in its order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Runs a kernel.
    Launch(Launch),
    /// Copies memory within the device.
    Copy {
        /// Where it is read.
        from: DevicePtr,
        /// Where it is written.
        to: DevicePtr,
        /// How much.
        bytes: usize,
    },
}

/// A step of a graph, in its lane. Steps of one lane come one after another; those of different lanes do not wait for one another, but
/// lane 0 waits for all lanes, and all lanes wait for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The lane.
    pub lane: u32,
    /// What is done.
    pub step: Step,
}

/// For each node, the nodes that it waits for directly.
pub fn predecessors(nodes: &[Node]) -> Vec<Vec<usize>> {
    let (mut common, mut ends) = (None, BTreeMap::new());
    let mut all = Vec::with_capacity(nodes.len());
    for (number, node) in nodes.iter().enumerate() {
        all.push(match node.lane {
            0 if ends.is_empty() => Vec::from_iter(common),
            0 => std::mem::take(&mut ends).into_values().collect(),
            lane => Vec::from_iter(ends.get(&lane).copied().or(common)),
        });
        match node.lane {
            0 => common = Some(number),
            lane => drop(ends.insert(lane, number)),
        }
    }
    all
}

/// Steps that the device takes as one.
pub trait Graph: Send + Sync {
    /// Changes a step's arguments, addresses, or size. It stays of the same kernel.
    fn set(&mut self, number: usize, step: &Step) -> Result<()>;

    /// Starts all of it.
    fn launch(&self) -> Result<()>;
}

/// A device: memory, kernels, and one stream on which everything happens in order.
///
/// Launches are asynchronous where the device is; an error that a kernel causes may be returned by a later call, and then names the
/// launches it may come from.
pub trait Driver: Send + Sync {
    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// Memory for `bytes` bytes (at least 1), aligned to 256, with unspecified contents.
    fn allocate(&self, bytes: usize) -> Result<DevicePtr>;

    /// Gives memory back, once everything launched so far is done with it.
    fn free(&self, memory: DevicePtr, bytes: usize);

    /// How much memory is in use and free.
    fn memory_use(&self) -> Result<MemoryUse>;

    /// Copies from the host; `from` may be changed as soon as this returns.
    fn upload(&self, to: DevicePtr, from: &[u8]) -> Result<()>;

    /// Copies to the host; waits for everything launched so far.
    fn download(&self, from: DevicePtr, to: &mut [u8]) -> Result<()>;

    /// Copies to the host what is there when everything launched so far is done, while the program goes on. The memory may be given back at
    /// once. A device that cannot do so downloads now.
    fn download_later(&self, from: DevicePtr, bytes: usize) -> Result<Later<Vec<u8>>> {
        let mut to = vec![0; bytes];
        self.download(from, &mut to)?;
        Ok(Later::now(to))
    }

    /// Copies within the device.
    fn copy(&self, from: DevicePtr, to: DevicePtr, bytes: usize) -> Result<()>;

    /// Launches a kernel.
    fn launch(&self, launch: &Launch) -> Result<()>;

    /// How many clusters of a kernel's blocks of so many threads the device runs at once; 0 where it has no clusters, or not this kernel.
    fn clusters(&self, _kernel: &'static str, _threads: u32) -> u32 {
        0
    }

    /// Launches or copies, as the step says.
    fn carry_out(&self, step: &Step) -> Result<()> {
        match step {
            Step::Launch(launch) => self.launch(launch),
            Step::Copy { from, to, bytes } => self.copy(*from, *to, *bytes),
        }
    }

    /// Waits for everything launched so far.
    fn synchronize(&self) -> Result<()>;

    /// Runs `work` and returns the time, in seconds, that the device spent on what it launched.
    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64>;

    /// Runs these steps one after another without pauses and returns the seconds from each one's start to the next one's.
    fn time_each(&self, steps: &[Step]) -> Result<Vec<f64>>;

    /// Makes a graph of these steps.
    fn graph(&self, nodes: &[Node]) -> Result<Box<dyn Graph>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_wait_for_lane_0_and_lane_0_for_all() {
        let (from, to, bytes) = (DevicePtr(1), DevicePtr(2), 4);
        let nodes: Vec<Node> =
            [0, 1, 2, 1, 0, 0, 3].map(|lane| Node { lane, step: Step::Copy { from, to, bytes } }).into();
        let expected: [&[usize]; 7] = [&[], &[0], &[0], &[1], &[3, 2], &[4], &[5]];
        assert_eq!(predecessors(&nodes), expected);
    }
}
