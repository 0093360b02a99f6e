//! What several losses are composed of.

use crate::backend::params::{Distillation, Divergence};
use crate::error::{Error, Result};
use crate::tensor::{DType, Device, Shape, Tensor};

/// Lengths below this count as 0: a direction that does not exist has no gradient.
const SHORTEST: f64 = 1e-12;

/// `[n, …]` as `[n, everything else]`.
pub(super) fn rows(x: &Tensor) -> Result<Tensor> {
    match x.shape().rank() {
        2 => Ok(x.clone()),
        _ => x.flatten(1),
    }
}

/// `max(x, least)`, whose gradient is 0 where the bound holds.
pub(super) fn at_least(x: &Tensor, least: f64) -> Result<Tensor> {
    x.affine(1.0, -least)?.relu()?.affine(1.0, least)
}

/// `√max(x, 1e-24)`: a square root whose gradient at 0 is 0 instead of infinite.
pub(super) fn root(x: &Tensor) -> Result<Tensor> {
    at_least(x, SHORTEST * SHORTEST)?.sqrt()
}

/// The length of each vector along the last dimension, which stays as an extent of 1; at least 1e-12.
pub(super) fn lengths(x: &Tensor) -> Result<Tensor> {
    root(&x.square()?.sum(&[x.shape().rank() - 1], true)?)
}

/// Each vector along the last dimension divided by `max(‖·‖₂, 1e-12)`. A vector of zeros stays zero and gets no gradient.
pub(super) fn unit_vectors(x: &Tensor) -> Result<Tensor> {
    let squares = x.square()?.sum(&[x.shape().rank() - 1], true)?;
    let exists = squares.detach().affine(1.0, -SHORTEST * SHORTEST)?.is_positive()?;
    x.mul(&exists.div(&root(&squares)?)?)
}

/// 1 at each label, 0 elsewhere: `[n, classes]` for labels `[n]`.
pub(crate) fn one_hot(labels: &Tensor, classes: usize, like: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = (0..classes * classes).map(|i| f32::from(u8::from(i / classes == i % classes))).collect();
    constant(&values, Shape::from([classes, classes]), like)?.gather_rows(labels)
}

/// Known numbers as a tensor of the same type and on the same device as `like`.
pub(super) fn constant(values: &[f32], shape: impl Into<Shape>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(values, shape, Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())
}

/// `0, 1, …, n − 1` as labels.
pub(super) fn diagonal_labels(n: usize, device: Device) -> Result<Tensor> {
    Tensor::from_slice(&(0..n as i32).collect::<Vec<i32>>(), [n], device)
}

/// `T² · KL(softmax(z_t/T) ‖ softmax(z_s/T))`, averaged over samples: one kernel.
pub fn soft_targets(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    let p = Distillation::soft_only(Divergence::ForwardKl, temperature);
    Ok(student.distillation(teacher, None, None, p)?.total)
}

/// Two stacks of feature maps at one size: in each direction the larger is averaged down to the smaller.
pub(super) fn same_size(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    let (from_a, from_b) = (image_size(a)?, image_size(b)?);
    let size = [from_a[0].min(from_b[0]), from_a[1].min(from_b[1])];
    Ok((pooled_to(a, size)?, pooled_to(b, size)?))
}

/// Feature maps averaged over bins; themselves if they have that size.
pub(super) fn pooled_to(x: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    match image_size(x)? == size {
        true => Ok(x.clone()),
        false => x.adaptive_avg_pool2d(size),
    }
}

/// Height and width of `[n, c, h, w]`.
pub(super) fn image_size(x: &Tensor) -> Result<[usize; 2]> {
    match x.shape()[..] {
        [_, _, h, w] => Ok([h, w]),
        _ => {
            let found = format!("{:?}", x.shape());
            Err(Error::Shape { op: "feature maps", arg: "features", expected: "[n, c, h, w]".to_string(), found })
        }
    }
}

/// The scalar 0.
pub(super) fn zero(like: &Tensor) -> Result<Tensor> {
    let dtype = if like.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    Tensor::zeros(Shape::SCALAR, dtype, like.device())
}
