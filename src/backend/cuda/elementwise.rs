//! Elementwise functions, arithmetic with broadcasting, and random tensors (`kernels/elementwise.cu`).

use super::device::{args, CudaDevice};
use super::launch;
use super::memory::{address, unique_address};
use crate::backend::params::{Binary, Unary};
use crate::backend::walk::Walk;
use crate::error::Result;
use crate::tensor::{DType, Rng, Shape, Tensor, MAX_RANK};

pub(super) fn unary(device: &CudaDevice, f: Unary, x: &Tensor) -> Result<Tensor> {
    let y = device.floats(*x.shape())?;
    let n = x.numel();
    let args = args![f as i32, address(x), address(&y), n as u32];
    device.launch("unary", launch::elements_by_four(n), args, &[x])?;
    Ok(y)
}

pub(super) fn unary_grad(device: &CudaDevice, f: Unary, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let dx = device.floats(*x.shape())?;
    let n = x.numel();
    let args = args![f as i32, address(x), address(y), address(dy), address(&dx), n as u32];
    device.launch("unary_grad", launch::elements(n), args, &[x])?;
    Ok(dx)
}

/// As the kernel wants it: row-major extents and the distance between neighbours in each operand, 0 where it is repeated.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Broadcast {
    rank: i32,
    extent: [u32; MAX_RANK],
    stride_a: [u32; MAX_RANK],
    stride_b: [u32; MAX_RANK],
}

pub(super) fn binary(device: &CudaDevice, f: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let shape = Shape::broadcast(f.name(), a.shape(), b.shape())?;
    let out = device.floats(shape)?;
    let n = shape.numel();
    let pointers = (address(a), address(b), address(&out));
    if a.shape() == b.shape() {
        let args = args![f as i32, pointers.0, pointers.1, pointers.2, n as u32];
        device.launch("binary", launch::elements_by_four(n), args, &[a, b])?;
        return Ok(out);
    }
    let walk = Walk::new(&shape, [a, b].map(|operand| operand.shape().broadcast_strides(&shape)));
    let broadcast = Broadcast {
        rank: walk.rank as i32,
        extent: walk.extents.map(|extent| extent as u32),
        stride_a: walk.strides.map(|[stride, _]| stride as u32),
        stride_b: walk.strides.map(|[_, stride]| stride as u32),
    };
    let args = args![f as i32, broadcast, pointers.0, pointers.1, pointers.2, n as u32];
    device.launch("binary_broadcast", launch::elements(n), args, &[a, b])?;
    Ok(out)
}

pub(super) fn affine(device: &CudaDevice, x: &Tensor, scale: f64, shift: f64) -> Result<Tensor> {
    let y = device.floats(*x.shape())?;
    let n = x.numel();
    let args = args![address(x), address(&y), scale as f32, shift as f32, n as u32];
    device.launch("affine", launch::elements_by_four(n), args, &[x])?;
    Ok(y)
}

pub(super) fn add_assign(device: &CudaDevice, sum: &mut Tensor, x: &Tensor) -> Result<()> {
    let n = x.numel();
    let args = args![unique_address(sum)?, address(x), n as u32];
    device.launch("add_assign", launch::elements_by_four(n), args, &[x])
}

pub(super) fn lerp(device: &CudaDevice, sum: &mut Tensor, x: &Tensor, keep: f64) -> Result<()> {
    let n = x.numel();
    let args = args![unique_address(sum)?, address(x), keep as f32, (1.0 - keep) as f32, n as u32];
    device.launch("lerp", launch::elements_by_four(n), args, &[x])
}

pub(super) fn fill(device: &CudaDevice, shape: &Shape, value: f64) -> Result<Tensor> {
    let y = device.floats(*shape)?;
    let n = y.numel();
    device.launch("fill", launch::elements_by_four(n), args![address(&y), value as f32, n as u32], &[&y])?;
    Ok(y)
}

/// `Rng` in `kernels/common.cuh`.
fn rng_words(rng: Rng) -> [u64; 2] {
    [rng.seed(), rng.stream()]
}

/// Kernels that draw random numbers, one Philox block for four elements a thread.
fn random_config(n: usize) -> launch::Config {
    launch::elements_by_four(n)
}

pub(super) fn dropout(device: &CudaDevice, x: &Tensor, p: f64, rng: Rng) -> Result<Tensor> {
    let y = device.floats(*x.shape())?;
    let n = x.numel();
    let args = args![address(x), address(&y), p, (1.0 / (1.0 - p)) as f32, rng_words(rng), n as u32];
    device.launch("dropout", random_config(n), args, &[x])?;
    Ok(y)
}

/// A random tensor: `uniform` in [a, b), or `normal` with mean a and standard deviation b.
pub(super) fn random(
    device: &CudaDevice,
    kernel: &'static str,
    shape: &Shape,
    [a, b]: [f64; 2],
    rng: Rng,
) -> Result<Tensor> {
    let y = device.output(*shape, DType::F32)?;
    let n = y.numel();
    device.launch(kernel, random_config(n), args![address(&y), a, b, rng_words(rng), n as u32], &[&y])?;
    Ok(y)
}
