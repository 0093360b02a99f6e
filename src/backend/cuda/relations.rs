//! Relations between samples, and attention maps (`kernels/relations.cu`).

use super::device::{args, CudaDevice};
use super::launch::{self, Config};
use super::memory::address;
use crate::error::Result;
use crate::tensor::Tensor;

pub(super) fn pairwise_distances(device: &CudaDevice, x: &Tensor) -> Result<Tensor> {
    /// Samples along each side of a block's tile.
    const SIDE: usize = 32;
    let (n, features) = (x.shape()[0], x.shape()[1]);
    let y = device.floats([n, n])?;
    let tiles = n.div_ceil(SIDE).max(1) as u32;
    let config = Config { grid: [tiles, tiles, 1], block: launch::THREADS };
    device.launch("pairwise_distances", config, args![address(x), address(&y), n as u32, features as u32], &[x])?;
    Ok(y)
}

pub(super) fn pairwise_distances_grad(device: &CudaDevice, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let dx = device.floats(*x.shape())?;
    let args = args![address(x), address(dy), address(&dx), x.shape()[0] as u32, x.shape()[1] as u32];
    device.launch("pairwise_distances_grad", launch::elements(x.numel()), args, &[x, dy])?;
    Ok(dx)
}

pub(super) fn angle_losses(device: &CudaDevice, student: &Tensor, teacher: &Tensor) -> Result<[Tensor; 2]> {
    let (losses, gradients) = (device.floats(*student.shape())?, device.floats(*student.shape())?);
    let n = student.shape()[0] as u32;
    let args = args![address(student), address(teacher), address(&losses), address(&gradients), n];
    device.launch("angle_losses", launch::elements(student.numel()), args, &[student, teacher])?;
    Ok([losses, gradients])
}

/// Images, channels and positions of `[n, c, …]`.
fn extents(x: &Tensor) -> [usize; 3] {
    [x.shape()[0], x.shape()[1], x.shape()[2..].iter().product()]
}

pub(super) fn attention_map(device: &CudaDevice, x: &Tensor, power: f64) -> Result<Tensor> {
    let [n, channels, area] = extents(x);
    let map = device.floats([n, area])?;
    let args = args![address(x), address(&map), power as f32, n as u32, channels as u32, area as u32];
    device.launch("attention_map", launch::elements(n * area), args, &[x])?;
    Ok(map)
}

pub(super) fn attention_map_grad(device: &CudaDevice, x: &Tensor, dy: &Tensor, power: f64) -> Result<Tensor> {
    let [n, channels, area] = extents(x).map(|extent| extent as u32);
    let dx = device.floats(*x.shape())?;
    let args = args![address(x), address(dy), address(&dx), power as f32, n, channels, area];
    device.launch("attention_map_grad", launch::elements(x.numel()), args, &[x])?;
    Ok(dx)
}
