//! The memory behind a tensor.

use super::dtype::{DType, Element};
use super::pool::HostBuffer;

/// A typed block of host memory from the caching pool.
pub struct Storage {
    buffer: HostBuffer,
    dtype: DType,
}

impl Storage {
    /// Room for `len` elements with unspecified contents.
    pub fn uninitialised(dtype: DType, len: usize) -> Storage {
        Storage { buffer: HostBuffer::new(len * dtype.size()), dtype }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The raw bytes, in the machine's byte order.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_bytes()
    }

    /// The raw bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut_bytes()
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
}

impl Clone for Storage {
    fn clone(&self) -> Storage {
        let mut copy = Storage { buffer: HostBuffer::new(self.bytes().len()), dtype: self.dtype };
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}
