//! stub
use super::driver::*;
use crate::error::{Error, Result};
/// stub
pub struct Gpu;
impl Gpu {
    /// stub
    pub fn count() -> u32 {
        0
    }
    /// stub
    pub fn open(_n: u32) -> Result<crate::backend::cuda::gpu::Gpu> {
        Err(Error::Device { op: "device", reason: "no driver".into() })
    }
}
impl Driver for Gpu {
    fn info(&self) -> &DeviceInfo {
        todo!()
    }
    fn allocate(&self, _: usize) -> Result<DevicePtr> {
        todo!()
    }
    fn free(&self, _: DevicePtr, _: usize) {}
    fn memory_use(&self) -> Result<MemoryUse> {
        todo!()
    }
    fn upload(&self, _: DevicePtr, _: &[u8]) -> Result<()> {
        todo!()
    }
    fn download(&self, _: DevicePtr, _: &mut [u8]) -> Result<()> {
        todo!()
    }
    fn copy(&self, _: DevicePtr, _: DevicePtr, _: usize) -> Result<()> {
        todo!()
    }
    fn launch(&self, _: &Launch) -> Result<()> {
        todo!()
    }
    fn synchronize(&self) -> Result<()> {
        todo!()
    }
    fn time(&self, _: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        todo!()
    }
    fn record(&self, _: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Graph>> {
        todo!()
    }
}
