//! An NVIDIA GPU, through its driver: primary context, a stream of our own, stream-ordered memory.
//!
//! The driver library is loaded at run time; a machine without one has no GPUs, and says so when asked for one. Memory comes from the
//! device's pool, which keeps what is freed: after the first steps of a training nothing is asked of the system any more.

mod graph;
mod landing;
mod staging;

use super::binaries;
use super::driver::{Arg, DeviceInfo, DevicePtr, Driver, Graph, Launch, MemoryUse, Node, Step};
use super::launch;
use crate::backend::Later;
use crate::error::{Error, Result};
use crate::tensor::Shape;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use graph::GpuGraph;
use landing::Landing;
use staging::Staging;
use std::collections::{HashMap, VecDeque};
use std::ffi::{c_void, CString};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// What keeps the device busy while steps are queued: some milliseconds on a large GPU.
const BUSY_THREADS: usize = 1 << 18;
const BUSY_ROUNDS: u32 = 1 << 13;

/// The compute capability from which on GPUs have clusters of blocks.
const CLUSTERS_SINCE: (u32, u32) = (9, 0);

/// Launches that an asynchronous error may come from and that its message names.
const RECENT: usize = 4;

/// A GPU of this machine.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    info: DeviceInfo,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    /// The pool that memory comes from.
    pool: sys::CUmemoryPool,
    staging: Mutex<Staging>,
    /// To which no copy is under way that somebody waits for.
    landings: Mutex<Vec<Landing>>,
    functions: Mutex<HashMap<&'static str, Function>>,
    /// How many clusters of a kernel run at once.
    clusters: Mutex<HashMap<&'static str, u32>>,
    modules: Mutex<HashMap<&'static str, Module>>,
    in_use: AtomicU64,
    recent: Mutex<VecDeque<Recent>>,
}

/// A launch that messages can name.
struct Recent {
    kernel: &'static str,
    grid: [u32; 3],
    block: u32,
    shapes: Vec<Shape>,
}

impl fmt::Display for Recent {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Recent { kernel, grid, block, shapes } = self;
        write!(f, "`{kernel}` (grid {grid:?}, block {block}, shapes {})", listed(shapes))
    }
}

fn listed(shapes: &[Shape]) -> String {
    shapes.iter().map(|shape| format!("{shape:?}")).collect::<Vec<_>>().join(", ")
}

#[derive(Clone, Copy)]
struct Function(sys::CUfunction);
#[derive(Clone, Copy)]
struct Module(sys::CUmodule);

// SAFETY: handles of the driver may be used from any thread; each call makes the context current first.
unsafe impl Send for Inner {}
unsafe impl Sync for Inner {}
unsafe impl Send for Function {}
unsafe impl Send for Module {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn kernel_error(launch: &Launch, reason: String) -> Error {
    let Launch { kernel, grid, block, ref shapes, .. } = *launch;
    Error::Kernel { kernel: kernel.to_string(), grid, block, shapes: listed(shapes), reason }
}

/// Where each argument of a launch is, as the driver wants it.
fn pointers(launch: &Launch) -> Vec<*mut c_void> {
    launch.args.iter().map(|arg| arg.bytes().as_ptr().cast_mut().cast()).collect()
}

fn device_error(op: &'static str, reason: impl Into<String>) -> Error {
    Error::Device { op, reason: reason.into() }
}

/// Whether there is a driver and it works; why not, otherwise. Asked once.
fn driver() -> Result<(), String> {
    static DRIVER: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || {
        // SAFETY: loading the driver's library runs nothing but its initialisation. cudarc panics where it is missing, so it is asked
        // first.
        match unsafe { sys::is_culib_present() } {
            false => Err("there is no NVIDIA driver (libcuda) on this machine".to_string()),
            true => result::init().map_err(|e| format!("the NVIDIA driver does not start: {e}")),
        }
    };
    DRIVER.get_or_init(start).clone()
}

/// The version of the driver's programming interface, such as 13.0; why there is none, otherwise.
pub fn driver_version() -> Result<(u32, u32), String> {
    driver()?;
    let mut version = 0;
    // SAFETY: the driver is loaded.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|e| e.to_string())?;
    Ok((version as u32 / 1000, version as u32 % 1000 / 10))
}

impl Gpu {
    /// How many GPUs there are; 0 where there is no driver.
    pub fn count() -> u32 {
        match driver() {
            Ok(()) => result::device::get_count().map_or(0, |count| count.max(0) as u32),
            Err(_) => 0,
        }
    }

