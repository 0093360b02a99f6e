//! Page-locked host memory through which uploads go: the device copies from it while the program goes on.

use crate::backend::cuda::driver::DevicePtr;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::ffi::c_void;

/// Bytes of the buffer.
const CAPACITY: usize = 8 << 20;

/// A buffer that is filled from its start; when it is full, the device is waited for, and it starts over.
pub(super) struct Staging {
    stream: sys::CUstream,
    start: *mut u8,
    used: usize,
}

// SAFETY: the memory has one owner, and handles of the driver may be used from any thread.
unsafe impl Send for Staging {}

impl Staging {
    /// A buffer for uploads on a stream, whose context is current.
    pub fn new(stream: sys::CUstream) -> Result<Staging, DriverError> {
        // SAFETY: the memory is freed in `release`.
        let start: *mut c_void = unsafe { result::malloc_host(CAPACITY, 0) }?;
        Ok(Staging { stream, start: start.cast(), used: 0 })
    }

    /// Copies to the device, in order with what is launched; `from` may be changed at once.
    pub fn upload(&mut self, to: DevicePtr, from: &[u8]) -> Result<(), DriverError> {
        for (number, part) in from.chunks(CAPACITY).enumerate() {
            if self.used + part.len() > CAPACITY {
                // SAFETY: the stream is alive.
                unsafe { result::stream::synchronize(self.stream) }?;
                self.used = 0;
            }
            let to = to.0 + (number * CAPACITY) as u64;
            // SAFETY: the stretch lies in the buffer, and the device has no copy under way that reads it.
            unsafe {
                let staged = std::slice::from_raw_parts_mut(self.start.add(self.used), part.len());
                staged.copy_from_slice(part);
                result::memcpy_htod_async(to, staged, self.stream)?;
            }
            self.used += part.len().next_multiple_of(256);
        }
        Ok(())
    }

    /// Gives the memory back, when the device is done with it.
    pub fn release(&mut self) {
        // SAFETY: allocated by `malloc_host`, and not used after this. A lost device has no memory to give back.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}
