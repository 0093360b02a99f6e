//! Batches from a data set in device memory, and counts (`kernels/images.cu`).

use super::device::{args, CudaDevice};
use super::driver::DevicePtr;
use super::launch;
use super::memory::{address, unique_address};
use crate::error::Result;
use crate::tensor::Tensor;

pub(super) fn gather_images(
    device: &CudaDevice,
    images: &Tensor,
    index: &Tensor,
    plans: Option<&Tensor>,
) -> Result<Tensor> {
    let out = device.floats(images.shape().with_extent(0, index.numel()))?;
    let sizes = [1, 2, 3].map(|dim| images.shape()[dim] as i32);
    let n = out.numel();
    let plans = plans.map_or(DevicePtr::NULL, address);
    let args = args![sizes, address(images), address(index), plans, address(&out), n as u32];
    device.launch("gather_images", launch::elements(n), args, &[images, index])?;
    Ok(out)
}

pub(super) fn count_confusion(
    device: &CudaDevice,
    predictions: &Tensor,
    labels: &Tensor,
    counts: &mut Tensor,
) -> Result<()> {
    let (classes, n) = (counts.shape()[1] as u32, labels.numel());
    let args = args![address(predictions), address(labels), unique_address(counts)?, classes, n as u32];
    device.launch("count_confusion", launch::elements(n), args, &[labels])
}
