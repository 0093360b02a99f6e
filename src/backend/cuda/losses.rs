//! Losses of rows of logits, with their gradients (`kernels/losses.cu`, `kernels/distillation*.cu`).

use super::device::{args, CudaDevice};
use super::driver::DevicePtr;
use super::launch;
use super::matmul::matmul;
use super::memory::{address, Buffer};
use super::softmax::{launch_for_rows, rows_and_columns, RowKernels};
use super::tuner::on_or_off;
use crate::backend::params::{
    CrossEntropy, Distillation, DistillationInputs, DistillationOutput, Divergence, Matmul, NoiseContrast,
};
use crate::backend::precision::{self, Precision};
use crate::error::Result;
use crate::tensor::{DType, Shape, Tensor};

/// What the rows' losses are divided by: the summed weights of the samples with a label, and of all, in device memory. None where every row is
/// known to have a label and counts 1, which the kernels need not be told.
fn sum_weights(
    device: &CudaDevice,
    rows: usize,
    labels: Option<&Tensor>,
    sample_weights: Option<&Tensor>,
) -> Result<Option<Buffer>> {
    let has_label = |labels: &Tensor| labels.storage().index_range().is_some_and(|(low, _)| low >= 0);
    if sample_weights.is_none() && labels.is_none_or(has_label) {
        return Ok(None);
    }
    let totals = device.scratch(2 * size_of::<f32>())?;
    let args = args![or_null(labels), or_null(sample_weights), totals.start(), rows as u32];
    device.launch("sum_weights", launch::one_block(launch::THREADS), args, &[])?;
    Ok(Some(totals))
}

fn or_null(x: Option<&Tensor>) -> DevicePtr {
    x.map_or(DevicePtr::NULL, address)
}

fn start_or_null(totals: Option<&Buffer>) -> DevicePtr {
    totals.map_or(DevicePtr::NULL, Buffer::start)
}

pub(super) fn cross_entropy(
    device: &CudaDevice,
    p: CrossEntropy,
    logits: &Tensor,
    labels: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (rows, classes) = rows_and_columns(logits);
    let (losses, grad, mean) = (device.floats([rows])?, device.floats(*logits.shape())?, device.floats(Shape::SCALAR)?);
    let weights = sum_weights(device, rows, Some(labels), None)?;
    let totals = start_or_null(weights.as_ref());
    let mut args = args![address(logits), address(labels), totals, p.label_smoothing as f32];
    args.extend(args![address(&losses), address(&grad), rows as u32, classes as u32]);
    let (part, warp, block) = ("cross_entropy_part", "cross_entropy_warp", "cross_entropy_block");
    launch_for_rows(device, RowKernels { part: Some(part), warp, block }, rows, classes, args, &[logits])?;
    let args = args![address(&losses), totals, address(&mean), rows as u32];
    device.launch("mean_losses", launch::one_block(launch::THREADS), args, &[&losses])?;
    Ok((mean, grad))
}

/// Whether clusters of blocks may take very long rows on GPUs that have them: unless `KDENGINE_CLUSTERS` is `off`.
///
/// # Errors
/// The variable has a value that means nothing.
pub(super) fn clusters_are_on() -> Result<bool, String> {
    Ok(on_or_off("KDENGINE_CLUSTERS")?.unwrap_or(true))
}

/// The kernels of a divergence for logits of this type, and that for very long rows.
fn kernels(divergence: Divergence, dtype: DType) -> (RowKernels, &'static str) {
    macro_rules! family {
        ($name:literal) => {{
            let (part, warp, block) = (concat!($name, "_part"), concat!($name, "_warp"), concat!($name, "_block"));
            (RowKernels { part: Some(part), warp, block }, concat!($name, "_cluster"))
        }};
    }
    match (divergence, dtype) {
        (Divergence::ForwardKl, DType::BF16) => family!("forward_kl_bf16"),
        (Divergence::ForwardKl, _) => family!("forward_kl_f32"),
        (Divergence::ReverseKl, DType::BF16) => family!("reverse_kl_bf16"),
        (Divergence::ReverseKl, _) => family!("reverse_kl_f32"),
        (Divergence::JensenShannon { .. }, DType::BF16) => family!("jensen_shannon_bf16"),
        (Divergence::JensenShannon { .. }, _) => family!("jensen_shannon_f32"),
    }
}

