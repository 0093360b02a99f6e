//! What the kernels' outputs look like, and the kernels' own descriptions of a geometry.

use super::kernels::conv::Conv2d;
use super::kernels::pool;
use super::{build, written};
use crate::backend::params::{Conv2dGeometry, Pool2d};
use crate::tensor::{Device, Shape, Tensor};

/// Two new tensors of one shape, written together.
pub(super) fn build_pair<T: crate::tensor::Element>(
    shape: Shape,
    fill: impl FnOnce(&mut [f32], &mut [T]),
) -> (Tensor, Tensor) {
    let mut first = build(shape, |_| ());
    let second = Tensor::build(shape, Device::Cpu, |second| fill(written(&mut first), second));
    (first, second)
}

/// The gradients of a convolution's weight and bias, written together.
pub(super) fn weight_and_bias(g: &Conv2dGeometry, fill: impl FnOnce(&mut [f32], &mut [f32])) -> (Tensor, Tensor) {
    let mut weight = build(weight_shape(g), |_| ());
    let bias = build(Shape::from([g.c_out]), |db| fill(written(&mut weight), db));
    (weight, bias)
}

pub(super) fn conv(g: &Conv2dGeometry) -> Conv2d {
    let &Conv2dGeometry { n, c_in, h, w, c_out, kh, kw, stride, padding, dilation, groups } = g;
    Conv2d { n, c_in, h, w, c_out, kh, kw, stride, padding, dilation, groups }
}

pub(super) fn weight_shape(g: &Conv2dGeometry) -> Shape {
    Shape::from([g.c_out, g.c_in / g.groups, g.kh, g.kw])
}

pub(super) fn input_shape(g: &Conv2dGeometry) -> Shape {
    Shape::from([g.n, g.c_in, g.h, g.w])
}

/// The pooling of every plane of a tensor `[n, c, …]`.
pub(super) fn pool(p: &Pool2d, x: &Tensor) -> pool::Pool2d {
    let planes = x.shape()[0] * x.shape()[1];
    let [kernel, stride, padding] = [p.kernel, p.stride, p.padding].map(|size| [size; 2]);
    pool::Pool2d { planes, h: p.h, w: p.w, kernel, stride, padding }
}

pub(super) fn pooled_shape(p: &Pool2d, x: &Tensor) -> Shape {
    Shape::from([x.shape()[0], x.shape()[1], p.out_h(), p.out_w()])
}

pub(super) fn image_shape(p: &Pool2d, dy: &Tensor) -> Shape {
    Shape::from([dy.shape()[0], dy.shape()[1], p.h, p.w])
}

/// The length of a row, the last dimension.
pub(super) fn row_len(x: &Tensor) -> usize {
    x.shape().last().copied().unwrap_or(1)
}
