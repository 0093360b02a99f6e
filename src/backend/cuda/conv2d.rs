//! Convolutions and their gradients (`kernels/conv2d.cu`, `kernels/conv2d_first.cu`, `kernels/conv2d_depthwise.cu`).

use super::conv2d_3x3::{self, Kernels3x3};
use super::device::{args, CudaDevice};
use super::driver::{Arg, DevicePtr};
use super::elementwise::fill;
use super::format::{Format, Scale};
use super::launch::{self, for_tile, Tile};
use super::layout::{sum, sum_middle};
use super::memory::address;
use super::tuner::Candidate;
use super::winograd;
use crate::backend::params::Conv2dGeometry;
use crate::error::Result;
use crate::tensor::{DType, Shape, Tensor};

/// `Conv` in `kernels/conv2d.cuh`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Conv {
    sizes: [i32; 7],
    stride: [i32; 2],
    padding: [i32; 2],
    dilation: [i32; 2],
    groups: i32,
    out: [i32; 2],
    gradient_scale: Scale,
    by_taps: Divisor,
    by_kw: Divisor,
    by_in_channels: Divisor,
    by_out_channels: Divisor,
    by_stride: [Divisor; 2],
    by_out: [Divisor; 2],
    by_pooled: [Divisor; 2],
}

/// `Divisor` there: n / d is n · factor >> shift, for 0 ≤ n < 2³¹.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Divisor {
    factor: u32,
    shift: u32,
}

impl Divisor {
    /// Of an empty extent nobody asks; any divisor will do there.
    pub(super) fn new(d: usize) -> Divisor {
        let d = d.max(1) as u64;
        let shift = 31 + d.next_power_of_two().trailing_zeros();
        Divisor { factor: (1u64 << shift).div_ceil(d) as u32, shift }
    }
}

impl From<&Conv2dGeometry> for Conv {
    fn from(g: &Conv2dGeometry) -> Conv {
        let pair = |pair: [usize; 2]| pair.map(|size| size as i32);
        Conv {
            sizes: [g.n, g.c_in, g.h, g.w, g.c_out, g.kh, g.kw].map(|size| size as i32),
            stride: pair(g.stride),
            padding: pair(g.padding),
            dilation: pair(g.dilation),
            groups: g.groups as i32,
            out: pair([g.out_h(), g.out_w()]),
            gradient_scale: Scale::ONE,
            by_taps: Divisor::new(g.kh * g.kw),
            by_kw: Divisor::new(g.kw),
            by_in_channels: Divisor::new(g.c_in / g.groups),
            by_out_channels: Divisor::new(g.c_out / g.groups),
            by_stride: g.stride.map(Divisor::new),
            by_out: [g.out_h(), g.out_w()].map(Divisor::new),
            by_pooled: [g.out_h() / 2, g.out_w() / 2].map(Divisor::new),
        }
    }
}

impl Conv {
    /// The same, of which the output's gradient is an operand.
    pub(super) fn backward(g: &Conv2dGeometry, format: Option<Format>) -> Conv {
        Conv { gradient_scale: Scale::of_gradient(format), ..Conv::from(g) }
    }
}

/// Output channels that a thread of a first layer's kernel computes, alone and with pooling.
const FIRST_OUTPUTS: usize = 16;
const FIRST_POOLED_OUTPUTS: usize = 8;

/// Whether the kernels for one input channel a group take it. Pooled convolutions go the general way.
fn is_depthwise(g: &Conv2dGeometry) -> bool {
    g.is_depthwise() && g.c_out <= launch::MAX_GRID_YZ
}

/// The tile for a convolution's product of m × n results. Where a group has little to add up, products stay in `f32`: there is nothing to
/// gain, and the first layer sees what the image holds.
fn tile(g: &Conv2dGeometry, m: usize, n: usize) -> Tile {
    match g.is_first_layer() || g.is_depthwise() {
        true => Tile::in_f32(m, n),
        false => Tile::for_product(m, n),
    }
}

/// The kernels that may stand in for that of a tile.
fn candidates(tile: Tile, candidate: impl Fn(&Tile) -> Candidate) -> Vec<Candidate> {
    tile.candidates().iter().map(candidate).collect()
}

/// The kernels for 3 × 3 taps that take a convolution, with its results in pooling windows or not, if any do.
fn kernels_3x3(device: &CudaDevice, g: &Conv2dGeometry, windows: bool) -> Result<Option<Box<dyn Kernels3x3>>> {
    if let Some(plan) = conv2d_3x3::plan(device, g, windows)? {
        return Ok(Some(Box::new(plan)));
    }
    Ok(winograd::plan(device, g, windows)?.map(|plan| Box::new(plan) as Box<dyn Kernels3x3>))
}

