//! The primitive kernels that every device implements.
//!
//! Ops check shapes and types before they call a kernel, so kernels assume that both are right. Every kernel returns new
//! tensors without history; the ones that update in place say so.

pub mod cpu;
pub mod cuda;
mod later;
pub mod params;
pub mod precision;
pub mod reference;
mod scalar;
mod transfer;
mod walk;

pub use later::Later;

use crate::error::{Error, Result};
use crate::tensor::{pool, DType, Device, Rng, Shape, Tensor};
use params::*;
use std::time::Instant;

/// A kernel of a timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// Its name.
    pub kernel: &'static str,
    /// The shapes of the tensors at work.
    pub shapes: Vec<Shape>,
    /// From its start to the next one's.
    pub seconds: f64,
}

/// The kernels of one device. `reference` defines what each one means; the others are compared with it.
pub trait Backend: Send + Sync {
    // Memory.

    /// The values of a tensor that lies on the host, on this device.
    fn upload(&self, x: &Tensor) -> Result<Tensor>;
    /// Every element `value`, rounded to the dtype.
    fn full(&self, shape: &Shape, value: f64, dtype: DType) -> Result<Tensor>;

    /// The values of tensors of one element. A device that computes while the program goes on is waited for when they are wanted.
    fn items(&self, scalars: &[&Tensor]) -> Result<Later<Vec<f64>>> {
        scalars.iter().map(|x| x.item()).collect::<Result<_>>().map(Later::now)
    }

    // Launching.

    /// Runs `work` once, something that comes again and again with the same kernels. A device may hold these back and start all of them at
    /// once, at the end of `work` or when it reads a result.
    fn bundle(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        work()
    }
    /// Runs `work`, which depends on nothing that is launched in other lanes of the same bundle: a device may run them side by side.
    /// Lane 0 is where everything else is launched; it waits for all lanes, and they for it.
    fn in_lane(&self, _lane: u32, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        work()
    }
    /// Whether it pays to go on without the last results: the device computes while the program prepares what comes next.
    fn runs_ahead(&self) -> bool {
        false
    }

    /// How what was launched so far was launched, in words, where there is something to say.
    fn launches(&self) -> Option<String> {
        None
    }

    // Measuring.

