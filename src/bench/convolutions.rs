//! Convolutions: the notebook's layers, and those of residual and mobile networks.

use super::cases::{Case, Work};
use super::kernels::random;
use crate::autograd::no_grad;
use crate::error::Result;
use crate::ops::Conv2dOptions;
use crate::tensor::{DType, Device, Tensor};

/// A layer on square images, padded so that stride 1 keeps their size.
#[derive(Clone, Copy)]
struct Layer {
    n: usize,
    c_in: usize,
    c_out: usize,
    side: usize,
    kernel: usize,
    stride: usize,
    depthwise: bool,
}

/// Images, input and output channels, side: the notebook's layers and those of a small residual network.
const DENSE: [(usize, usize, usize, usize); 8] = [
    (128, 1, 64, 28),
    (128, 64, 128, 14),
    (128, 128, 256, 7),
    (128, 1, 16, 28),
    (128, 16, 32, 14),
    (128, 64, 64, 32),
    (128, 128, 128, 16),
    (128, 256, 256, 8),
];

/// Input and output channels, side, kernel, stride of what else residual networks have.
const RESIDUAL: [(usize, usize, usize, usize, usize); 9] = [
    (16, 16, 32, 3, 1),
    (16, 32, 32, 3, 2),
    (64, 128, 32, 3, 2),
    (256, 512, 8, 3, 2),
    (512, 512, 4, 3, 1),
    (64, 256, 16, 1, 1),
    (256, 64, 16, 1, 1),
    (512, 128, 8, 1, 1),
    (64, 128, 32, 1, 2),
];

/// Channels, side and stride of depthwise layers.
const DEPTHWISE: [(usize, usize, usize); 4] = [(32, 32, 1), (64, 32, 2), (128, 16, 1), (512, 8, 1)];

/// Input and output channels, side, kernel of layers with batch normalisation and ReLU in evaluation.
const NORMALISED: [(usize, usize, usize, usize); 3] = [(64, 64, 32, 3), (128, 128, 16, 3), (64, 256, 16, 1)];

pub(super) fn cases(device: Device) -> Vec<Case> {
    let n = 128;
    let dense = |(n, c_in, c_out, side)| Layer { n, c_in, c_out, side, kernel: 3, stride: 1, depthwise: false };
    let residual =
        |(c_in, c_out, side, kernel, stride)| Layer { n, c_in, c_out, side, kernel, stride, depthwise: false };
    let depthwise = |(c, side, stride)| Layer { n, c_in: c, c_out: c, side, kernel: 3, stride, depthwise: true };
    let mut cases = Vec::new();
    for layer in DENSE.map(dense) {
        cases.extend([layer.forward(device), layer.forward_backward(device), layer.pooled(device)]);
    }
    for layer in RESIDUAL.map(residual).into_iter().chain(DEPTHWISE.map(depthwise)) {
        cases.extend([layer.forward(device), layer.forward_backward(device)]);
    }
    let normalised = |(c_in, c_out, side, kernel)| residual((c_in, c_out, side, kernel, 1)).normalised(device);
    cases.extend(NORMALISED.map(normalised));
    cases
}

impl Layer {
    fn options(self) -> Conv2dOptions {
        let groups = if self.depthwise { self.c_in } else { 1 };
        Conv2dOptions { stride: [self.stride; 2], groups, ..Conv2dOptions::padded(self.kernel / 2) }
    }

    /// Such as `conv3x3_s2` or `depthwise3x3`.
    fn kind(self) -> String {
        let kind = if self.depthwise { "depthwise" } else { "conv" };
        let stride = if self.stride == 1 { String::new() } else { format!("_s{}", self.stride) };
        format!("{kind}{0}x{0}{stride}", self.kernel)
    }

    fn sizes(self) -> String {
        let Layer { n, c_in, c_out, side, .. } = self;
        format!("{n}x{c_in}x{side}x{side}_to_{c_out}")
    }

    fn out_side(self) -> usize {
        self.side.div_ceil(self.stride)
    }

    fn inputs_per_output(self) -> usize {
        self.kernel * self.kernel * if self.depthwise { 1 } else { self.c_in }
    }

    fn output_shape(self) -> [usize; 4] {
        [self.n, self.c_out, self.out_side(), self.out_side()]
    }

    fn flops(self) -> f64 {
        (2 * self.inputs_per_output() * self.output_shape().iter().product::<usize>()) as f64
    }

    /// Bytes of input, weight and output, the latter divided by `pooled`.
    fn bytes(self, pooled: usize) -> f64 {
        let (input, output) =
            (self.n * self.c_in * self.side * self.side, self.output_shape().iter().product::<usize>());
        4.0 * (input + output / pooled + self.c_out * self.inputs_per_output()) as f64
    }

    /// Input, weight and bias.
    fn tensors(self, device: Device) -> Result<[Tensor; 3]> {
        let Layer { n, c_in, c_out, side, kernel, .. } = self;
        let x = random(&[n, c_in, side, side], 1, device)?;
        let w = random(&[c_out, self.inputs_per_output() / (kernel * kernel), kernel, kernel], 2, device)?;
        Ok([x, w, random(&[c_out], 3, device)?])
    }

    fn case(self, what: &str, prepare: impl FnOnce() -> Result<Work> + 'static) -> Case {
        Case::new(format!("{what}_{}", self.sizes()), prepare).costing(self.flops(), self.bytes(1)).runs(15)
    }

    fn forward(self, device: Device) -> Case {
        self.case(&format!("{}_fwd", self.kind()), move || {
            let [x, w, b] = self.tensors(device)?;
            Ok(Box::new(move || no_grad(|| x.conv2d(&w, Some(&b), self.options())).map(drop)) as Work)
        })
    }

    fn forward_backward(self, device: Device) -> Case {
        let case = self.case(&format!("{}_fwd_bwd", self.kind()), move || {
            let [x, w, b] = self.tensors(device)?.map(|t| t.variable());
            let dy = random(&self.output_shape(), 4, device)?;
            let step = move || x.conv2d(&w, Some(&b), self.options())?.backward_from(&dy).map(drop);
            Ok(Box::new(step) as Work)
        });
        case.costing(3.0 * self.flops(), 3.0 * self.bytes(1))
    }

    fn pooled(self, device: Device) -> Case {
        let case = self.case("conv_relu_pool_fwd", move || {
            let [x, w, b] = self.tensors(device)?;
            Ok(Box::new(move || no_grad(|| x.conv2d_relu_pool(&w, &b, self.options())).map(drop)) as Work)
        });
        case.costing(self.flops(), self.bytes(4))
    }

    /// Convolution without bias, batch normalisation with running statistics folded into it, ReLU.
    fn normalised(self, device: Device) -> Case {
        self.case(&format!("{}_bn_relu_fwd", self.kind()), move || {
            let [x, w, shift] = self.tensors(device)?;
            let [scale, mean] = [5, 6].map(|seed| random(&[self.c_out], seed, device));
            let (scale, mean) = (scale?, mean?);
            let var = Tensor::full([self.c_out], 1.0, DType::F32, device)?;
            let layer = move || {
                let (w, b) = w.fold_batch_norm(&scale, &shift, &mean, &var, 1e-5)?;
                x.conv2d_relu(&w, Some(&b), self.options()).map(drop)
            };
            Ok(Box::new(move || no_grad(&layer)) as Work)
        })
    }
}