pub(super) fn conv2d(
    device: &CudaDevice,
    g: &Conv2dGeometry,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let y = device.floats([g.n, g.c_out, g.out_h(), g.out_w()])?;
    if y.numel() == 0 {
        return Ok(y);
    }
    let pixels = g.n * g.out_h() * g.out_w();
    let bias = bias.map_or(DevicePtr::NULL, address);
    let args = |w: &Tensor| args![Conv::from(g), address(x), address(w), bias, i32::from(relu), address(&y)];
    if is_depthwise(g) {
        let mut args = args(w);
        args.extend(args![y.numel() as u32]);
        device.launch("conv2d_depthwise", launch::elements(y.numel()), args, &[x, w])?;
    } else if g.is_first_layer() {
        let config = launch::exactly(pixels, g.c_out.div_ceil(FIRST_OUTPUTS));
        device.launch("conv2d_first", config, args(w), &[x, w])?;
    } else if let Some(kernels) = kernels_3x3(device, g, false)? {
        kernels.conv2d(device, g, [x, w, &y], bias, relu)?;
    } else {
        let channels = g.c_out / g.groups;
        let tile = tile(g, channels, pixels);
        let w = &weights_for(device, g, tile, Pass::Forward, w)?;
        let candidate = |&tile: &Tile| (for_tile!(tile, "conv2d"), tile.grid(channels, pixels, g.groups));
        device.launch_fastest(&candidates(tile, candidate), &[&y], &[x, w], |_| Ok((args(w), None)))?;
    }
    Ok(y)
}

pub(super) fn relu_pool(
    device: &CudaDevice,
    g: &Conv2dGeometry,
    x: &Tensor,
    w: &Tensor,
    bias: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let shape = pooled_shape(g);
    let (y, winners) = (device.floats(shape)?, device.output(shape, DType::U8)?);
    if y.numel() == 0 {
        return Ok((y, winners));
    }
    let windows = y.numel() / g.c_out;
    let args = |w: &Tensor| args![Conv::from(g), address(x), address(w), address(bias), address(&y), address(&winners)];
    if g.is_first_layer() {
        let config = launch::exactly(windows, g.c_out.div_ceil(FIRST_POOLED_OUTPUTS));
        device.launch("conv2d_first_relu_pool", config, args(w), &[x, w])?;
    } else if let Some(kernels) = kernels_3x3(device, g, true)? {
        kernels.relu_pool(device, g, [x, w, bias], [&y, &winners])?;
    } else {
        let channels = g.c_out / g.groups;
        let tile = tile(g, channels, 4 * windows);
        let w = &weights_for(device, g, tile, Pass::Forward, w)?;
        let candidate =
            |&tile: &Tile| (for_tile!(tile, "conv2d_relu_pool"), tile.grid(channels, 4 * windows, g.groups));
        device.launch_fastest(&candidates(tile, candidate), &[&y, &winners], &[x, w], |_| Ok((args(w), None)))?;
    }
    Ok((y, winners))
}

/// What a convolution's weights are read for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Forward,
    InputGradient,
}

/// The weights as the tile's kernels want them: packed for tensor cores.
fn weights_for(device: &CudaDevice, g: &Conv2dGeometry, tile: Tile, pass: Pass, w: &Tensor) -> Result<Tensor> {
    if !tile.has_tensor_cores() {
        return Ok(w.detach());
    }
    let packed = device.floats(*w.shape())?;
    let (backward, to_tf32) = (i32::from(pass == Pass::InputGradient), i32::from(tile == Tile::Tensor(Format::Tf32)));
    let n = w.numel();
    let args = args![Conv::from(g), address(w), backward, to_tf32, address(&packed), n as u32];
    device.launch("conv2d_weights", launch::elements(n), args, &[w])?;
    Ok(packed)
}

fn pooled_shape(g: &Conv2dGeometry) -> Shape {
    Shape::from([g.n, g.c_out, g.out_h() / 2, g.out_w() / 2])
}

/// The gradient of a convolution's output: as it is, or behind ReLU and pooling with the windows' winners.
#[derive(Clone, Copy)]
pub(super) struct OutputGradient<'a> {
    pub dy: &'a Tensor,
    pub winners: Option<&'a Tensor>,
}

impl OutputGradient<'_> {
    pub(super) fn args(&self) -> Vec<Arg> {
        let winners = self.winners.map(|winners| Arg::from(address(winners)));
        [Arg::from(address(self.dy))].into_iter().chain(winners).collect()
    }
}

