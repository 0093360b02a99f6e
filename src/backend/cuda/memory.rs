//! Device memory behind tensors.

use super::device::{args, CudaDevice};
use super::driver::{DevicePtr, Driver};
use super::launch;
use crate::backend::Later;
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

/// The values of tensors of one element, which travel in one copy while the program goes on.
pub fn items(device: &CudaDevice, scalars: &[&Tensor]) -> Result<Later<Vec<f64>>> {
    /// Addresses that a launch takes; as in the kernel.
    const SCALARS: usize = 64;
    let here = |x: &Tensor| x.dtype() == DType::F32 && x.storage().device_memory().is_some();
    let gathered: Vec<DevicePtr> = scalars.iter().copied().filter(|x| here(x)).map(address).collect();
    let elsewhere = scalars.iter().map(|x| if here(x) { Ok(None) } else { x.item().map(Some) });
    let elsewhere = elsewhere.collect::<Result<Vec<Option<f64>>>>()?;
    let mut copied = Later::now(Vec::new());
    if !gathered.is_empty() {
        let side_by_side = device.scratch(size_of::<f32>() * gathered.len())?;
        for (number, part) in gathered.chunks(SCALARS).enumerate() {
            let mut addresses = [DevicePtr::NULL; SCALARS];
            addresses[..part.len()].copy_from_slice(part);
            let to = DevicePtr(side_by_side.start().0 + (number * SCALARS * size_of::<f32>()) as u64);
            let config = launch::one_block(SCALARS as u32);
            device.launch("gather_scalars", config, args![addresses, to, part.len() as u32], &[])?;
        }
        copied = device.driver()?.download_later(side_by_side.start(), size_of::<f32>() * gathered.len())?;
    }
    Ok(Later::new(move || {
        let copied = copied.get()?;
        let mut values = copied.chunks_exact(size_of::<f32>()).map(bytemuck::pod_read_unaligned::<f32>);
        let mut next = || f64::from(values.next().expect("one for each"));
        Ok(elsewhere.into_iter().map(|value| value.unwrap_or_else(&mut next)).collect())
    }))
}