pub(super) fn distillation(
    device: &CudaDevice,
    p: Distillation,
    inputs: DistillationInputs,
) -> Result<DistillationOutput> {
    let DistillationInputs { student, teacher, labels, sample_weights } = inputs;
    let (rows, classes) = rows_and_columns(student);
    let (beta, scale_by_t2) = match p.divergence {
        Divergence::JensenShannon { beta } => (beta, false),
        Divergence::ForwardKl | Divergence::ReverseKl => (0.0, true),
    };
    let settings = [p.temperature, p.hard_weight, p.soft_weight, beta].map(|x| x as f32);
    let settings = Tensor::from_slice(&settings, [4], student.device())?;
    let weights = sum_weights(device, rows, labels, sample_weights)?;
    let totals = start_or_null(weights.as_ref());
    let (row_kernels, cluster_kernel) = kernels(p.divergence, student.dtype());
    let clusters = device.clusters(cluster_kernel, rows, classes, student.dtype().size())?;
    let parts = if clusters.is_some() { launch::CLUSTER } else { 1 };
    let (hard_losses, soft_losses) = (device.floats([rows])?, device.floats([rows, parts])?);
    let grad = device.output(*student.shape(), student.dtype())?;
    let mut args = args![address(student), address(teacher), or_null(labels), or_null(sample_weights), totals];
    args.extend(args![address(&settings), i32::from(scale_by_t2), address(&hard_losses), address(&soft_losses)]);
    args.extend(args![address(&grad), rows as u32, classes as u32]);
    match clusters {
        Some(config) => device.launch(cluster_kernel, config, args, &[student, teacher])?,
        None => launch_for_rows(device, row_kernels, rows, classes, args, &[student, teacher])?,
    }

    let scalar = || device.floats(Shape::SCALAR);
    let (total, hard, soft) = (scalar()?, scalar()?, scalar()?);
    let mut args = args![address(&hard_losses), address(&soft_losses), totals, address(&settings)];
    args.extend(args![address(&total), address(&hard), address(&soft), rows as u32, parts as u32]);
    device.launch("mean_distillation_losses", launch::one_block(launch::THREADS), args, &[&hard_losses])?;
    Ok(DistillationOutput { total, hard, soft, grad })
}

pub(super) fn noise_contrast(
    device: &CudaDevice,
    p: NoiseContrast,
    vectors: &Tensor,
    memory: &Tensor,
    own: &Tensor,
    counts: &Tensor,
) -> Result<[Tensor; 2]> {
    // A loss: both products stay f32, as they are on the CPU.
    let product = |p, a: &Tensor| precision::with(Precision::F32, || matmul(device, p, a, memory, None));
    let scores = product(Matmul { transpose_b: true, ..Matmul::default() }, vectors)?;
    let (rows, columns) = rows_and_columns(&scores);
    let (losses, slopes) = (device.floats([rows])?, device.floats(*scores.shape())?);
    let mut args = args![address(&scores), address(own), address(counts), (1.0 / p.tau) as f32, p.shift as f32];
    args.extend(args![p.floor as f32, address(&losses), address(&slopes), rows as u32, columns as u32]);
    let kernels = RowKernels { part: None, warp: "noise_contrast_warp", block: "noise_contrast_block" };
    launch_for_rows(device, kernels, rows, columns, args, &[&scores, counts])?;
    Ok([losses, product(Matmul::default(), &slopes)?])
}
