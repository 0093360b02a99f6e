//! Making tensors on a device, and moving them between devices.

use super::of;
use crate::error::{Error, Result};
use crate::tensor::{with_element, DType, Device, Element, Shape, Tensor};

impl Tensor {
    /// The backend that computes on this tensor.
    pub(crate) fn backend(&self) -> &'static dyn super::Backend {
        of(self.device())
    }

    /// A tensor with the given values.
    ///
    /// # Errors
    /// The number of values is not the shape's number of elements, or the device failed.
    pub fn from_slice<T: Element>(values: &[T], shape: impl Into<Shape>, device: Device) -> Result<Tensor> {
        let shape = shape.into();
        if values.len() != shape.numel() {
            let (expected, found) =
                (format!("{} values for shape {shape:?}", shape.numel()), format!("{} values", values.len()));
            return Err(Error::Shape { op: "from_slice", arg: "values", expected, found });
        }
        Tensor::build(shape, Device::Cpu, |out: &mut [T]| out.copy_from_slice(values)).to_device(device)
    }

    /// A tensor of one number.
    ///
    /// # Errors
    /// The device failed.
    pub fn scalar<T: Element>(value: T, device: Device) -> Result<Tensor> {
        Tensor::from_slice(&[value], Shape::SCALAR, device)
    }

    /// A tensor with every element `value`, rounded to the dtype.
    ///
    /// # Errors
    /// The device failed.
    pub fn full(shape: impl Into<Shape>, value: f64, dtype: DType, device: Device) -> Result<Tensor> {
        of(device).full(&shape.into(), value, dtype)
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// The device failed.
    pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: Device) -> Result<Tensor> {
        Tensor::full(shape, 0.0, dtype, device)
    }

    /// The same tensor on another device, without history.
    ///
    /// # Errors
    /// A device failed, or does not exist.
    pub fn to_device(&self, device: Device) -> Result<Tensor> {
        match device == self.device() {
            true => Ok(self.detach()),
            false => of(device).upload(&self.to_host()?),
        }
    }

    /// The same elements in another type, rounded to nearest; a number outside an integer type's range saturates.
    ///
    /// # Errors
    /// The device failed.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let values = self.to_f64_vec()?;
        let host = if self.device().is_host() { self.device() } else { Device::Cpu };
        with_element!(dtype, T => {
            Tensor::build(*self.shape(), host, |out: &mut [T]| {
                for (o, x) in out.iter_mut().zip(values) {
                    *o = cast(x, dtype);
                }
            })
        })
        .to_device(self.device())
    }
}

/// `x` as a `T`, saturating where `T` is an integer type.
fn cast<T: Element>(x: f64, dtype: DType) -> T {
    let x = match dtype {
        DType::I32 => x.round().clamp(f64::from(i32::MIN), f64::from(i32::MAX)),
        DType::U8 => x.round().clamp(0.0, 255.0),
        _ => x,
    };
    let x = if x.is_nan() && !dtype.is_float() { 0.0 } else { x };
    <T as num_traits::NumCast>::from(x).expect("a number within the type's range")
}