    /// What a GPU is, without opening it.
    ///
    /// # Errors
    /// There is no such GPU.
    pub fn describe(number: u32) -> Result<DeviceInfo> {
        driver().map_err(|reason| device_error("device", format!("{reason}; use --device cpu")))?;
        let (count, failed) = (Gpu::count(), |e: DriverError| device_error("device", format!("cuda:{number}: {e}")));
        if number >= count {
            let reason = format!("there is no cuda:{number}; this machine has {count} GPUs, numbered from 0");
            return Err(device_error("device", reason));
        }
        use sys::CUdevice_attribute as Attribute;
        let device = result::device::get(number as i32).map_err(failed)?;
        // SAFETY: the device exists.
        let attribute =
            |which| unsafe { result::device::get_attribute(device, which) }.map(|value| value.max(0) as u32);
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR).map_err(failed)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR).map_err(failed)?;
        Ok(DeviceInfo {
            name: result::device::get_name(device).map_err(failed)?,
            capability: (major, minor),
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map_err(failed)?,
            // SAFETY: the device exists.
            memory: unsafe { result::device::total_mem(device) }.map_err(failed)? as u64,
            cache: u64::from(attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).map_err(failed)?),
        })
    }

    /// Opens a GPU.
    ///
    /// # Errors
    /// There is no such GPU, or it cannot be used.
    pub fn open(number: u32) -> Result<Gpu> {
        let info = Gpu::describe(number)?;
        let open = || {
            let device = result::device::get(number as i32)?;
            // SAFETY: the device exists; everything is destroyed in `drop`.
            unsafe {
                let context = result::primary_ctx::retain(device)?;
                result::ctx::set_current(context)?;
                let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
                let pool = result::device::get_default_mem_pool(device)?;
                // Freed memory stays in the pool, however much it is.
                let mut keep = u64::MAX;
                let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
                sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut keep).cast()).result()?;
                Ok((device, context, stream, pool, Staging::new(stream)?))
            }
        };
        let (device, context, stream, pool, staging) = open().map_err(|e: DriverError| {
            device_error("device", format!("cuda:{number} ({}) cannot be used: {e}", info.name))
        })?;
        Ok(Gpu(Arc::new(Inner {
            info,
            device,
            context,
            stream,
            pool,
            staging: Mutex::new(staging),
            landings: Mutex::default(),
            functions: Mutex::default(),
            clusters: Mutex::default(),
            modules: Mutex::default(),
            in_use: AtomicU64::new(0),
            recent: Mutex::default(),
        })))
    }
}

impl Inner {
    /// Runs calls of the driver with this GPU's context. An error that comes out may be that of an earlier launch, so the last ones are
    /// named.
    fn with<R>(&self, op: &'static str, calls: impl FnOnce() -> Result<R, DriverError>) -> Result<R> {
        // SAFETY: the context is retained for as long as `self` lives.
        let done = unsafe { result::ctx::set_current(self.context) }.and_then(|()| calls());
        done.map_err(|error| device_error(op, format!("{error}{}", self.recent_launches())))
    }

    fn recent_launches(&self) -> String {
        let recent = lock(&self.recent);
        match recent.is_empty() {
            true => String::new(),
            false => {
                let recent: Vec<String> = recent.iter().map(Recent::to_string).collect();
                format!(" (the last launches were {})", recent.join("; "))
            }
        }
    }

    /// A kernel, from its module, which is loaded at the first use of one of its kernels.
    fn function(&self, kernel: &'static str) -> Result<Function, String> {
        if let Some(function) = lock(&self.functions).get(kernel) {
            return Ok(*function);
        }
        let file = binaries::file_of(kernel).ok_or("there is no such kernel")?;
        let name = CString::new(kernel).expect("kernels have plain names");
        // SAFETY: as in `with`.
        unsafe { result::ctx::set_current(self.context) }.map_err(|e| e.to_string())?;
        let module = self.module(file)?;
        // SAFETY: the module is loaded and stays so.
        let function = unsafe { result::module::get_function(module.0, name) };
        let function = Function(function.map_err(|e| format!("{file}: {e}"))?);
        lock(&self.functions).insert(kernel, function);
        Ok(function)
    }

