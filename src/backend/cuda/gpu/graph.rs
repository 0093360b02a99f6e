//! A CUDA graph of launches and copies, whose arguments can be changed.

use super::{kernel_error, pointers, Gpu};
use crate::backend::cuda::driver::{predecessors, DevicePtr, Graph, Launch, Node, Step};
use crate::error::Result;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::ptr;

/// A graph in its executable form.
pub(super) struct GpuGraph {
    gpu: Gpu,
    /// What the nodes belong to, by which steps are found again.
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
    nodes: Vec<sys::CUgraphNode>,
    /// The last kernel, to be named when the device fails.
    last: Option<Launch>,
}

// SAFETY: handles of the driver may be used from any thread.
unsafe impl Send for GpuGraph {}
unsafe impl Sync for GpuGraph {}

impl GpuGraph {
    /// A graph of these steps, each after those that its lane waits for.
    pub(super) fn new(gpu: &Gpu, nodes: &[Node]) -> Result<GpuGraph> {
        let mut graph = ptr::null_mut();
        // SAFETY: the graph is destroyed in `drop`.
        gpu.0.with("graph", || unsafe { sys::cuGraphCreate(&mut graph, 0).result() })?;
        let mut made = GpuGraph { gpu: gpu.clone(), graph, executable: ptr::null_mut(), nodes: Vec::new(), last: None };
        for (node, after) in nodes.iter().zip(predecessors(nodes)) {
            made.add(&node.step, &after)?;
        }
        made.executable = gpu.0.with("graph", || {
            // SAFETY: the graph is complete.
            unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) }
        })?;
        Ok(made)
    }

    fn add(&mut self, step: &Step, after: &[usize]) -> Result<()> {
        let (inner, graph) = (&self.gpu.0, self.graph);
        let earlier: Vec<sys::CUgraphNode> = after.iter().map(|&number| self.nodes[number]).collect();
        let (after, count) = (earlier.as_ptr(), earlier.len());
        let mut node = ptr::null_mut();
        match step {
            Step::Launch(launch) => self.with_kernel(launch, |kernel| {
                // SAFETY: graph and nodes are alive; the arguments are copied by the call.
                unsafe { sys::cuGraphAddKernelNode_v2(&mut node, graph, after, count, kernel) }.result()
            })?,
            Step::Copy { from, to, bytes } => inner.with("graph", || {
                let copy = copy_of(*from, *to, *bytes);
                // SAFETY: graph and nodes are alive.
                unsafe { sys::cuGraphAddMemcpyNode(&mut node, graph, after, count, &copy, inner.context) }.result()
            })?,
        }
        self.nodes.push(node);
        if let Step::Launch(launch) = step {
            self.last = Some(launch.clone());
        }
        Ok(())
    }

    /// Calls the driver with a launch as it wants it.
    fn with_kernel(
        &self,
        launch: &Launch,
        call: impl FnOnce(&sys::CUDA_KERNEL_NODE_PARAMS) -> Result<(), DriverError>,
    ) -> Result<()> {
        let (inner, mut args) = (&self.gpu.0, pointers(launch));
        let [x, y, z] = launch.grid;
        let kernel = sys::CUDA_KERNEL_NODE_PARAMS {
            func: inner.function_of(launch)?.0,
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: launch.block,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            kernelParams: args.as_mut_ptr(),
            extra: ptr::null_mut(),
            kern: ptr::null_mut(),
            ctx: ptr::null_mut(),
        };
        inner.with("graph", || call(&kernel)).map_err(|e| kernel_error(launch, e.to_string()))
    }
}

/// A copy as the driver wants it: a box of one row.
fn copy_of(from: DevicePtr, to: DevicePtr, bytes: usize) -> sys::CUDA_MEMCPY3D {
    let device = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
    sys::CUDA_MEMCPY3D {
        srcXInBytes: 0,
        srcY: 0,
        srcZ: 0,
        srcLOD: 0,
        srcMemoryType: device,
        srcHost: ptr::null(),
        srcDevice: from.0,
        srcArray: ptr::null_mut(),
        reserved0: ptr::null_mut(),
        srcPitch: bytes,
        srcHeight: 1,
        dstXInBytes: 0,
        dstY: 0,
        dstZ: 0,
        dstLOD: 0,
        dstMemoryType: device,
        dstHost: ptr::null_mut(),
        dstDevice: to.0,
        dstArray: ptr::null_mut(),
        reserved1: ptr::null_mut(),
        dstPitch: bytes,
        dstHeight: 1,
        WidthInBytes: bytes,
        Height: 1,
        Depth: 1,
    }
}

impl Graph for GpuGraph {
    fn set(&mut self, number: usize, step: &Step) -> Result<()> {
        let (inner, executable, node) = (&self.gpu.0, self.executable, self.nodes[number]);
        match step {
            Step::Launch(launch) => self.with_kernel(launch, |kernel| {
                // SAFETY: the node is of this graph, which is alive; the arguments are copied by the call.
                unsafe { sys::cuGraphExecKernelNodeSetParams_v2(executable, node, kernel) }.result()
            }),
            Step::Copy { from, to, bytes } => inner.with("graph", || {
                let copy = copy_of(*from, *to, *bytes);
                // SAFETY: as above.
                unsafe { sys::cuGraphExecMemcpyNodeSetParams(executable, node, &copy, inner.context) }.result()
            }),
        }
    }

    fn launch(&self) -> Result<()> {
        let inner = &self.gpu.0;
        // SAFETY: graph and stream are alive.
        inner.with("graph", || unsafe { result::graph::launch(self.executable, inner.stream) })?;
        self.last.iter().for_each(|launch| inner.remember(launch));
        Ok(())
    }
}

impl Drop for GpuGraph {
    fn drop(&mut self) {
        // SAFETY: nobody else has them. A device that failed cannot destroy anything, which its next call reports.
        let _ = self.gpu.0.with("graph", || unsafe {
            if !self.executable.is_null() {
                result::graph::exec_destroy(self.executable)?;
            }
            result::graph::destroy(self.graph)
        });
    }
}
