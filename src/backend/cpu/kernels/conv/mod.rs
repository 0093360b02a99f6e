//! 2-D convolution (cross-correlation, as every framework calls it), forward and backward.
//!
//! | file | what |
//! | --- | --- |
//! | `blocked` | planes with the channels last |
//! | `correlation` | one padded image against packed filters: the plan shared by forward and input gradient |
//! | `forward`, `pooled` | the dense forward pass, alone or with bias + ReLU + 2×2 max-pool |
//! | `winograd` | the same, and the gradients, for 3×3 filters of stride 1, with fewer multiplications |
//! | `grad_input`, `grad_weight` | the dense gradients |
//! | `strided` | the gradient of the input of a convolution with a stride |
//! | `sparse*` | the gradients through a pool, where at most one output in four has one |
//! | `planes` | 3×3 filters with few channels on one side: images, depthwise |
//! | `pointwise` | 1×1 filters of stride 1 |
//! | `depthwise` | groups of a few channels, any filter |

mod blocked;
mod correlation;
mod depthwise;
mod forward;
mod grad_input;
mod grad_weight;
mod planes;
mod pointwise;
mod pooled;
mod sparse;
mod sparse_input;
mod sparse_weight;
mod strided;
mod winograd;

pub use forward::forward;
pub use grad_input::grad_input;
pub use grad_weight::grad_weight;
pub use pooled::{forward_relu_pool, pooled_grad_input, pooled_grad_weight, unpool};

/// Geometry of a convolution of `[n, c_in, h, w]` with weights `[c_out, c_in / groups, kh, kw]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Images in the batch.
    pub n: usize,
    /// Channels of the input.
    pub c_in: usize,
    /// Height of the input, in pixels.
    pub h: usize,
    /// Width of the input, in pixels.
    pub w: usize,
    /// Channels of the output.
    pub c_out: usize,
    /// Height of the filter.
    pub kh: usize,
    /// Width of the filter.
    pub kw: usize,
    /// Pixels between filter positions, down and across; at least 1.
    pub stride: [usize; 2],
    /// Zero pixels added on each side, vertically and horizontally.
    pub padding: [usize; 2],
    /// Pixels between filter taps, down and across; at least 1.
    pub dilation: [usize; 2],
    /// Independent groups of channels; divides `c_in` and `c_out`.
    pub groups: usize,
}

impl Conv2d {
    /// Height of the output; 0 when the filter does not fit.
    pub fn out_h(&self) -> usize {
        out_size(self.h, self.kh, self.stride[0], self.padding[0], self.dilation[0])
    }

    /// Width of the output; 0 when the filter does not fit.
    pub fn out_w(&self) -> usize {
        out_size(self.w, self.kw, self.stride[1], self.padding[1], self.dilation[1])
    }

    /// Elements of the input.
    pub fn x_len(&self) -> usize {
        self.n * self.c_in * self.h * self.w
    }

    /// Elements of the weights.
    pub fn w_len(&self) -> usize {
        self.c_out * self.group_in() * self.taps()
    }

    /// Elements of the output.
    pub fn y_len(&self) -> usize {
        self.n * self.c_out * self.out_h() * self.out_w()
    }

    /// Elements of the output after a 2×2 max-pool of stride 2.
    pub fn pooled_len(&self) -> usize {
        self.n * self.c_out * (self.out_h() / 2) * (self.out_w() / 2)
    }

    /// Floating-point operations of the forward pass.
    pub fn flops(&self) -> usize {
        2 * self.y_len() * self.group_in() * self.taps()
    }

    fn group_in(&self) -> usize {
        self.c_in / self.groups
    }

    fn group_out(&self) -> usize {
        self.c_out / self.groups
    }

    fn taps(&self) -> usize {
        self.kh * self.kw
    }

    /// Height and width of the input with its padding.
    fn padded(&self) -> [usize; 2] {
        [self.h + 2 * self.padding[0], self.w + 2 * self.padding[1]]
    }

    /// # Panics
    /// When the geometry itself is impossible.
    fn check(&self) {
        assert!(self.kh > 0 && self.kw > 0, "empty filter in {self:?}");
        assert!(self.groups > 0 && self.stride.iter().chain(&self.dilation).all(|&s| s > 0), "impossible {self:?}");
        assert!(self.c_in.is_multiple_of(self.groups) && self.c_out.is_multiple_of(self.groups), "uneven {self:?}");
    }
}

fn out_size(size: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> usize {
    let reach = dilation * kernel.saturating_sub(1) + 1;
    (size + 2 * padding).checked_sub(reach).map_or(0, |rest| rest / stride + 1)
}
