//! Pooling layers. Windows are square; images are `[n, c, h, w]`.

use super::{Context, Module, Visitor};
use crate::error::Result;
use crate::tensor::Tensor;

/// The maximum of each window.
pub struct MaxPool2d {
    /// Side of the window in pixels.
    pub kernel: usize,
    /// Pixels between neighbouring windows.
    pub stride: usize,
    /// Pixels of −∞ on each side.
    pub padding: usize,
}

/// The mean of each window.
pub struct AvgPool2d {
    /// Side of the window in pixels.
    pub kernel: usize,
    /// Pixels between neighbouring windows.
    pub stride: usize,
    /// Zeros on each side; they count.
    pub padding: usize,
}

/// Means over a fixed number of bins, whatever the image's size.
pub struct AdaptiveAvgPool2d {
    /// Output height and width.
    pub output: [usize; 2],
}

impl Module for MaxPool2d {
    fn forward(&self, x: &Tensor, _: &mut Context) -> Result<Tensor> {
        x.max_pool2d(self.kernel, self.stride, self.padding)
    }

    fn visit(&self, _: &mut Visitor) {}

    fn describe(&self) -> String {
        format!("max-pool {0}×{0}, stride {1}", self.kernel, self.stride)
    }
}

impl Module for AvgPool2d {
    fn forward(&self, x: &Tensor, _: &mut Context) -> Result<Tensor> {
        x.avg_pool2d(self.kernel, self.stride, self.padding)
    }

    fn visit(&self, _: &mut Visitor) {}

    fn describe(&self) -> String {
        format!("average pool {0}×{0}, stride {1}", self.kernel, self.stride)
    }
}

impl Module for AdaptiveAvgPool2d {
    fn forward(&self, x: &Tensor, _: &mut Context) -> Result<Tensor> {
        x.adaptive_avg_pool2d(self.output)
    }

    fn visit(&self, _: &mut Visitor) {}

    fn describe(&self) -> String {
        format!("average pool to {}×{}", self.output[0], self.output[1])
    }
}
