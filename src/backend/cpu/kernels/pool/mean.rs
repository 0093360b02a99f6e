//! Average pooling, over windows that slide and over the bins of adaptive pooling.

use super::sliding::Padded;
use super::Pool2d;
use crate::backend::cpu::kernels::isa::{self, Kernel};
use crate::backend::cpu::kernels::parallel::{elements_ns, for_each, Disjoint};
use crate::backend::cpu::kernels::scratch::take;
use crate::backend::cpu::kernels::simd::{for_each_vector, Simd};
use std::ops::Range;

/// `y` `[planes, out_h, out_w]`, the mean of each window; padding counts as zeros, as in PyTorch by default.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn avg_pool(pool: &Pool2d, x: &[f32], y: &mut [f32]) {
    pool.check(x.len(), y.len());
    let isa = isa::active();
    let (area_in, area) = (pool.h * pool.w, pool.out_h() * pool.out_w());
    let y = Disjoint::new(y);
    for_each(pool.planes, pool.work(), |plane| {
        // SAFETY: each task has its own plane.
        let y = unsafe { y.range(plane * area..(plane + 1) * area) };
        let mut padded = Padded::new(pool, 0.0);
        padded.copy(pool, &x[plane * area_in..(plane + 1) * area_in]);
        isa.run(Plane { pool, padded, y });
    });
}

struct Plane<'a> {
    pool: &'a Pool2d,
    padded: Padded,
    y: &'a mut [f32],
}

impl Kernel for Plane<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Plane { pool, padded, y } = self;
        let scale = S::splat(1.0 / (pool.kernel[0] * pool.kernel[1]) as f32);
        let columns = pool.out_w();
        for row in 0..pool.out_h() {
            let y = &mut y[row * columns..][..columns];
            for_each_vector!(S, columns, |window, n| {
                let mut sum = S::zero();
                for row in pool.window(0, row) {
                    for at in 0..pool.kernel[1] {
                        sum = S::add(sum, padded.load::<S>(pool, row, window, at));
                    }
                }
                S::store_first(y.as_mut_ptr().add(window), S::mul(sum, scale), n);
            });
        }
    }
}

/// `dx` `[planes, h, w]` of [`avg_pool`] from `dy`.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn avg_pool_backward(pool: &Pool2d, dy: &[f32], dx: &mut [f32]) {
    pool.check(dx.len(), dy.len());
    let windows = |axis: usize, n: usize| {
        let weight = 1.0 / pool.kernel[axis] as f32;
        (0..n).map(|i| (pool.window(axis, i), weight)).collect()
    };
    let bins = Bins {
        planes: pool.planes,
        extents: [pool.h, pool.w],
        rows: windows(0, pool.out_h()),
        columns: windows(1, pool.out_w()),
    };
    bins.backward(dy, dx);
}

/// Rectangles of planes `[planes, h, w]`, one for each pair of a range of rows and a range of columns; they may overlap.
pub struct Bins {
    planes: usize,
    extents: [usize; 2],
    /// Ranges, and what a pixel's share of them is; the weights of a rectangle's rows and columns multiply.
    rows: Vec<(Range<usize>, f32)>,
    columns: Vec<(Range<usize>, f32)>,
}

impl Bins {
    /// Those of adaptive pooling to `out`: bin `i` of `o` over `h` rows is ⌊i·h/o⌋ … ⌈(i+1)·h/o⌉, and likewise the columns.
    pub fn adaptive(planes: usize, [h, w]: [usize; 2], out: [usize; 2]) -> Bins {
        let bins = |extent: usize, bins: usize| {
            let bin = |i: usize| i * extent / bins..((i + 1) * extent).div_ceil(bins);
            (0..bins).map(|i| (bin(i), 1.0 / bin(i).len() as f32)).collect()
        };
        Bins { planes, extents: [h, w], rows: bins(h, out[0]), columns: bins(w, out[1]) }
    }

    /// `y` `[planes, rows, columns]`, the mean of each rectangle.
    ///
    /// # Panics
    /// When a slice does not have the length that the bins imply.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        let [area_in, area] = self.areas(x.len(), y.len());
        let isa = isa::active();
        let width = self.extents[1];
        let y = Disjoint::new(y);
        for_each(self.planes, elements_ns(x.len() + y_cost(self.planes, area)), |plane| {
            let x = &x[plane * area_in..(plane + 1) * area_in];
            // SAFETY: each task has its own plane.
            let y = unsafe { y.range(plane * area..(plane + 1) * area) };
            let mut sums = take::<f32>(width);
            for (y, (rows, row_weight)) in y.chunks_exact_mut(self.columns.len()).zip(&self.rows) {
                isa.vectorise(|| {
                    sums.fill(0.0);
                    for row in x[rows.start * width..rows.end * width].chunks_exact(width) {
                        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                    }
                });
                for (y, (columns, weight)) in y.iter_mut().zip(&self.columns) {
                    *y = sums[columns.clone()].iter().sum::<f32>() * (row_weight * weight);
                }
            }
        });
    }

    /// `dx` `[planes, h, w]` of [`Bins::forward`] from `dy`.
    ///
    /// # Panics
    /// When a slice does not have the length that the bins imply.
    pub fn backward(&self, dy: &[f32], dx: &mut [f32]) {
        let [area_in, area] = self.areas(dx.len(), dy.len());
        let isa = isa::active();
        let width = self.extents[1];
        let cost = elements_ns(dx.len() + y_cost(self.planes, area));
        let dx = Disjoint::new(dx);
        for_each(self.planes, cost, |plane| {
            let dy = &dy[plane * area..(plane + 1) * area];
            // SAFETY: each task has its own plane.
            let dx = unsafe { dx.range(plane * area_in..(plane + 1) * area_in) };
            dx.fill(0.0);
            let mut shares = take::<f32>(width);
            for (dy, (rows, row_weight)) in dy.chunks_exact(self.columns.len()).zip(&self.rows) {
                shares.fill(0.0);
                for (dy, (columns, weight)) in dy.iter().zip(&self.columns) {
                    let share = dy * (row_weight * weight);
                    shares[columns.clone()].iter_mut().for_each(|sum| *sum += share);
                }
                isa.vectorise(|| {
                    for row in dx[rows.start * width..rows.end * width].chunks_exact_mut(width) {
                        row.iter_mut().zip(&*shares).for_each(|(dx, share)| *dx += share);
                    }
                });
            }
        });
    }

    fn areas(&self, x: usize, y: usize) -> [usize; 2] {
        let areas = [self.extents[0] * self.extents[1], self.rows.len() * self.columns.len()];
        assert_eq!([x, y], areas.map(|area| self.planes * area), "pooling: elements of input and output");
        areas
    }
}

/// Outputs are written one by one, each at the price of a few elements.
fn y_cost(planes: usize, area: usize) -> usize {
    4 * planes * area
}
