//! One device of the CUDA backend: tensors in its memory, kernels on its stream.

use super::bundle::{self, Bundler};
use super::driver::{Arg, Driver, Launch, Step};
use super::launch::{Config, MAX_GRID_YZ};
use super::memory::Buffer;
use super::tuner::{self, Candidate, Tuner};
use super::{launch, losses, warpgroups, winograd};
use crate::error::{Error, Result};
use crate::tensor::{DType, Device, Shape, Storage, Tensor};
use std::sync::{Arc, Mutex, OnceLock};

/// A device by its name, opened at its first use.
pub struct CudaDevice {
    device: Device,
    opened: OnceLock<Result<Opened, String>>,
}

struct Opened {
    bundler: Arc<Bundler>,
    /// The same, as everybody else sees it.
    driver: Arc<dyn Driver>,
    /// None: the first kernel of several is taken.
    tuner: Option<Mutex<Tuner>>,
    offers_warpgroups: bool,
    offers_winograd: bool,
    offers_clusters: bool,
}

/// Kernels count elements in 31 bits.
pub(super) const MOST_ELEMENTS: usize = i32::MAX as usize;

impl CudaDevice {
    pub(super) const fn new(device: Device) -> CudaDevice {
        CudaDevice { device, opened: OnceLock::new() }
    }

    /// The device's driver.
    ///
    /// # Errors
    /// There is no such device here.
    pub fn driver(&self) -> Result<&Arc<dyn Driver>> {
        Ok(&self.opened()?.driver)
    }

    /// Whether products by four warps are among those that are chosen between.
    ///
    /// # Errors
    /// There is no such device here.
    pub(super) fn offers_warpgroups(&self) -> Result<bool> {
        Ok(self.opened()?.offers_warpgroups)
    }

    /// Whether convolutions may be computed by minimal filtering.
    ///
    /// # Errors
    /// There is no such device here.
    pub(super) fn offers_winograd(&self) -> Result<bool> {
        Ok(self.opened()?.offers_winograd)
    }

    /// The clusters of blocks for pairs of very long rows of elements of so many bytes, if these rows are and the device has clusters.
    ///
    /// # Errors
    /// There is no such device here.
    pub(super) fn clusters(
        &self,
        kernel: &'static str,
        rows: usize,
        columns: usize,
        bytes: usize,
    ) -> Result<Option<Config>> {
        let opened = self.opened()?;
        if !opened.offers_clusters || !launch::wants_clusters(rows, columns, bytes, opened.bundler.info()) {
            return Ok(None);
        }
        Ok(launch::clusters(rows, opened.bundler.clusters(kernel, launch::TEAM)))
    }

    /// What holds launches back.
    ///
    /// # Errors
    /// There is no such device here.
    pub(super) fn bundler(&self) -> Result<&Bundler> {
        Ok(&self.opened()?.bundler)
    }

    fn opened(&self) -> Result<&Opened> {
        let reason = |error| match error {
            Error::Device { reason, .. } => reason,
            other => other.to_string(),
        };
        let open = || {
            bundle::check_variable()?;
            let tunes = tuner::is_on(self.device)?;
            let bundler = Arc::new(Bundler::new(open(self.device).map_err(reason)?));
            let tuner = tunes.then(|| Mutex::new(Tuner::new(bundler.info())));
            let offers_warpgroups = warpgroups::are_on()? && bundler.info().capability == warpgroups::CAPABILITY;
            let offers_winograd = winograd::is_on()?;
            let offers_clusters = losses::clusters_are_on()?;
            let driver = bundler.clone();
            Ok(Opened { driver, bundler, tuner, offers_warpgroups, offers_winograd, offers_clusters })
        };
        let opened = self.opened.get_or_init(open);
        opened.as_ref().map_err(|reason| Error::Device { op: "device", reason: reason.clone() })
    }

    /// A tensor whose elements a kernel is about to write.
    pub(super) fn output(&self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        let shape = shape.into();
        self.output_with_range(shape, dtype, None)
    }

    fn output_with_range(&self, shape: Shape, dtype: DType, index_range: Option<(i32, i32)>) -> Result<Tensor> {
        let len = shape.numel();
        if len > MOST_ELEMENTS {
            let reason = format!(
                "a tensor of shape {shape:?} has more than {MOST_ELEMENTS} elements, which kernels cannot count"
            );
            return Err(Error::Device { op: "cuda", reason });
        }
        let memory = Box::new(Buffer::new(self.driver()?, len * dtype.size())?);
        Ok(Tensor::from_storage(Storage::on_device(memory, dtype, len, index_range), shape, self.device))
    }

    /// An `f32` tensor whose elements a kernel is about to write.
    pub(super) fn floats(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        self.output(shape, DType::F32)
    }

    /// Memory that lasts for a few kernels.
    pub(super) fn scratch(&self, bytes: usize) -> Result<Buffer> {
        Buffer::new(self.driver()?, bytes)
    }

