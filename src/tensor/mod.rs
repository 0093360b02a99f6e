//! Tensors: contiguous, row-major, cheap to clone, immutable unless uniquely owned.

mod device;
mod dtype;
pub(crate) mod history;
pub mod io;
pub mod pool;
pub mod random;
mod shape;
mod storage;

pub use device::Device;
pub(crate) use dtype::with_element;
pub use dtype::{DType, Element, Real};
pub use history::History;
pub use random::Rng;
pub use shape::{Shape, MAX_RANK};
pub use storage::Storage;

use crate::error::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// An n-dimensional array on a device, with a record of how it was computed if gradients may be asked for.
#[derive(Clone)]
pub struct Tensor {
    storage: Arc<Storage>,
    shape: Shape,
    device: Device,
    pub(crate) history: History,
}

impl Tensor {
    /// A tensor from memory that a kernel filled.
    pub(crate) fn from_storage(storage: Storage, shape: Shape, device: Device) -> Tensor {
        debug_assert_eq!(storage.bytes().len(), shape.numel() * storage.dtype().size());
        Tensor { storage: Arc::new(storage), shape, device, history: History::Constant }
    }

    /// A tensor whose elements a kernel writes: `fill` gets a slice of unspecified contents and must set all of it.
    pub(crate) fn build<T: Element>(shape: Shape, device: Device, fill: impl FnOnce(&mut [T])) -> Tensor {
        let mut storage = Storage::uninitialised(T::DTYPE, shape.numel());
        fill(storage.as_mut_slice());
        Tensor::from_storage(storage, shape, device)
    }

    /// A tensor with the given values.
    ///
    /// # Errors
    /// The number of values is not the shape's number of elements.
    pub fn from_slice<T: Element>(values: &[T], shape: impl Into<Shape>, device: Device) -> Result<Tensor> {
        let shape = shape.into();
        if values.len() != shape.numel() {
            let (expected, found) =
                (format!("{} values for shape {shape:?}", shape.numel()), format!("{} values", values.len()));
            return Err(Error::Shape { op: "from_slice", arg: "values", expected, found });
        }
        Ok(Tensor::build(shape, device, |out: &mut [T]| out.copy_from_slice(values)))
    }

    /// A tensor of one number.
    pub fn scalar<T: Element>(value: T, device: Device) -> Tensor {
        Tensor::build(Shape::SCALAR, device, |out: &mut [T]| out[0] = value)
    }

    /// A tensor with every element `value`, rounded to the dtype.
    pub fn full(shape: impl Into<Shape>, value: f64, dtype: DType, device: Device) -> Tensor {
        with_element!(dtype, T => {
            let value = <T as num_traits::NumCast>::from(value).expect("a fill value within the dtype's range");
            Tensor::build(shape.into(), device, |out: &mut [T]| out.fill(value))
        })
    }

    /// A tensor of zeros.
    pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: Device) -> Tensor {
        Tensor::full(shape, 0.0, dtype, device)
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// Where the tensor lives.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The memory behind the tensor.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The memory behind the tensor, to write. If another tensor shares it, this one gets its own copy first, so that tensors
    /// behave as values.
    pub(crate) fn storage_mut(&mut self) -> &mut Storage {
        Arc::make_mut(&mut self.storage)
    }

    /// The elements, for kernels that have checked the dtype.
    pub(crate) fn slice<T: Element>(&self) -> &[T] {
        self.storage.as_slice()
    }

    /// The elements as a vector.
    ///
    /// # Errors
    /// The tensor holds another type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if self.dtype() != T::DTYPE {
            let (expected, found) = (format!("{} (convert with `to_dtype`)", T::DTYPE), self.dtype().to_string());
            return Err(Error::DType { op: "to_vec", arg: "self", expected, found });
        }
        Ok(self.slice::<T>().to_vec())
    }

    /// The value of a tensor with one element.
    ///
    /// # Errors
    /// The tensor has more than one element.
    pub fn item(&self) -> Result<f64> {
        if self.numel() != 1 {
            let (expected, found) = ("one element".to_string(), format!("{:?}", self.shape));
            return Err(Error::Shape { op: "item", arg: "self", expected, found });
        }
        Ok(self.to_f64_vec()[0])
    }

    /// The elements as `f64`, whatever the dtype.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        with_element!(self.dtype(), T => {
            let widen = |&x: &T| num_traits::ToPrimitive::to_f64(&x).unwrap_or(f64::NAN);
            self.slice::<T>().iter().map(widen).collect()
        })
    }

    /// The same elements in another type, rounded to nearest; a number outside an integer type's range saturates.
    pub fn to_dtype(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype() {
            return self.clone();
        }
        with_element!(dtype, T => {
            Tensor::build(self.shape, self.device, |out: &mut [T]| {
                for (o, x) in out.iter_mut().zip(self.to_f64_vec()) {
                    *o = cast(x, dtype);
                }
            })
        })
    }

    /// The same tensor on another device.
    pub fn to_device(&self, device: Device) -> Tensor {
        Tensor { device, history: History::Constant, ..self.clone() }
    }

    /// The same memory with other extents and no gradient history; see `reshape` for the recorded op.
    pub(crate) fn with_shape(&self, shape: Shape) -> Tensor {
        debug_assert_eq!(shape.numel(), self.numel());
        Tensor { shape, history: History::Constant, ..self.clone() }
    }

    /// The same values without their history: no gradient flows through the result.
    pub fn detach(&self) -> Tensor {
        Tensor { history: History::Constant, ..self.clone() }
    }

    /// The same values as a new variable, whose gradient can be asked for.
    pub fn variable(&self) -> Tensor {
        Tensor { history: History::Leaf(history::next_id()), ..self.clone() }
    }

    /// Whether gradients flow to this tensor.
    pub fn is_tracked(&self) -> bool {
        !matches!(self.history, History::Constant)
    }

    /// Whether every element is a finite number.
    pub fn is_finite(&self) -> bool {
        match self.dtype() {
            DType::F32 => self.slice::<f32>().iter().all(|x| x.is_finite()),
            DType::I32 | DType::U8 => true,
            _ => self.to_f64_vec().iter().all(|x| x.is_finite()),
        }
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

impl fmt::Debug for Tensor {
    /// Type, shape and device, then the values; long dimensions are cut in the middle.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Tensor({} {:?} {}", self.dtype(), self.shape, self.device)?;
        if self.is_tracked() {
            f.write_str(", tracked")?;
        }
        f.write_str(") ")?;
        debug::write_values(f, &self.to_f64_vec(), self.shape.dims(), self.dtype())
    }
}

mod debug;

#[cfg(test)]
mod tests;
