//! 2-D max and average pooling of planes `[planes, h, w]` (a batch of `[n, c, h, w]` is `n·c` planes).
//!
//! Each task copies a plane into scratch, with room round it, and slides over it as many windows of a row at once as there are
//! lanes. Memory is the limit: every input is read, and every output written, once.

mod max;
mod mean;
mod sliding;

use super::parallel::elements_ns;
pub use max::{max_pool, max_pool_backward};
pub use mean::{avg_pool, avg_pool_backward, Bins};
use std::ops::Range;

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

    fn work(&self) -> usize {
        elements_ns(self.planes * (self.h * self.w + self.out_h() * self.out_w() * self.kernel[0] * self.kernel[1]))
    }
}
