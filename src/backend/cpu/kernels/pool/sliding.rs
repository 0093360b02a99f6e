//! Windows that slide over a plane, as many of a row at a time as there are lanes.

use super::Pool2d;
use crate::backend::cpu::kernels::scratch::{take, Scratch};
use crate::backend::cpu::kernels::simd::{Simd, MAX_LANES};

/// A plane with its padding left and right, and whatever lies behind its end for the loads that go beyond.
pub(super) struct Padded {
    pixels: Scratch<f32>,
    width: usize,
}

impl Padded {
    /// Room for one plane, the padding filled with `fill`.
    pub fn new(pool: &Pool2d, fill: f32) -> Padded {
        let width = pool.w + 2 * pool.padding[1];
        let beyond = 2 * MAX_LANES * pool.stride[1] + pool.kernel[1];
        let mut pixels = take::<f32>(pool.h * width + beyond);
        pixels.fill(fill);
        Padded { pixels, width }
    }

    /// Puts a plane in.
    pub fn copy(&mut self, pool: &Pool2d, plane: &[f32]) {
        for (padded, row) in self.pixels.chunks_exact_mut(self.width).zip(plane.chunks_exact(pool.w)) {
            padded[pool.padding[1]..][..pool.w].copy_from_slice(row);
        }
    }

    /// In row `row`, what is `at` pixels from the left edges of the windows from number `window` on.
    #[inline(always)]
    pub unsafe fn load<S: Simd>(&self, pool: &Pool2d, row: usize, window: usize, at: usize) -> S::V {
        let start = row * self.width + window * pool.stride[1] + at;
        let pixels = &self.pixels[start..start + S::LANES * pool.stride[1]];
        match pool.stride[1] {
            1 => S::load(pixels.as_ptr()),
            2 => S::even(S::load(pixels.as_ptr()), S::load(pixels.as_ptr().add(S::LANES))),
            stride => {
                let mut lanes = [0.0; MAX_LANES];
                lanes.iter_mut().zip(pixels.iter().step_by(stride)).for_each(|(lane, &x)| *lane = x);
                S::load(lanes.as_ptr())
            }
        }
    }
}
