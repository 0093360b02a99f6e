//! Batch and layer normalisation (`kernels/norm.cu`).

use super::device::{args, CudaDevice};
use super::launch;
use super::memory::address;
use super::softmax::rows_and_columns;
use crate::backend::params::BatchNormOutput;
use crate::error::Result;
use crate::tensor::Tensor;

/// n, channels and area of `[n, c, …]`.
fn batch_sizes(x: &Tensor) -> [u32; 3] {
    let area: usize = x.shape()[2..].iter().product();
    [x.shape()[0], x.shape()[1], area].map(|size| size as u32)
}

pub(super) fn batch_norm(
    device: &CudaDevice,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<BatchNormOutput> {
    let [n, channels, area] = batch_sizes(x);
    let y = device.floats(*x.shape())?;
    let vector = || device.floats(*weight.shape());
    let (mean, var, rstd) = (vector()?, vector()?, vector()?);
    let mut args = args![address(x), address(weight), address(bias), eps as f32];
    args.extend(args![address(&y), address(&mean), address(&var), address(&rstd), n, channels, area]);
    device.launch("batch_norm", launch::block_each(channels as usize, launch::TEAM), args, &[x])?;
    Ok(BatchNormOutput { y, mean, var, rstd })
}

pub(super) fn batch_norm_grad(
    device: &CudaDevice,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
) -> Result<[Tensor; 3]> {
    let [n, channels, area] = batch_sizes(x);
    let (dx, dw, db) = (device.floats(*x.shape())?, device.floats(*weight.shape())?, device.floats(*weight.shape())?);
    let mut args = args![address(x), address(weight), address(dy), address(mean), address(rstd)];
    args.extend(args![address(&dx), address(&dw), address(&db), n, channels, area]);
    device.launch("batch_norm_grad", launch::block_each(channels as usize, launch::TEAM), args, &[x])?;
    Ok([dx, dw, db])
}

pub(super) fn layer_norm(
    device: &CudaDevice,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<[Tensor; 3]> {
    let (rows, columns) = rows_and_columns(x);
    let (y, mean, rstd) = (device.floats(*x.shape())?, device.floats([rows])?, device.floats([rows])?);
    let mut args = args![address(x), address(weight), address(bias), eps as f32];
    args.extend(args![address(&y), address(&mean), address(&rstd), rows as u32, columns as u32]);
    device.launch("layer_norm", launch::warp_each(rows), args, &[x])?;
    Ok([y, mean, rstd])
}

pub(super) fn layer_norm_grad(
    device: &CudaDevice,
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
) -> Result<[Tensor; 3]> {
    let (rows, columns) = rows_and_columns(x);
    let (dx, dw, db) = (device.floats(*x.shape())?, device.floats(*weight.shape())?, device.floats(*weight.shape())?);
    let sizes = [rows as u32, columns as u32];
    let mut args = args![address(x), address(weight), address(dy), address(mean), address(rstd)];
    args.extend(args![address(&dx), sizes[0], sizes[1]]);
    device.launch("layer_norm_grad", launch::warp_each(rows), args, &[x])?;
    let mut args = args![address(x), address(dy), address(mean), address(rstd)];
    args.extend(args![address(&dw), address(&db), sizes[0], sizes[1]]);
    device.launch("layer_norm_grad_parameters", launch::elements(columns), args, &[x])?;
    Ok([dx, dw, db])
}
