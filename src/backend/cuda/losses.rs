//! Losses of rows of logits, with their gradients (`kernels/losses.cu`).

use super::device::{args, CudaDevice};
use super::launch;
use super::memory::{address, Buffer};
use super::softmax::{launch_for_rows, rows_and_columns};
use crate::backend::params::{CrossEntropy, HintonKd, HintonKdOutput};
use crate::error::Result;
use crate::tensor::{Shape, Tensor};

/// How many samples count, in device memory.
fn count_labels(device: &CudaDevice, labels: &Tensor) -> Result<Buffer> {
    let count = device.scratch(size_of::<f32>())?;
    let args = args![address(labels), count.start(), labels.numel() as u32];
    device.launch("count_labels", launch::one_block(launch::THREADS), args, &[labels])?;
    Ok(count)
}

pub(super) fn cross_entropy(
    device: &CudaDevice,
    p: CrossEntropy,
    logits: &Tensor,
    labels: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (rows, classes) = rows_and_columns(logits);
    let (losses, grad, mean) =
        (device.floats([rows])?, device.floats(*logits.shape())?, device.floats(Shape::SCALAR)?);
    let count = count_labels(device, labels)?;
    let mut args = args![address(logits), address(labels), count.start(), p.label_smoothing as f32];
    args.extend(args![address(&losses), address(&grad), rows as u32, classes as u32]);
    launch_for_rows(device, ["cross_entropy_warp", "cross_entropy_block"], rows, classes, args, &[logits])?;
    let args = args![address(&losses), count.start(), address(&mean), rows as u32];
    device.launch("mean_losses", launch::one_block(launch::THREADS), args, &[&losses])?;
    Ok((mean, grad))
}

pub(super) fn hinton_kd(
    device: &CudaDevice,
    p: HintonKd,
    student: &Tensor,
    teacher: &Tensor,
    labels: &Tensor,
) -> Result<HintonKdOutput> {
    let (rows, classes) = rows_and_columns(student);
    let weights = [p.temperature, p.hard_weight, p.soft_weight].map(|weight| weight as f32);
    let weights = Tensor::from_slice(&weights, [3], student.device())?;
    let count = count_labels(device, labels)?;
    let (hard_losses, soft_losses) = (device.floats([rows])?, device.floats([rows])?);
    let grad = device.floats(*student.shape())?;
    let mut args = args![address(student), address(teacher), address(labels), count.start(), address(&weights)];
    args.extend(args![address(&hard_losses), address(&soft_losses), address(&grad), rows as u32, classes as u32]);
    launch_for_rows(device, ["hinton_kd_warp", "hinton_kd_block"], rows, classes, args, &[student, teacher])?;

    let [total, hard, soft] = [(); 3].map(|()| device.floats(Shape::SCALAR));
    let (total, hard, soft) = (total?, hard?, soft?);
    let mut args = args![address(&hard_losses), address(&soft_losses), count.start(), address(&weights)];
    args.extend(args![address(&total), address(&hard), address(&soft), rows as u32]);
    device.launch("mean_distillation_losses", launch::one_block(launch::THREADS), args, &[&hard_losses])?;
    Ok(HintonKdOutput { total, hard, soft, grad })
}
