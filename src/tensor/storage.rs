//! The memory behind a tensor.

use super::derived::Derived;
use super::dtype::{DType, Element};
use super::pool::HostBuffer;
use crate::error::Result;
use std::any::Any;

/// Memory that the processor cannot read in place. The backend that made it knows what it is.
pub trait DeviceMemory: Any + Send + Sync {
    /// Copies the contents to the host, after everything that was launched to write them.
    fn read(&self, to: &mut [u8]) -> Result<()>;
}

/// A typed block of memory.
pub struct Storage {
    memory: Memory,
    dtype: DType,
    len: usize,
    derived: Derived,
}

enum Memory {
    Host(HostBuffer),
    Device { memory: Box<dyn DeviceMemory>, index_range: Option<(i32, i32)> },
}

impl Storage {
    /// Room on the host for `len` elements with unspecified contents.
    pub fn uninitialised(dtype: DType, len: usize) -> Storage {
        Storage { memory: Memory::Host(HostBuffer::new(len * dtype.size())), dtype, len, derived: Derived::default() }
    }

    /// Memory of another device that holds `len` elements. `index_range` is the smallest and largest of `I32` elements, where it is
    /// known without reading them back.
    pub fn on_device(
        memory: Box<dyn DeviceMemory>,
        dtype: DType,
        len: usize,
        index_range: Option<(i32, i32)>,
    ) -> Storage {
        Storage { memory: Memory::Device { memory, index_range }, dtype, len, derived: Derived::default() }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory of another device than the host.
    pub fn device_memory(&self) -> Option<&dyn DeviceMemory> {
        match &self.memory {
            Memory::Host(_) => None,
            Memory::Device { memory, .. } => Some(memory.as_ref()),
        }
    }

    /// The smallest and largest of `I32` elements on another device, where that is known.
    pub fn index_range(&self) -> Option<(i32, i32)> {
        match &self.memory {
            Memory::Host(_) => None,
            Memory::Device { index_range, .. } => *index_range,
        }
    }

    /// What was derived from these elements; forgotten when they are written.
    pub fn derived(&self) -> &Derived {
        &self.derived
    }

    /// The raw bytes of host memory, in the machine's byte order. Only host backends and files come here, with tensors on the host.
    pub fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Host(buffer) => buffer.as_bytes(),
            Memory::Device { .. } => {
                panic!("device memory was read as host memory; bring the tensor to the host first")
            }
        }
    }

    /// The raw bytes of host memory, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.derived.clear();
        match &mut self.memory {
            Memory::Host(buffer) => buffer.as_mut_bytes(),
            Memory::Device { .. } => {
                panic!("device memory was written as host memory; bring the tensor to the host first")
            }
        }
    }

    /// The elements. Ops check dtypes before they come here, so a mismatch is a bug in an op.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert_eq!(self.dtype, T::DTYPE, "a kernel read {} storage as {}", self.dtype, T::DTYPE);
        bytemuck::cast_slice(self.bytes())
    }

    /// The elements, to write.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(self.dtype, T::DTYPE, "a kernel wrote {} storage as {}", self.dtype, T::DTYPE);
        bytemuck::cast_slice_mut(self.bytes_mut())
    }

    /// The same elements in host memory of their own.
    ///
    /// # Errors
    /// The device failed, now or in something that was launched earlier.
    pub fn to_host(&self) -> Result<Storage> {
        let mut copy = Storage::uninitialised(self.dtype, self.len);
        match &self.memory {
            Memory::Host(buffer) => copy.bytes_mut().copy_from_slice(buffer.as_bytes()),
            Memory::Device { memory, .. } => memory.read(copy.bytes_mut())?,
        }
        Ok(copy)
    }
}