pub(super) fn grad_input(
    device: &CudaDevice,
    g: &Conv2dGeometry,
    gradient: OutputGradient,
    w: &Tensor,
) -> Result<Tensor> {
    let dx = device.floats([g.n, g.c_in, g.h, g.w])?;
    if dx.numel() == 0 {
        return Ok(dx);
    }
    if gradient.dy.numel() == 0 {
        return fill(device, dx.shape(), 0.0);
    }
    if is_depthwise(g) && gradient.winners.is_none() {
        let n = dx.numel();
        let args = args![Conv::from(g), address(gradient.dy), address(w), address(&dx), n as u32];
        device.launch("conv2d_depthwise_grad_input", launch::elements(n), args, &[gradient.dy, w])?;
        return Ok(dx);
    }
    // On tensor cores a first layer stays in f32.
    if !(g.is_first_layer() && Format::active().is_some()) {
        let mirrored = &conv2d_3x3::mirrored(g);
        if let Some(kernels) = kernels_3x3(device, mirrored, false)? {
            kernels.grad_input(device, mirrored, gradient, w, &dx)?;
            return Ok(dx);
        }
    }
    let (channels, pixels) = (g.c_in / g.groups, g.n * g.h * g.w);
    let tile = tile(g, channels, pixels);
    let candidate = |&tile: &Tile| {
        let kernel = match gradient.winners {
            None => for_tile!(tile, "conv2d_grad_input"),
            Some(_) => for_tile!(tile, "conv2d_pooled_grad_input"),
        };
        (kernel, tile.grid(channels, pixels, g.groups))
    };
    let w = &weights_for(device, g, tile, Pass::InputGradient, w)?;
    let args = |_| {
        let mut args = args![Conv::backward(g, Format::active())];
        args.extend(gradient.args());
        args.extend(args![address(w), address(&dx)]);
        Ok((args, None))
    };
    device.launch_fastest(&candidates(tile, candidate), &[&dx], &[gradient.dy, w], args)?;
    Ok(dx)
}

pub(super) fn grad_weight(
    device: &CudaDevice,
    g: &Conv2dGeometry,
    x: &Tensor,
    gradient: OutputGradient,
) -> Result<Tensor> {
    let shape = Shape::from([g.c_out, g.c_in / g.groups, g.kh, g.kw]);
    if gradient.dy.numel() == 0 {
        return fill(device, &shape, 0.0);
    }
    if is_depthwise(g) && gradient.winners.is_none() {
        let dw = device.floats(shape)?;
        let config = launch::block_each(g.kh * g.kw, launch::THREADS).with_y(g.c_out);
        let args = args![Conv::from(g), address(x), address(gradient.dy), address(&dw)];
        device.launch("conv2d_depthwise_grad_weight", config, args, &[x, gradient.dy])?;
        return Ok(dw);
    }
    if let Some(dw) = conv2d_3x3::grad_weight(device, g, x, gradient)? {
        return Ok(dw);
    }
    if let Some(dw) = winograd::grad_weight(device, g, x, gradient)? {
        return Ok(dw);
    }
    let (channels, terms) = (g.c_out / g.groups, g.c_in / g.groups * g.kh * g.kw);
    let pixels = match gradient.winners {
        None => g.n * g.out_h() * g.out_w(),
        Some(_) => g.n * (g.out_h() / 2) * (g.out_w() / 2) * 4,
    };
    let tile = tile(g, channels, terms);
    let (splits, stretch) = launch::split_k(tile, channels, terms, pixels, g.groups);
    let sums = device.floats([splits, g.c_out * terms])?;
    let kernel = match gradient.winners {
        None => for_tile!(tile, "conv2d_grad_weight"),
        Some(_) => for_tile!(tile, "conv2d_pooled_grad_weight"),
    };
    let mut args = args![Conv::backward(g, Format::active()), address(x)];
    args.extend(gradient.args());
    args.extend(args![splits as i32, stretch as i32, address(&sums)]);
    if sums.numel() > 0 {
        device.launch(kernel, tile.grid(channels, terms, g.groups * splits), args, &[x, gradient.dy])?;
    }
    let dw = match splits {
        1 => sums,
        _ => sum_middle(device, &sums, [1, splits, g.c_out * terms])?,
    };
    Ok(dw.with_shape(shape))
}

pub(super) fn grad_bias(device: &CudaDevice, g: &Conv2dGeometry, gradient: OutputGradient) -> Result<Tensor> {
    let shape = Shape::from([g.c_out]);
    let Some(winners) = gradient.winners else {
        return Ok(sum(device, gradient.dy, &[0, 2, 3])?.with_shape(shape));
    };
    let db = device.floats(shape)?;
    let area = (g.out_h() / 2) * (g.out_w() / 2);
    let [n, channels, area] = [g.n, g.c_out, area].map(|size| size as i32);
    let args = args![address(gradient.dy), address(winners), address(&db), n, channels, area];
    let config = launch::block_each(g.c_out, launch::THREADS);
    device.launch("pooled_bias_grad", config, args, &[gradient.dy])?;
    Ok(db)
}

#[cfg(test)]
mod tests {
    use super::Divisor;

    #[test]
    fn a_product_and_a_shift_divide_as_division_does() {
        for d in (1..200).chain([784, 1023, 1024, 1025, 65_537, i32::MAX as usize - 1, i32::MAX as usize]) {
            let Divisor { factor, shift } = Divisor::new(d);
            let quotient = |n: usize| ((n as u64 * u64::from(factor)) >> shift) as usize;
            let largest = i32::MAX as usize;
            let near_multiples =
                [1, 2, 3, 1000, largest / d].into_iter().flat_map(|q| [q * d, q * d + d - 1, q * d - 1]);
            for n in near_multiples.chain([0, largest]).filter(|&n| n <= largest) {
                assert_eq!(quotient(n), n / d, "{n} / {d}");
            }
        }
    }
}
