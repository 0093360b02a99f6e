//! Matrix products (`kernels/matmul.cu`).

use super::device::{args, CudaDevice};
use super::driver::DevicePtr;
use super::launch::{for_tile, Tile, MAX_GRID_YZ};
use super::memory::address;
use crate::backend::params::{Matmul, MatmulSizes};
use crate::error::Result;
use crate::tensor::Tensor;

/// `MatmulSizes` in the kernel.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Sizes {
    m: i32,
    n: i32,
    k: i32,
    b_is_shared: i32,
    relu: i32,
}

pub(super) fn matmul(device: &CudaDevice, p: Matmul, a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let MatmulSizes { mut batch, mut m, k, n, mut b_is_shared, shape } = MatmulSizes::new(p, a.shape(), b.shape());
    let c = device.floats(shape)?;
    if c.numel() == 0 {
        return Ok(c);
    }
    if b_is_shared && !p.transpose_a {
        // A shared matrix sees the batch as more rows.
        (m, batch, b_is_shared) = (batch * m, 1, false);
    }
    let tile = Tile::for_product(m, n);
    let kernel = kernel(tile, p.transpose_a, p.transpose_b);
    let sizes = Sizes { m: m as i32, n: n as i32, k: k as i32, b_is_shared: b_is_shared.into(), relu: p.relu.into() };
    let bias = bias.map_or(DevicePtr::NULL, address);
    let at = |x: &Tensor, matrix: usize, len: usize| DevicePtr(address(x).0 + (4 * matrix * len) as u64);
    // A grid has at most so many layers.
    for first in (0..batch).step_by(MAX_GRID_YZ) {
        let b_len = if b_is_shared { 0 } else { k * n };
        let pointers = [at(a, first, m * k), at(b, first, b_len), bias, at(&c, first, m * n)];
        let config = tile.grid(m, n, (batch - first).min(MAX_GRID_YZ));
        let args = args![sizes, pointers[0], pointers[1], pointers[2], pointers[3]];
        device.launch(kernel, config, args, &[a, b])?;
    }
    Ok(c)
}

fn kernel(tile: Tile, transpose_a: bool, transpose_b: bool) -> &'static str {
    match (transpose_a, transpose_b) {
        (false, false) => for_tile!(tile, "matmul_nn"),
        (false, true) => for_tile!(tile, "matmul_nt"),
        (true, false) => for_tile!(tile, "matmul_tn"),
        (true, true) => for_tile!(tile, "matmul_tt"),
    }
}