    /// Runs `work` and returns the seconds that the device took for it.
    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    }
    /// Runs `work`, which bundles its launches, and returns what it launched: each kernel with the shapes of its tensors, and the seconds
    /// that it took by itself.
    ///
    /// # Errors
    /// Those of `work`; or this device computes within calls, where a profile of ops says more.
    fn timeline(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Launched>> {
        work()?;
        Err(Error::Device { op: "timeline", reason: "nothing is launched on the host".to_string() })
    }
    /// The most bytes beyond those in use now that this device's tensors take while `work` runs.
    fn peak_memory(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<usize> {
        pool::reset_peak();
        let before = pool::stats().bytes_in_use;
        work()?;
        Ok(pool::stats().peak_bytes - before)
    }
    /// Empties the device's caches before a measurement; a processor's stay as programs leave them.
    fn empty_cache(&self) -> Result<()> {
        Ok(())
    }
    /// Keeps all arithmetic units busy with fused multiply-adds in registers, for a time proportional to `rounds`, and returns how
    /// many floating-point operations that took.
    fn multiply_adds(&self, rounds: usize) -> Result<f64>;

    // Elementwise.

    /// `f(x)`.
    fn unary(&self, f: Unary, x: &Tensor) -> Result<Tensor>;
    /// `f'(x) · dy`, given both `x` and `y = f(x)`.
    fn unary_grad(&self, f: Unary, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Tensor>;
    /// `f(a, b)` with broadcasting.
    fn binary(&self, f: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor>;
    /// `scale · x + shift`.
    fn affine(&self, x: &Tensor, scale: f64, shift: f64) -> Result<Tensor>;
    /// `acc += x`, in place; the same shape.
    fn add_assign(&self, acc: &mut Tensor, x: &Tensor) -> Result<()>;
    /// Each element zero with probability `p`, else divided by `1 − p`. Element `i` draws lane `i % 4` of block
    /// `i / 4` of `rng` (see [`params::drops`]), so the backward pass calls this again with the same `rng`.
    fn dropout(&self, x: &Tensor, p: f64, rng: Rng) -> Result<Tensor>;

    // Shape.

    /// The sum over `dims`, which stay as extents of 1.
    fn sum(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor>;
    /// `x` repeated along its dimensions of extent 1 to fill `shape`.
    fn expand(&self, x: &Tensor, shape: &Shape) -> Result<Tensor>;
    /// Dimension `i` of the result is dimension `dims[i]` of `x`.
    fn permute(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor>;
    /// The parts one after another along `dim`.
    fn concat(&self, parts: &[&Tensor], dim: usize) -> Result<Tensor>;
    /// Positions `start..start + len` along `dim`.
    fn narrow(&self, x: &Tensor, dim: usize, start: usize, len: usize) -> Result<Tensor>;
    /// Row `index[i]` of `table` (`[rows, …]`, any dtype) as row `i`; indices are in range.
    fn gather_rows(&self, table: &Tensor, index: &Tensor) -> Result<Tensor>;
    /// The transpose of `gather_rows`: a table of `rows` rows, to whose row `index[i]` row `i` of `dy` is added.
    fn scatter_rows(&self, dy: &Tensor, index: &Tensor, rows: usize) -> Result<Tensor>;
    /// Row `index[i]` of `table` becomes row `i` of `rows`, in place; indices are distinct.
    fn set_rows(&self, table: &mut Tensor, index: &Tensor, rows: &Tensor) -> Result<()>;

    // Random numbers (see `tensor::random`): element `i` depends on `rng` and `i` alone.

    /// Uniform in [low, high).
    fn uniform(&self, shape: &Shape, low: f64, high: f64, dtype: DType, rng: Rng) -> Result<Tensor>;
    /// Normal with the given mean and standard deviation.
    fn normal(&self, shape: &Shape, mean: f64, sd: f64, dtype: DType, rng: Rng) -> Result<Tensor>;

    // Linear algebra.

    /// `op(a) · op(b)` over the last two dimensions; batch dimensions are equal, or absent in `b`. `bias` (one per column) is
    /// added, then ReLU applied if asked for.
    fn matmul(&self, p: Matmul, a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Result<Tensor>;
    /// `x·xᵀ`: the inner products of all pairs of rows of `[n, features]`.
    fn gram(&self, x: &Tensor) -> Result<Tensor> {
        self.matmul(Matmul { transpose_b: true, ..Matmul::default() }, x, x, None)
    }
    /// Convolution of `x: [n, c_in, h, w]` with `w: [c_out, c_in/groups, kh, kw]`, plus bias, then ReLU if asked for.
    fn conv2d(&self, g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, relu: bool) -> Result<Tensor>;
    /// The gradient of a convolution's input.
    fn conv2d_grad_input(&self, g: &Conv2dGeometry, dy: &Tensor, w: &Tensor) -> Result<Tensor>;
    /// The gradients of a convolution's weight and, if asked for, bias.
    fn conv2d_grad_weight(
        &self,
        g: &Conv2dGeometry,
        x: &Tensor,
        dy: &Tensor,
        bias: bool,
    ) -> Result<(Tensor, Option<Tensor>)>;
    /// Convolution, bias, ReLU and 2×2 max-pooling (stride 2, incomplete windows dropped) in one pass. Also returns for each
    /// output (as `U8`) which element of its window won, 0 to 3 in row-major order (ties: the first), or 4 where ReLU clipped
    /// the whole window.
    fn conv2d_relu_pool(&self, g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<(Tensor, Tensor)>;
    /// As `conv2d_relu_pool` without the winners: for inference.
    fn conv2d_relu_pool_only(&self, g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<Tensor> {
        Ok(self.conv2d_relu_pool(g, x, w, bias)?.0)
    }
    /// The gradient of the input of `conv2d_relu_pool`, from its winners. At most one pixel in four of the convolution's output
    /// has a gradient, which a backend may use.
    fn conv2d_pooled_grad_input(&self, g: &Conv2dGeometry, dy: &Tensor, winner: &Tensor, w: &Tensor) -> Result<Tensor>;
    /// The gradients of the weight and bias of `conv2d_relu_pool`, from its winners.
    fn conv2d_pooled_grad_weight(
        &self,
        g: &Conv2dGeometry,
        x: &Tensor,
        dy: &Tensor,
        winner: &Tensor,
    ) -> Result<(Tensor, Tensor)>;

    // Pooling. `Pool2d` carries the geometry.

    /// The maximum of each window (padding is −∞; ties: the first), and where it was as an `I32` index into the image.
    fn max_pool2d(&self, p: &Pool2d, x: &Tensor) -> Result<(Tensor, Tensor)>;
    /// The gradient of the input of `max_pool2d`.
    fn max_pool2d_grad(&self, p: &Pool2d, dy: &Tensor, index: &Tensor) -> Result<Tensor>;
    /// The mean of each window; padding counts as zeros.
    fn avg_pool2d(&self, p: &Pool2d, x: &Tensor) -> Result<Tensor>;
    /// The gradient of the input of `avg_pool2d`.
    fn avg_pool2d_grad(&self, p: &Pool2d, dy: &Tensor) -> Result<Tensor>;
    /// Means over `out[0] × out[1]` bins with edges ⌊i·h/o⌋ … ⌈(i+1)·h/o⌉.
    fn adaptive_avg_pool2d(&self, x: &Tensor, out: [usize; 2]) -> Result<Tensor>;
    /// The gradient of the input (of spatial size `input`) of `adaptive_avg_pool2d`.
    fn adaptive_avg_pool2d_grad(&self, dy: &Tensor, input: [usize; 2]) -> Result<Tensor>;

    // Rows: softmax, losses, normalisation. A row is the last dimension.

    /// `softmax(x / temperature)`, or its logarithm.
    fn softmax(&self, x: &Tensor, temperature: f64, log: bool) -> Result<Tensor>;
    /// The gradient of the input of `softmax`, from its output.
    fn softmax_grad(&self, y: &Tensor, dy: &Tensor, temperature: f64, log: bool) -> Result<Tensor>;
    /// Mean cross-entropy of `logits: [n, c]` with `labels: [n]` (`I32`), and its gradient.
    fn cross_entropy(&self, p: CrossEntropy, logits: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)>;
    /// The distillation loss of Hinton et al. (2015) and its relatives, with its gradient, in one pass over the logits.
    fn distillation(&self, p: Distillation, inputs: DistillationInputs) -> Result<DistillationOutput>;
    /// Noise-contrastive estimation of `vectors: [n, width]` against `memory: [rows, width]`, with each vector's own row `[n]` (`I32`) and
    /// how often each row is noise to each vector `[n, rows]`: with `e = exp(v·m / τ − shift)` the vectors' losses `[n]`,
    /// `Σ counts · log(floor + e) + log(floor / e_own + 1)`, and the gradient of their sum by the vectors.
    fn noise_contrast(
        &self,
        p: NoiseContrast,
        vectors: &Tensor,
        memory: &Tensor,
        own: &Tensor,
        counts: &Tensor,
    ) -> Result<[Tensor; 2]>;
    /// Normalises `x: [n, c, …]` over all but `c` with the batch's statistics.
    fn batch_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<BatchNormOutput>;
    /// Gradients of the input, weight and bias of `batch_norm`.
    fn batch_norm_grad(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
    ) -> Result<[Tensor; 3]>;
    /// Normalises each row: `(y, mean, 1/σ)`.
    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<[Tensor; 3]>;
    /// Gradients of the input, weight and bias of `layer_norm`.
    fn layer_norm_grad(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
    ) -> Result<[Tensor; 3]>;
    /// The index of the largest element of each row (the first, if several), as `I32`.
    fn argmax(&self, x: &Tensor) -> Result<Tensor>;

    // Data.

    /// Images `index` of `images: [n, c, h, w]` (`U8`) in [0, 1]; `plans` are [`ImagePlan`]s as `f32`, one a row.
    fn gather_images(&self, images: &Tensor, index: &Tensor, plans: Option<&Tensor>) -> Result<Tensor>;
    /// `counts[label, prediction] += 1` for every sample, in place; all `I32`.
    fn count_confusion(&self, predictions: &Tensor, labels: &Tensor, counts: &mut Tensor) -> Result<()>;

    // Relations.

    /// Squared distances `[n, n]` between the rows of `[n, features]`.
    fn pairwise_distances(&self, x: &Tensor) -> Result<Tensor>;
    /// The gradient of the input of `pairwise_distances`.
    fn pairwise_distances_grad(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor>;
    /// Of squared distances `[n, n]` of a student's and a teacher's samples, with `cos_ijk = ½ (d_ij + d_ik − d_jk) / √(d_ij · d_ik)` (0
    /// where a distance is 0) and H the Huber loss with bound 1: `losses[j, k] = Σ_i H(cos_s − cos_t)`, and the gradient of their sum by
    /// the student's distances, in the sense of `pairwise_distances_grad`.
    fn angle_losses(&self, student: &Tensor, teacher: &Tensor) -> Result<[Tensor; 2]>;
    /// `Σ_c |x|^power` of `[n, c, …]`, as `[n, positions]`.
    fn attention_map(&self, x: &Tensor, power: f64) -> Result<Tensor>;
    /// The gradient of the input of `attention_map`; 0 where the input is.
    fn attention_map_grad(&self, x: &Tensor, dy: &Tensor, power: f64) -> Result<Tensor>;

    // Optimisers.

    /// One step of an optimiser over all of its parameters, in place on each slot's value and moments. The gradients count as
    /// multiplied by `gradient_scale`: clipping by norm costs no pass of its own.
    fn optimize(&self, rule: Rule, gradient_scale: f64, slots: &mut [OptimizerSlot]) -> Result<()>;
    /// `acc ← keep · acc + (1 − keep) · x`.
    fn lerp(&self, acc: &mut Tensor, x: &Tensor, keep: f64) -> Result<()>;
    /// Σ x² over all the tensors, accumulated in `f64` in a fixed order.
    fn sum_of_squares(&self, tensors: &[&Tensor]) -> Result<f64>;
}

/// The result of `work`, whose launches [`Backend::bundle`] may hold back.
///
/// # Errors
/// Those of `work`, and of what it launches.
pub fn bundled<R>(device: Device, work: impl FnOnce() -> Result<R>) -> Result<R> {
    within(work, |work| of(device).bundle(work))
}

/// The result of `work` in a lane (see [`Backend::in_lane`]).
///
/// # Errors
/// Those of `work`.
pub fn in_lane<R>(device: Device, lane: u32, work: impl FnOnce() -> Result<R>) -> Result<R> {
    within(work, |work| of(device).in_lane(lane, work))
}

fn within<R>(
    work: impl FnOnce() -> Result<R>,
    run: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<()>,
) -> Result<R> {
    let (mut work, mut result) = (Some(work), None);
    run(&mut || {
        if let Some(work) = work.take() {
            result = Some(work()?);
        }
        Ok(())
    })?;
    Ok(result.expect("a backend runs its work once"))
}

/// The backend of a device. A device that is not there answers every call with an error that says so.
pub fn of(device: Device) -> &'static dyn Backend {
    match device {
        Device::Reference => &reference::Reference,
        Device::Cpu => &cpu::Cpu,
        Device::Cuda(_) | Device::Emulator => cuda::of(device),
    }
}

/// The device with this name: `cpu`, `reference`, `cuda:N`, `emulator`, or `auto` for a GPU if there is one and the processor if not.
///
/// # Errors
/// An unknown name, or a device that is not there.
pub fn open_device(name: &str) -> Result<Device> {
    let device = match name {
        "auto" if cuda::gpu_count() > 0 => Device::Cuda(0),
        "auto" => Device::Cpu,
        _ => name.parse()?,
    };
    if !device.is_host() {
        cuda::driver(device)?;
    }
    Ok(device)
}
