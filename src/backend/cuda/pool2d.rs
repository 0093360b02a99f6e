//! Pooling (`kernels/pool2d.cu`).

use super::device::{args, CudaDevice};
use super::launch;
use super::memory::address;
use crate::backend::params::Pool2d;
use crate::error::Result;
use crate::tensor::{DType, Shape, Tensor};

/// `Pool` in the kernel.
fn sizes(p: &Pool2d) -> [i32; 7] {
    [p.h, p.w, p.kernel, p.stride, p.padding, p.out_h(), p.out_w()].map(|size| size as i32)
}

/// The planes of `x` with another area.
fn with_area(x: &Tensor, h: usize, w: usize) -> Shape {
    Shape::from([x.shape()[0], x.shape()[1], h, w])
}

pub(super) fn max(device: &CudaDevice, p: &Pool2d, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let shape = with_area(x, p.out_h(), p.out_w());
    let (y, index) = (device.floats(shape)?, device.output(shape, DType::I32)?);
    let n = y.numel();
    let args = args![sizes(p), address(x), address(&y), address(&index), n as u32];
    device.launch("max_pool2d", launch::elements(n), args, &[x])?;
    Ok((y, index))
}

pub(super) fn max_grad(device: &CudaDevice, p: &Pool2d, dy: &Tensor, index: &Tensor) -> Result<Tensor> {
    let dx = device.floats(with_area(dy, p.h, p.w))?;
    let n = dx.numel();
    let args = args![sizes(p), address(dy), address(index), address(&dx), n as u32];
    device.launch("max_pool2d_grad", launch::elements(n), args, &[dy])?;
    Ok(dx)
}

pub(super) fn avg(device: &CudaDevice, p: &Pool2d, x: &Tensor) -> Result<Tensor> {
    let y = device.floats(with_area(x, p.out_h(), p.out_w()))?;
    let n = y.numel();
    device.launch("avg_pool2d", launch::elements(n), args![sizes(p), address(x), address(&y), n as u32], &[x])?;
    Ok(y)
}

pub(super) fn avg_grad(device: &CudaDevice, p: &Pool2d, dy: &Tensor) -> Result<Tensor> {
    let dx = device.floats(with_area(dy, p.h, p.w))?;
    let n = dx.numel();
    let args = args![sizes(p), address(dy), address(&dx), n as u32];
    device.launch("avg_pool2d_grad", launch::elements(n), args, &[dy])?;
    Ok(dx)
}

/// `kernel` maps between images of size `image` and their bins.
fn adaptive(
    device: &CudaDevice,
    kernel: &'static str,
    from: &Tensor,
    to: Tensor,
    image: [usize; 2],
    bins: [usize; 2],
) -> Result<Tensor> {
    let [h, w, out_h, out_w] = [image[0], image[1], bins[0], bins[1]].map(|size| size as i32);
    let n = to.numel();
    let args = args![address(from), address(&to), h, w, out_h, out_w, n as u32];
    device.launch(kernel, launch::elements(n), args, &[from, &to])?;
    Ok(to)
}

pub(super) fn adaptive_avg(device: &CudaDevice, x: &Tensor, out: [usize; 2]) -> Result<Tensor> {
    let y = device.floats(with_area(x, out[0], out[1]))?;
    adaptive(device, "adaptive_avg_pool2d", x, y, [x.shape()[2], x.shape()[3]], out)
}

pub(super) fn adaptive_avg_grad(device: &CudaDevice, dy: &Tensor, input: [usize; 2]) -> Result<Tensor> {
    let dx = device.floats(with_area(dy, input[0], input[1]))?;
    adaptive(device, "adaptive_avg_pool2d_grad", dy, dx, input, [dy.shape()[2], dy.shape()[3]])
}
