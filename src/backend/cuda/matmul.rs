//! Matrix products (`kernels/matmul.cu`).

use super::device::{args, CudaDevice};
use super::driver::DevicePtr;
use super::format::{Format, Scale};
use super::launch::{self, for_tile, Tile, MAX_GRID_YZ};
use super::memory::address;
use super::tuner::Candidate;
use crate::backend::params::{Matmul, MatmulSizes, Side};
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
    splits: i32,
    stretch: i32,
    scale_a: Scale,
    scale_b: Scale,
}

impl Sizes {
    /// Of an m × k by a k × n matrix, each with its own partner, in one stretch, of values alone.
    fn of(m: usize, n: usize, k: usize) -> Sizes {
        let [m, n, k] = [m, n, k].map(|size| size as i32);
        Sizes { m, n, k, b_is_shared: 0, relu: 0, splits: 1, stretch: k, scale_a: Scale::ONE, scale_b: Scale::ONE }
    }
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
    let candidates = |z: usize| -> Vec<Candidate> {
        let candidate = |&tile: &Tile| (kernel(tile, p.transpose_a, p.transpose_b), tile.grid(m, n, z));
        tile.candidates_for_matrices(m, n, z).iter().map(candidate).collect()
    };
    let bias = bias.map_or(DevicePtr::NULL, address);
    let (splits, stretch) = launch::split_product(tile, m, n, k, batch);
    let scale = |side| match p.gradient == Some(side) {
        true => Scale::of_gradient(Format::active()),
        false => Scale::ONE,
    };
    let sizes = Sizes {
        b_is_shared: i32::from(b_is_shared),
        relu: i32::from(p.relu),
        splits: splits as i32,
        stretch: stretch as i32,
        scale_a: scale(Side::A),
        scale_b: scale(Side::B),
        ..Sizes::of(m, n, k)
    };
    if splits > 1 {
        let sums = device.floats([splits, c.numel()])?;
        let args = |_| Ok((args![sizes, address(a), address(b), DevicePtr::NULL, address(&sums)], None));
        device.launch_fastest(&candidates(batch * splits), &[&sums], &[a, b], args)?;
        let args = args![sizes, address(&sums), bias, address(&c), c.numel() as u32];
        device.launch("matmul_sum", launch::elements(c.numel()), args, &[a, b])?;
        return Ok(c);
    }
    let at = |x: &Tensor, matrix: usize, len: usize| DevicePtr(address(x).0 + (4 * matrix * len) as u64);
    // A grid has at most so many layers.
    for first in (0..batch).step_by(MAX_GRID_YZ) {
        let b_len = if b_is_shared { 0 } else { k * n };
        let pointers = [at(a, first, m * k), at(b, first, b_len), bias, at(&c, first, m * n)];
        let mut candidates = candidates((batch - first).min(MAX_GRID_YZ));
        if batch > MAX_GRID_YZ {
            candidates.truncate(1); // Each writes a part of the result.
        }
        let args = |_| Ok((args![sizes, pointers[0], pointers[1], pointers[2], pointers[3]], None));
        device.launch_fastest(&candidates, &[&c], &[a, b], args)?;
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

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use super::*;
    use crate::tensor::Device;

    #[test]
    fn all_tiles_of_a_format_give_the_same_bits() {
        let device = super::super::cuda(Device::Emulator);
        let (m, n, k) = (131, 140, 37);
        let some = |len: usize, seed: usize| {
            let values: Vec<f32> = (0..len).map(|i| ((i * 37 + seed) % 101) as f32 / 50.0 - 1.0).collect();
            Tensor::from_slice(&values, [len], Device::Emulator).unwrap()
        };
        let (a, b, bias) = (some(m * k, 1), some(k * n, 2), some(n, 3));
        let scale = Scale::of_gradient(Some(Format::F16));
        let sizes = Sizes { relu: 1, scale_a: scale, scale_b: scale, ..Sizes::of(m, n, k) };
        let on_tensor_cores = Format::ALL.map(|format| [Tile::Tensor(format), Tile::LargeTensor(format)]);
        for tiles in [&[[Tile::Large, Tile::Small]], &on_tensor_cores[..]].concat() {
            for transposed in [[false, false], [false, true], [true, false], [true, true]] {
                let products = tiles.map(|tile| {
                    let c = device.floats([m, n]).unwrap();
                    let args = args![sizes, address(&a), address(&b), address(&bias), address(&c)];
                    let kernel = kernel(tile, transposed[0], transposed[1]);
                    device.launch(kernel, tile.grid(m, n, 1), args, &[]).unwrap();
                    c.to_host().unwrap().storage().bytes().to_vec()
                });
                assert!(products[0] == products[1], "{tiles:?} {transposed:?}");
            }
        }
    }
}
