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

/// A temperature is a finite number above 0.
pub(crate) fn temperature(op: &'static str, temperature: f64) -> Result<()> {
    match temperature > 0.0 && temperature.is_finite() {
        true => Ok(()),
        false => Err(Error::argument(op, format!("the temperature must be above 0, found {temperature}"))),
    }
}

/// Class labels: `I32`, one for each row of `logits: [n, classes]`, each a class (or `ignored`).
pub(crate) fn labels(op: &'static str, logits: &Tensor, labels: &Tensor, ignored: i32) -> Result<()> {
    rank(op, "logits", logits, 2, "[n, classes]")?;
    integer(op, "labels", labels)?;
    same_device(op, logits, labels)?;
    let [n, classes] = [logits.shape()[0], logits.shape()[1]];
    shape(op, "labels", labels, &Shape::from([n]))?;
    let valid = |label: i32| label == ignored || (0..classes as i64).contains(&i64::from(label));
    match first_invalid(labels, valid)? {
        None => Ok(()),
        Some((at, label)) => {
            let reason = format!("label {label} of sample {at} is not one of the classes 0 to {}", classes as i64 - 1);
            Err(Error::argument(op, reason))
        }
    }
}

/// The first element of an `I32` tensor that is not valid, and its position. What is valid must be an interval, with at most one
/// number outside of it.
pub(crate) fn first_invalid(index: &Tensor, valid: impl Fn(i32) -> bool) -> Result<Option<(usize, i32)>> {
    // Where the smallest and the largest are known and in the interval, so are all between them, and nothing has to be read back.
    if index.storage().index_range().is_some_and(|(low, high)| low >= 0 && valid(low) && valid(high)) {
        return Ok(None);
    }
    let host = index.to_host()?;
    Ok(host.slice::<i32>().iter().copied().enumerate().find(|&(_, i)| !valid(i)))
}