    fn module(&self, file: &'static str) -> Result<Module, String> {
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(file) {
            return Ok(*module);
        }
        let (major, minor) = self.info.capability;
        let image = binaries::image(file, 10 * major + minor).map_err(|e| e.to_string())?;
        // SAFETY: the image is an ELF file or a text that ends with a zero, as nvrtc made it.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) };
        let version =
            || driver_version().map_or(String::new(), |(major, minor)| format!(" by a driver of CUDA {major}.{minor}"));
        let module = Module(module.map_err(|e| format!("{file} cannot be loaded{}: {e}", version()))?);
        modules.insert(file, module);
        Ok(module)
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        let (function, mut args) = (self.function_of(launch)?, pointers(launch));
        let ([x, y, z], block) = (launch.grid, (launch.block, 1, 1));
        // SAFETY: the arguments are those of the kernel (the emulator checks every launch of the tests), and are copied by the call.
        let done = unsafe {
            result::ctx::set_current(self.context)
                .and_then(|()| result::launch_kernel(function.0, (x, y, z), block, 0, self.stream, &mut args))
        };
        done.map_err(|e| kernel_error(launch, format!("{e}{}", self.recent_launches())))?;
        self.remember(launch);
        Ok(())
    }

    /// As [`Driver::clusters`]; none where something goes wrong, for there are other kernels.
    fn count_clusters(&self, kernel: &'static str, threads: u32) -> Option<u32> {
        if self.info.capability < CLUSTERS_SINCE {
            return None;
        }
        // What was compiled for an older GPU has not the kernel.
        let function = self.function(kernel).ok()?;
        let config = sys::CUlaunchConfig {
            gridDimX: launch::CLUSTER as u32,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: self.stream,
            attrs: std::ptr::null_mut(),
            numAttrs: 0,
        };
        let mut count = 0;
        // SAFETY: the function lives as long as `self`, and its clusters have the size that it was compiled with.
        let ask = || unsafe { sys::cuOccupancyMaxActiveClusters(&mut count, function.0, &config) }.result();
        self.with("clusters", ask).ok()?;
        Some(count.max(0) as u32)
    }

    fn function_of(&self, launch: &Launch) -> Result<Function> {
        self.function(launch.kernel).map_err(|reason| kernel_error(launch, reason))
    }

    /// Errors that come later may be this launch's.
    fn remember(&self, launch: &Launch) {
        let mut recent = lock(&self.recent);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        let Launch { kernel, grid, block, ref shapes, .. } = *launch;
        recent.push_back(Recent { kernel, grid, block, shapes: shapes.clone() });
    }

    fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }
    }

    /// An event at this point of the stream.
    fn mark(&self) -> Result<sys::CUevent> {
        self.with("time", || {
            let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)?;
            // SAFETY: event and stream are alive.
            unsafe { result::event::record(event, self.stream) }.map(|()| event)
        })
    }

    /// The seconds between neighbouring marks, which are gone after this.
    fn between(&self, marks: &[sys::CUevent]) -> Result<Vec<f64>> {
        self.with("time", || unsafe {
            // SAFETY: the events were recorded and not destroyed.
            marks.last().map_or(Ok(()), |&last| result::event::synchronize(last))?;
            let seconds = marks.windows(2).map(|pair| Ok(f64::from(elapsed_ms(pair[0], pair[1])?) / 1e3)).collect();
            marks.iter().try_for_each(|&mark| result::event::destroy(mark))?;
            seconds
        })
    }

    fn usage(&self) -> Result<MemoryUse> {
        let (free, _) = self.with("memory", result::mem_get_info)?;
        Ok(MemoryUse { in_use: self.in_use.load(Ordering::Relaxed), free: free as u64 })
    }
}

impl Driver for Gpu {
    fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    fn allocate(&self, bytes: usize) -> Result<DevicePtr> {
        let inner = &self.0;
        // SAFETY: the stream lives as long as `inner`.
        let take = || unsafe { result::malloc_async(inner.stream, bytes) };
        let full = |e: &DriverError| e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY;
        let taken = inner.with("allocate", || match take() {
            // What the pool keeps may be in pieces that are too small.
            Err(e) if full(&e) => {
                inner.synchronize()?;
                // SAFETY: the pool is the device's.
                unsafe { sys::cuMemPoolTrimTo(inner.pool, 0) }.result()?;
                match take() {
                    Err(e) if full(&e) => Ok(None),
                    other => other.map(Some),
                }
            }
            other => other.map(Some),
        })?;
        match taken {
            Some(memory) => {
                inner.in_use.fetch_add(bytes as u64, Ordering::Relaxed);
                Ok(DevicePtr(memory))
            }
            None => {
                let MemoryUse { in_use, free } = inner.usage()?;
                Err(Error::out_of_memory(bytes as u64, in_use, free))
            }
        }
    }

    fn free(&self, memory: DevicePtr, bytes: usize) {
        self.0.in_use.fetch_sub(bytes as u64, Ordering::Relaxed);
        // SAFETY: allocated on this stream. A device that failed cannot take it back, which its next call reports.
        let _ = self.0.with("free", || unsafe { result::free_async(memory.0, self.0.stream) });
    }

    fn memory_use(&self) -> Result<MemoryUse> {
        self.0.usage()
    }

