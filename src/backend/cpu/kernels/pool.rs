//! 2-D max and average pooling of planes `[planes, h, w]` (a batch of `[n, c, h, w]` is `n·c` planes).

use std::ops::Range;

use super::parallel::{elements_ns, for_each, Disjoint};

/// Geometry of a pooling layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool2d {
    /// Number of planes, `n·c`.
    pub planes: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Pixels between windows, down and across; at least 1.
    pub stride: [usize; 2],
    /// Pixels added on each side; at most half the window.
    pub padding: [usize; 2],
}

impl Pool2d {
    /// Height of the output; 0 when the window does not fit.
    pub fn out_h(&self) -> usize {
        self.out(0, self.h)
    }

    /// Width of the output; 0 when the window does not fit.
    pub fn out_w(&self) -> usize {
        self.out(1, self.w)
    }

    fn out(&self, axis: usize, size: usize) -> usize {
        (size + 2 * self.padding[axis]).checked_sub(self.kernel[axis]).map_or(0, |rest| rest / self.stride[axis] + 1)
    }

    /// Pixels of the input under window `i` of an axis, without the padding.
    fn window(&self, axis: usize, i: usize) -> Range<usize> {
        let size = [self.h, self.w][axis];
        let start = i * self.stride[axis];
        let end = (start + self.kernel[axis]).saturating_sub(self.padding[axis]).min(size);
        start.saturating_sub(self.padding[axis]).min(end)..end
    }

    fn check(&self, x: usize, y: usize) {
        assert!(
            (0..2).all(|i| self.kernel[i] > 0 && self.stride[i] > 0 && 2 * self.padding[i] <= self.kernel[i]),
            "pool2d: windows and strides of at least 1, padding of at most half a window in {self:?}"
        );
        assert_eq!(x, self.planes * self.h * self.w, "pool2d: elements of the input of {self:?}");
        assert_eq!(y, self.planes * self.out_h() * self.out_w(), "pool2d: elements of the output of {self:?}");
    }

    /// Calls `window(output index, rows, columns)` for every window of a plane.
    fn windows(&self, mut visit: impl FnMut(usize, Range<usize>, Range<usize>)) {
        let columns = self.out_w();
        for row in 0..self.out_h() {
            for column in 0..columns {
                visit(row * columns + column, self.window(0, row), self.window(1, column));
            }
        }
    }

    fn work(&self) -> usize {
        elements_ns(4 * self.planes * self.out_h() * self.out_w() * self.kernel[0] * self.kernel[1])
    }
}

/// `y` `[planes, out_h, out_w]` and, for each element, the index in its input plane of the maximum it came from (the first
/// of equals). Padding counts as −∞; a NaN wins over everything.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn max_pool(pool: &Pool2d, x: &[f32], y: &mut [f32], index: &mut [u32]) {
    pool.check(x.len(), y.len());
    assert_eq!(index.len(), y.len(), "max_pool: one index per output");
    let (area_in, area) = (pool.h * pool.w, pool.out_h() * pool.out_w());
    let (y, index) = (Disjoint::new(y), Disjoint::new(index));
    for_each(pool.planes, pool.work(), |plane| {
        let x = &x[plane * area_in..(plane + 1) * area_in];
        let range = plane * area..(plane + 1) * area;
        // SAFETY: each task has its own plane.
        let (y, index) = unsafe { (y.range(range.clone()), index.range(range)) };
        pool.windows(|at, rows, columns| {
            let mut place = rows.start * pool.w + columns.start;
            let mut best = f32::NEG_INFINITY;
            for row in rows {
                for i in row * pool.w + columns.start..row * pool.w + columns.end {
                    if x[i] > best || x[i].is_nan() {
                        (place, best) = (i, x[i]);
                    }
                }
            }
            (y[at], index[at]) = (best, place as u32);
        });
    });
}

/// `dx` `[planes, h, w]` from `dy` and the indices of [`max_pool`]; overlapping windows add up.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn max_pool_backward(pool: &Pool2d, dy: &[f32], index: &[u32], dx: &mut [f32]) {
    pool.check(dx.len(), dy.len());
    assert_eq!(index.len(), dy.len(), "max_pool_backward: one index per output");
    let (area_in, area) = (pool.h * pool.w, pool.out_h() * pool.out_w());
    let dx = Disjoint::new(dx);
    for_each(pool.planes, pool.work(), |plane| {
        // SAFETY: each task has its own plane.
        let dx = unsafe { dx.range(plane * area_in..(plane + 1) * area_in) };
        dx.fill(0.0);
        let outputs = plane * area..(plane + 1) * area;
        dy[outputs.clone()].iter().zip(&index[outputs]).for_each(|(dy, &i)| dx[i as usize] += dy);
    });
}

/// `y` `[planes, out_h, out_w]`, the mean of each window; padding counts as zeros, as in PyTorch by default.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn avg_pool(pool: &Pool2d, x: &[f32], y: &mut [f32]) {
    pool.check(x.len(), y.len());
    let (area_in, area) = (pool.h * pool.w, pool.out_h() * pool.out_w());
    let scale = 1.0 / (pool.kernel[0] * pool.kernel[1]) as f32;
    let y = Disjoint::new(y);
    for_each(pool.planes, pool.work(), |plane| {
        let x = &x[plane * area_in..(plane + 1) * area_in];
        // SAFETY: each task has its own plane.
        let y = unsafe { y.range(plane * area..(plane + 1) * area) };
        pool.windows(|at, rows, columns| {
            let sum: f32 = rows.map(|row| x[row * pool.w..][columns.clone()].iter().sum::<f32>()).sum();
            y[at] = sum * scale;
        });
    });
}

/// `dx` `[planes, h, w]` of [`avg_pool`] from `dy`.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn avg_pool_backward(pool: &Pool2d, dy: &[f32], dx: &mut [f32]) {
    pool.check(dx.len(), dy.len());
    let (area_in, area) = (pool.h * pool.w, pool.out_h() * pool.out_w());
    let scale = 1.0 / (pool.kernel[0] * pool.kernel[1]) as f32;
    let dx = Disjoint::new(dx);
    for_each(pool.planes, pool.work(), |plane| {
        // SAFETY: each task has its own plane.
        let dx = unsafe { dx.range(plane * area_in..(plane + 1) * area_in) };
        dx.fill(0.0);
        pool.windows(|at, rows, columns| {
            let share = dy[plane * area + at] * scale;
            for row in rows {
                dx[row * pool.w..][columns.clone()].iter_mut().for_each(|dx| *dx += share);
            }
        });
    });
}
