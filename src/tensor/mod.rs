//! Tensors: contiguous, row-major, cheap to clone, immutable unless uniquely owned.

mod derived;
mod device;
mod dtype;
pub(crate) mod history;
pub mod io;
pub mod pool;
pub mod random;
mod shape;
mod storage;

pub use derived::{Derived, DerivedKey};
pub use device::Device;
pub(crate) use dtype::with_element;
pub use dtype::{DType, Element, Real};
pub use history::History;
pub use random::Rng;
pub use shape::{Shape, MAX_RANK};
pub use storage::{DeviceMemory, Storage};

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
        debug_assert_eq!(storage.len(), shape.numel());
        Tensor { storage: Arc::new(storage), shape, device, history: History::Constant }
    }

    /// A tensor on a host device whose elements a kernel writes: `fill` gets a slice of unspecified contents and must set all of
    /// it.
    pub(crate) fn build<T: Element>(shape: Shape, device: Device, fill: impl FnOnce(&mut [T])) -> Tensor {
        debug_assert!(device.is_host());
        let mut storage = Storage::uninitialised(T::DTYPE, shape.numel());
        fill(storage.as_mut_slice());
        Tensor::from_storage(storage, shape, device)
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

    /// The memory behind the tensor, to write. If another tensor shares it, this one gets its own copy first, made by `copy`, so
    /// that tensors behave as values.
    pub(crate) fn unique_storage(&mut self, copy: impl FnOnce(&Storage) -> Result<Storage>) -> Result<&mut Storage> {
        if Arc::get_mut(&mut self.storage).is_none() {
            self.storage = Arc::new(copy(&self.storage)?);
        }
        Ok(Arc::get_mut(&mut self.storage).expect("nobody else has the new copy"))
    }

    /// The host memory behind the tensor, to write.
    pub(crate) fn storage_mut(&mut self) -> &mut Storage {
        self.unique_storage(Storage::to_host).expect("host memory is always readable")
    }

    /// The elements, for kernels that have checked the dtype.
    pub(crate) fn slice<T: Element>(&self) -> &[T] {
        self.storage.as_slice()
    }

    /// The same values in the memory of the processor, on the device `cpu` if they were not there; without history.
    ///
    /// # Errors
    /// The device failed, now or in something that was launched earlier.
    pub fn to_host(&self) -> Result<Tensor> {
        match self.device.is_host() {
            true => Ok(self.detach()),
            false => Ok(Tensor::from_storage(self.storage.to_host()?, self.shape, Device::Cpu)),
        }
    }

    /// The elements as a vector.
    ///
    /// # Errors
    /// The tensor holds another type, or its device failed.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if self.dtype() != T::DTYPE {
            let (expected, found) = (format!("{} (convert with `to_dtype`)", T::DTYPE), self.dtype().to_string());
            return Err(Error::DType { op: "to_vec", arg: "self", expected, found });
        }
        Ok(self.to_host()?.slice::<T>().to_vec())
    }

    /// The value of a tensor with one element.
    ///
    /// # Errors
    /// The tensor has more than one element, or its device failed.
    pub fn item(&self) -> Result<f64> {
        if self.numel() != 1 {
            let (expected, found) = ("one element".to_string(), format!("{:?}", self.shape));
            return Err(Error::Shape { op: "item", arg: "self", expected, found });
        }
        Ok(self.to_f64_vec()?[0])
    }

    /// The elements as `f64`, whatever the dtype.
    ///
    /// # Errors
    /// The tensor's device failed.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        let host = self.to_host()?;
        Ok(with_element!(self.dtype(), T => {
            let widen = |&x: &T| num_traits::ToPrimitive::to_f64(&x).unwrap_or(f64::NAN);
            host.slice::<T>().iter().map(widen).collect()
        }))
    }

    /// The same memory as seen by another host device.
    pub(crate) fn on_host_device(&self, device: Device) -> Tensor {
        debug_assert!(self.device.is_host() && device.is_host());
        Tensor { device, ..self.detach() }
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
    ///
    /// # Errors
    /// The tensor's device failed.
    pub fn is_finite(&self) -> Result<bool> {
        match self.dtype() {
            DType::F32 => Ok(self.to_host()?.slice::<f32>().iter().all(|x| x.is_finite())),
            DType::I32 | DType::U8 => Ok(true),
            _ => Ok(self.to_f64_vec()?.iter().all(|x| x.is_finite())),
        }
    }
}

impl fmt::Debug for Tensor {
    /// Type, shape and device, then the values; long dimensions are cut in the middle.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Tensor({} {:?} {}", self.dtype(), self.shape, self.device)?;
        if self.is_tracked() {
            f.write_str(", tracked")?;
        }
        f.write_str(") ")?;
        match self.to_f64_vec() {
            Ok(values) => debug::write_values(f, &values, self.shape.dims(), self.dtype()),
            Err(error) => write!(f, "unreadable: {error}"),
        }
    }
}

mod debug;

#[cfg(test)]
mod tests;
