//! Argument checks shared by ops, all made before a kernel runs.

use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// The tensor has this many dimensions; `layout` names them, as in `[n, c, h, w]`.
pub(crate) fn rank(op: &'static str, arg: &'static str, x: &Tensor, rank: usize, layout: &str) -> Result<()> {
    match x.shape().rank() == rank {
        true => Ok(()),
        false => Err(shape_error(op, arg, x, layout.to_string())),
    }
}

/// The tensor has this shape.
pub(crate) fn shape(op: &'static str, arg: &'static str, x: &Tensor, expected: &Shape) -> Result<()> {
    match x.shape() == expected {
        true => Ok(()),
        false => Err(shape_error(op, arg, x, format!("{expected:?}"))),
    }
}

/// A shape error with the expectation in words.
pub(crate) fn shape_error(op: &'static str, arg: &'static str, x: &Tensor, expected: String) -> Error {
    Error::Shape { op, arg, expected, found: format!("{:?}", x.shape()) }
}

/// The tensor holds floats that kernels compute with.
pub(crate) fn float(op: &'static str, arg: &'static str, x: &Tensor) -> Result<()> {
    match x.dtype() {
        DType::F32 | DType::F64 => Ok(()),
        found => {
            let expected = "f32 or f64 (convert with `to_dtype`)".to_string();
            Err(Error::DType { op, arg, expected, found: found.to_string() })
        }
    }
}

/// The tensor holds 32-bit integers.
pub(crate) fn integer(op: &'static str, arg: &'static str, x: &Tensor) -> Result<()> {
    dtype(op, arg, x, DType::I32)
}

/// The tensor has this element type.
pub(crate) fn dtype(op: &'static str, arg: &'static str, x: &Tensor, expected: DType) -> Result<()> {
    match x.dtype() == expected {
        true => Ok(()),
        false => Err(Error::DType { op, arg, expected: expected.to_string(), found: x.dtype().to_string() }),
    }
}

/// Two float tensors have the same dtype and device.
pub(crate) fn alike(op: &'static str, a: &Tensor, arg: &'static str, b: &Tensor) -> Result<()> {
    float(op, "self", a)?;
    dtype(op, arg, b, a.dtype())?;
    same_device(op, a, b)
}

/// Two tensors live on the same device.
pub(crate) fn same_device(op: &'static str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.device() != b.device() {
        let reason = format!("tensors on {} and on {}; move one with `to_device`", a.device(), b.device());
        return Err(Error::Device { op, reason });
    }
    Ok(())
}

/// A dimension exists.
pub(crate) fn dim(op: &'static str, x: &Tensor, dim: usize) -> Result<()> {
    match dim < x.shape().rank() {
        true => Ok(()),
        false => Err(shape_error(op, "self", x, format!("at least {} dimensions", dim + 1))),
    }
}
