//! Device memory behind tensors.

use super::device::CudaDevice;
use super::driver::{DevicePtr, Driver};
use crate::error::Result;
use crate::tensor::{DType, DeviceMemory, Storage, Tensor};
use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// Bytes in buffers, of all devices together: now, and at most since the peak was last reset.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The most bytes beyond those in use now that buffers take while `work` runs.
pub fn peak_of(work: &mut dyn FnMut() -> Result<()>) -> Result<usize> {
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work()?;
    Ok(PEAK.load(Ordering::Relaxed) - before)
}

/// A block of device memory, given back when dropped.
pub struct Buffer {
    driver: Arc<dyn Driver>,
    start: DevicePtr,
    bytes: usize,
}

impl Buffer {
    /// Memory for `bytes` bytes with unspecified contents.
    pub fn new(driver: &Arc<dyn Driver>, bytes: usize) -> Result<Buffer> {
        let bytes = bytes.max(1);
        let start = driver.allocate(bytes)?;
        let in_use = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(in_use, Ordering::Relaxed);
        Ok(Buffer { driver: driver.clone(), start, bytes })
    }

    /// Where it starts.
    pub fn start(&self) -> DevicePtr {
        self.start
    }

    fn copy(&self) -> Result<Buffer> {
        let copy = Buffer::new(&self.driver, self.bytes)?;
        self.driver.copy(self.start, copy.start, self.bytes)?;
        Ok(copy)
    }
}

impl DeviceMemory for Buffer {
    fn read(&self, to: &mut [u8]) -> Result<()> {
        match to.is_empty() {
            true => Ok(()),
            false => self.driver.download(self.start, to),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        IN_USE.fetch_sub(self.bytes, Ordering::Relaxed);
        self.driver.free(self.start, self.bytes);
    }
}

fn buffer(storage: &Storage) -> &Buffer {
    let memory: Option<&dyn Any> = storage.device_memory().map(|memory| memory as &dyn Any);
    memory.and_then(|memory| memory.downcast_ref()).expect("ops let only tensors of this device through")
}

/// Where a tensor's elements start.
pub fn address(x: &Tensor) -> DevicePtr {
    buffer(x.storage()).start
}

/// Where a tensor's elements start, to change them in place: another tensor that shares the memory keeps the old values.
pub fn unique_address(x: &mut Tensor) -> Result<DevicePtr> {
    let copy = |shared: &Storage| {
        let memory = buffer(shared).copy()?;
        Ok(Storage::on_device(Box::new(memory), shared.dtype(), shared.len(), None))
    };
    Ok(buffer(x.unique_storage(copy)?).start)
}

/// The values of tensors of one element, for which the device is waited for once.
pub fn items(device: &CudaDevice, scalars: &[&Tensor]) -> Result<Vec<f64>> {
    let mut values = vec![0f32; scalars.len()];
    let here = |x: &Tensor| x.dtype() == DType::F32 && x.storage().device_memory().is_some();
    let mut parts: Vec<(DevicePtr, &mut [u8])> = scalars
        .iter()
        .zip(&mut values)
        .filter(|(x, _)| here(x))
        .map(|(x, value)| (address(x), bytemuck::bytes_of_mut(value)))
        .collect();
    device.driver()?.download_all(&mut parts)?;
    scalars.iter().zip(values).map(|(x, value)| if here(x) { Ok(f64::from(value)) } else { x.item() }).collect()
}