    fn upload(&self, to: DevicePtr, from: &[u8]) -> Result<()> {
        self.0.with("upload", || lock(&self.0.staging).upload(to, from))
    }

    fn download(&self, from: DevicePtr, to: &mut [u8]) -> Result<()> {
        // SAFETY: the memory is alive, and `to` is until the copy is complete.
        self.0.with("download", || {
            unsafe { result::memcpy_dtoh_async(to, from.0, self.0.stream) }?;
            self.0.synchronize()
        })
    }

    fn download_later(&self, from: DevicePtr, bytes: usize) -> Result<Later<Vec<u8>>> {
        if bytes > landing::CAPACITY {
            let mut to = vec![0; bytes];
            return self.download(from, &mut to).map(|()| Later::now(to));
        }
        let inner = &self.0;
        let free = lock(&inner.landings).pop();
        let landing = inner.with("download", || free.map_or_else(Landing::new, Ok))?;
        let mut reserved = Reserved { gpu: self.clone(), landing: Some(landing) };
        inner.with("download", || reserved.landing().copy(from, bytes, inner.stream))?;
        Ok(Later::new(move || {
            let gpu = reserved.gpu.clone();
            gpu.0.with("download", || reserved.landing().wait(bytes))
        }))
    }

    fn copy(&self, from: DevicePtr, to: DevicePtr, bytes: usize) -> Result<()> {
        // SAFETY: both are alive on this stream.
        self.0.with("copy", || unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, self.0.stream) })
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        self.0.launch(launch)
    }

    fn clusters(&self, kernel: &'static str, threads: u32) -> u32 {
        if let Some(&known) = lock(&self.0.clusters).get(kernel) {
            return known;
        }
        let count = self.0.count_clusters(kernel, threads).unwrap_or(0);
        lock(&self.0.clusters).insert(kernel, count);
        count
    }

    fn synchronize(&self) -> Result<()> {
        self.0.with("synchronize", || self.0.synchronize())
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let start = self.0.mark()?;
        work()?;
        Ok(self.0.between(&[start, self.0.mark()?])?[0])
    }

    fn time_each(&self, steps: &[Step]) -> Result<Vec<f64>> {
        // While the device is busy with something else, all steps are queued: then it does not wait for the host between them.
        let busy = self.allocate(BUSY_THREADS * size_of::<f32>())?;
        let args = vec![Arg::from(busy), Arg::from(BUSY_ROUNDS)];
        let grid = [BUSY_THREADS as u32 / 256, 1, 1];
        self.launch(&Launch { kernel: "multiply_adds", grid, block: 256, args, shapes: Vec::new() })?;
        let mut marks = vec![self.0.mark()?];
        for step in steps {
            self.carry_out(step)?;
            marks.push(self.0.mark()?);
        }
        self.free(busy, BUSY_THREADS * size_of::<f32>());
        self.0.between(&marks)
    }

    fn graph(&self, nodes: &[Node]) -> Result<Box<dyn Graph>> {
        Ok(Box::new(GpuGraph::new(self, nodes)?))
    }
}

/// A place for a copy to the host, which is free again when this is dropped: the next copy to it comes after this one.
struct Reserved {
    gpu: Gpu,
    landing: Option<Landing>,
}

impl Reserved {
    fn landing(&mut self) -> &mut Landing {
        self.landing.as_mut().expect("there until this is dropped")
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        lock(&self.gpu.0.landings).extend(self.landing.take());
    }
}

/// Milliseconds between two events.
///
/// Under a newer name since CUDA 12.8; every driver has it under this one.
///
/// # Safety
/// Both events must have been recorded, and not destroyed.
unsafe fn elapsed_ms(start: sys::CUevent, end: sys::CUevent) -> Result<f32, DriverError> {
    type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
    let missing = |_| DriverError(sys::CUresult::CUDA_ERROR_NOT_FOUND);
    let elapsed = sys::culib().get::<Elapsed>(b"cuEventElapsedTime\0").map_err(missing)?;
    let mut ms = 0.0;
    elapsed(&mut ms, start, end).result().map(|()| ms)
}

impl Drop for Inner {
    fn drop(&mut self) {
        let modules: Vec<Module> = lock(&self.modules).drain().map(|(_, module)| module).collect();
        // SAFETY: nobody uses them any more. Errors mean that the device is lost, and with it all of this.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            let _ = result::stream::synchronize(self.stream);
            lock(&self.staging).release();
            lock(&self.landings).drain(..).for_each(Landing::release);
            modules.into_iter().for_each(|module| {
                let _ = result::module::unload(module.0);
            });
            let _ = result::stream::destroy(self.stream);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}
