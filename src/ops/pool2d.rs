//! Max, average and adaptive average pooling of images `[n, c, h, w]`.

use super::case::{sample_extent, sample_normal, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::backend::params::Pool2d;
use crate::error::{Error, Result};
use crate::tensor::random::Sequence;
use crate::tensor::Tensor;

impl Tensor {
    /// The maximum of each `kernel × kernel` window; incomplete windows are dropped, padding never wins. Ties: the first
    /// maximum takes the gradient, as in PyTorch.
    ///
    /// # Errors
    /// Not an image, a window that does not fit, a stride of 0, or padding beyond half the window.
    pub fn max_pool2d(&self, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
        let p = geometry("max_pool2d", self, kernel, stride, padding)?;
        let (y, index) = self.backend().max_pool2d(&p, &self.detach())?;
        let cost = Cost::new((y.numel() * kernel * kernel) as f64, &[self, &y, &index]);
        record("max_pool2d", cost, y, &[self], move |dy, _| {
            Ok(vec![Some(dy.backend().max_pool2d_grad(&p, dy, &index)?)])
        })
    }

    /// The mean of each `kernel × kernel` window; incomplete windows are dropped, padding counts as zeros.
    ///
    /// # Errors
    /// Not an image, a window that does not fit, a stride of 0, or padding beyond half the window.
    pub fn avg_pool2d(&self, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
        let p = geometry("avg_pool2d", self, kernel, stride, padding)?;
        let y = self.backend().avg_pool2d(&p, &self.detach())?;
        let cost = Cost::new((y.numel() * kernel * kernel) as f64, &[self, &y]);
        record("avg_pool2d", cost, y, &[self], move |dy, _| Ok(vec![Some(dy.backend().avg_pool2d_grad(&p, dy)?)]))
    }

    /// Means over `output[0] × output[1]` bins with edges ⌊i·h/o⌋ … ⌈(i+1)·h/o⌉; `[1, 1]` is global average pooling.
    ///
    /// # Errors
    /// Not an image, or an extent of 0.
    pub fn adaptive_avg_pool2d(&self, output: [usize; 2]) -> Result<Tensor> {
        let op = "adaptive_avg_pool2d";
        check::float(op, "self", self)?;
        check::rank(op, "self", self, 4, "[n, c, h, w]")?;
        let input = [self.shape()[2], self.shape()[3]];
        if output.contains(&0) || input.contains(&0) {
            let reason = format!("image {input:?} into {output:?} bins; all extents must be at least 1");
            return Err(Error::argument(op, reason));
        }
        let y = self.backend().adaptive_avg_pool2d(&self.detach(), output)?;
        let cost = Cost::new(self.numel() as f64, &[self, &y]);
        record(op, cost, y, &[self], move |dy, _| Ok(vec![Some(dy.backend().adaptive_avg_pool2d_grad(dy, input)?)]))
    }

    /// Each pixel four times, `[n, c, 2h, 2w]` (nearest neighbour): four times what the mean of 2×2 windows gives back to its input.
    ///
    /// # Errors
    /// Not an image, or an empty one.
    pub fn upsample_nearest2x(&self) -> Result<Tensor> {
        const OP: &str = "upsample_nearest2x";
        check::float(OP, "self", self)?;
        check::rank(OP, "self", self, 4, "[n, c, h, w]")?;
        let input = [2 * self.shape()[2], 2 * self.shape()[3]];
        if input.contains(&0) {
            return Err(Error::argument(OP, format!("an image of {:?} has no pixels", self.shape())));
        }
        let p = Pool2d { h: input[0], w: input[1], kernel: 2, stride: 2, padding: 0 };
        let backend = self.backend();
        let y = backend.avg_pool2d_grad(&p, &backend.affine(&self.detach(), 4.0, 0.0)?)?;
        let cost = Cost::new(0.0, &[self, &y]);
        record(OP, cost, y, &[self], move |dy, _| {
            let mean = dy.backend().avg_pool2d(&p, dy)?;
            Ok(vec![Some(dy.backend().affine(&mean, 4.0, 0.0)?)])
        })
    }
}

/// The sizes of a pooling op, checked.
fn geometry(op: &'static str, x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Pool2d> {
    check::float(op, "self", x)?;
    check::rank(op, "self", x, 4, "[n, c, h, w]")?;
    // More padding would make windows that lie outside the image.
    if kernel == 0 || stride == 0 || padding > kernel / 2 {
        let reason = format!(
            "kernel {kernel}, stride {stride}, padding {padding}; expected kernel ≥ 1, stride ≥ 1, padding ≤ kernel/2"
        );
        return Err(Error::argument(op, reason));
    }
    let p = Pool2d { h: x.shape()[2], w: x.shape()[3], kernel, stride, padding };
    if p.out_h() == 0 || p.out_w() == 0 || p.h == 0 || p.w == 0 {
        let expected = format!("an image that the {kernel}×{kernel} window fits into (padding {padding})");
        return Err(check::shape_error(op, "self", x, expected));
    }
    Ok(p)
}

/// Kernel, stride and padding of a case.
fn window(case: &Case) -> Result<[usize; 3]> {
    Ok([case.count("kernel")?, case.count("stride")?, case.count("padding")?])
}

fn sample(random: &mut Sequence) -> Case {
    let kernel = sample_extent(random, 1, 3);
    let extents = [(1, 2), (1, 2), (3, 7), (3, 7)].map(|(low, high)| sample_extent(random, low, high));
    Case::new()
        .input("x", sample_normal(random, &extents))
        .attr("kernel", kernel)
        .attr("stride", sample_extent(random, 1, 3))
        .attr("padding", sample_extent(random, 0, kernel / 2))
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "upsample_nearest2x",
        run: |case| Ok(vec![("y", case.tensor("x")?.upsample_nearest2x()?)]),
        sample: Some(|random| {
            let extents = [(); 4].map(|()| sample_extent(random, 1, 4));
            Case::new().input("x", sample_normal(random, &extents))
        }),
    },
    OpSpec {
        name: "max_pool2d",
        run: |case| {
            let [kernel, stride, padding] = window(case)?;
            Ok(vec![("y", case.tensor("x")?.max_pool2d(kernel, stride, padding)?)])
        },
        sample: Some(sample),
    },
    OpSpec {
        name: "avg_pool2d",
        run: |case| {
            case.require("count_include_pad", true)?;
            let [kernel, stride, padding] = window(case)?;
            Ok(vec![("y", case.tensor("x")?.avg_pool2d(kernel, stride, padding)?)])
        },
        sample: Some(|random| sample(random).attr("count_include_pad", true)),
    },
    OpSpec {
        name: "adaptive_avg_pool2d",
        run: |case| Ok(vec![("y", case.tensor("x")?.adaptive_avg_pool2d(case.pair("output")?)?)]),
        sample: Some(|random| {
            let extents = [(); 4].map(|()| sample_extent(random, 1, 6));
            let output = [sample_extent(random, 1, 4), sample_extent(random, 1, 4)];
            Case::new().input("x", sample_normal(random, &extents)).attr("output", output)
        }),
    },
];
