//! Page-locked host memory to which results are copied while the program goes on.

use crate::backend::cuda::driver::DevicePtr;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use std::ffi::c_void;

/// Bytes that one copy can bring.
pub(super) const CAPACITY: usize = 64 << 10;

/// A place for one copy at a time.
pub(super) struct Landing {
    start: *mut u8,
    arrived: sys::CUevent,
}

// SAFETY: the memory has one owner, and handles of the driver may be used from any thread.
unsafe impl Send for Landing {}

impl Landing {
    /// A place in the memory of the current context.
    pub fn new() -> Result<Landing, DriverError> {
        // SAFETY: the memory is freed in `release`.
        let start: *mut c_void = unsafe { result::malloc_host(CAPACITY, 0) }?;
        match result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING) {
            Ok(arrived) => Ok(Landing { start: start.cast(), arrived }),
            Err(error) => {
                // SAFETY: it was just allocated.
                unsafe { result::free_host(start) }?;
                Err(error)
            }
        }
    }

    /// Has up to [`CAPACITY`] bytes copied here, in order with what is launched on the stream.
    pub fn copy(&mut self, from: DevicePtr, bytes: usize, stream: sys::CUstream) -> Result<(), DriverError> {
        // SAFETY: the place has so many bytes, which nobody reads before they have arrived; the stream is alive.
        unsafe {
            result::memcpy_dtoh_async(std::slice::from_raw_parts_mut(self.start, bytes), from.0, stream)?;
            result::event::record(self.arrived, stream)
        }
    }

    /// Waits for the last copy, which had so many bytes.
    pub fn wait(&self, bytes: usize) -> Result<Vec<u8>, DriverError> {
        // SAFETY: the event was recorded behind the copy, after which the bytes are there.
        unsafe {
            result::event::synchronize(self.arrived)?;
            Ok(std::slice::from_raw_parts(self.start, bytes).to_vec())
        }
    }

    /// Gives the memory back, when the device is done with it.
    pub fn release(self) {
        // SAFETY: both were made in `new`, and are not used after this. A lost device has nothing to give back.
        unsafe {
            let _ = result::event::destroy(self.arrived);
            let _ = result::free_host(self.start.cast());
        }
    }
}