    /// The values of a host tensor.
    pub(super) fn upload(&self, x: &Tensor) -> Result<Tensor> {
        let range = (x.dtype() == DType::I32 && x.numel() > 0).then(|| {
            let values = x.slice::<i32>();
            values.iter().fold((i32::MAX, i32::MIN), |(low, high), &i| (low.min(i), high.max(i)))
        });
        let y = self.output_with_range(*x.shape(), x.dtype(), range)?;
        if x.numel() > 0 {
            self.driver()?.upload(super::memory::address(&y), x.storage().bytes())?;
        }
        Ok(y)
    }

    /// Launches a kernel. `tensors` are those at work, for messages.
    pub(super) fn launch(
        &self,
        kernel: &'static str,
        config: Config,
        args: Vec<Arg>,
        tensors: &[&Tensor],
    ) -> Result<()> {
        let Config { grid, block } = config;
        let shapes = tensors.iter().map(|x| *x.shape()).collect();
        self.driver()?.launch(&Launch { kernel, grid, block, args, shapes })
    }

    /// Launches one of several kernels that compute the same bits, and write only what they do not read: the one that is the fastest on this
    /// GPU, or the first if that is not to be measured. `prepare` has the arguments of a kernel, by its number, and what has to live until
    /// it is launched. `outputs` are all that the kernels write, whole: one whose bits differ from the first one's is not taken.
    pub(super) fn launch_fastest(
        &self,
        candidates: &[Candidate],
        outputs: &[&Tensor],
        tensors: &[&Tensor],
        prepare: impl Fn(usize) -> Result<(Vec<Arg>, Option<Tensor>)>,
    ) -> Result<()> {
        /// Launches of each kernel for a measurement; the first one warms the cache up.
        const LAUNCHES: usize = 4;
        let Opened { driver, tuner, .. } = self.opened()?;
        let possible = |(_, config): &Candidate| config.grid[1..].iter().all(|&blocks| blocks as usize <= MAX_GRID_YZ);
        let chosen = match tuner {
            Some(tuner) if candidates.len() > 1 && candidates.iter().all(possible) => {
                let shapes: Vec<Shape> = tensors.iter().map(|x| *x.shape()).collect();
                let mut expected = Vec::new();
                let seconds = |number: usize| {
                    let (kernel, Config { grid, block }) = candidates[number];
                    let (args, _held) = prepare(number)?;
                    let steps =
                        vec![Step::Launch(Launch { kernel, grid, block, args, shapes: shapes.clone() }); LAUNCHES];
                    outputs.iter().try_for_each(|output| self.blank(output))?;
                    // The first launch may load a module, for which the device would wait.
                    driver.time_each(&steps[..1])?;
                    let seconds = driver.time_each(&steps)?.into_iter().skip(1).fold(f64::INFINITY, f64::min);
                    let bits = outputs.iter().map(|output| self.bits(output)).collect::<Result<Vec<_>>>()?;
                    if number == 0 {
                        expected = bits;
                    } else if bits != expected {
                        let first = candidates[0].0;
                        eprintln!(
                            "kernel `{kernel}` is not used for {shapes:?}: its bits differ from those of `{first}`"
                        );
                        return Ok(f64::INFINITY);
                    }
                    Ok(seconds)
                };
                tuner.lock().unwrap_or_else(|e| e.into_inner()).choose(candidates, &shapes, seconds)
            }
            _ => 0,
        };
        let (kernel, config) = candidates[chosen];
        let (args, _held) = prepare(chosen)?;
        self.launch(kernel, config, args, tensors)
    }
}

impl CudaDevice {
    /// Overwrites a tensor with what no kernel computes, so that elements show which are not written.
    fn blank(&self, x: &Tensor) -> Result<()> {
        self.driver()?.upload(super::memory::address(x), &vec![0xff; x.numel() * x.dtype().size()])
    }

    fn bits(&self, x: &Tensor) -> Result<Vec<u8>> {
        let mut bits = vec![0; x.numel() * x.dtype().size()];
        self.driver()?.download(super::memory::address(x), &mut bits)?;
        Ok(bits)
    }
}

/// The arguments of a launch, in the kernel's order. Tensors and buffers are given by address.
macro_rules! args {
    ($($arg:expr),* $(,)?) => { vec![$($crate::backend::cuda::driver::Arg::from($arg)),*] };
}
pub(super) use args;

fn open(device: Device) -> Result<Arc<dyn Driver>> {
    match device {
        #[cfg(feature = "emulator")]
        Device::Emulator => Ok(Arc::new(super::emulator::Emulator::new())),
        #[cfg(feature = "cuda")]
        Device::Cuda(number) => Ok(Arc::new(super::gpu::Gpu::open(number)?)),
        other => {
            let feature = if other == Device::Emulator { "emulator" } else { "cuda" };
            let reason = format!("this kdengine was built without {other}; build it with `--features {feature}`");
            Err(Error::Device { op: "device", reason })
        }
    }
}
