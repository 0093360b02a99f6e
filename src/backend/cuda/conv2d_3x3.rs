//! 3 × 3 convolutions with stride 1 and padding 1 on tensor cores (`kernels/conv2d_3x3.cu`, `kernels/conv2d_3x3_weight.cu`).

use super::conv2d::{Conv, Divisor, OutputGradient, Pass};
use super::device::{args, CudaDevice};
use super::driver::{Arg, DevicePtr};
use super::launch::{self, Config, ENOUGH_BLOCKS, MAX_GRID_YZ};
use super::memory::address;
use super::tuner::Candidate;
use crate::backend::params::Conv2dGeometry;
use crate::backend::precision::{self, Precision};
use crate::error::Result;
use crate::tensor::{Shape, Tensor};

const TAPS: usize = 9;
/// Rows of weights that are packed together.
const PACKED_ROWS: usize = 64;

/// `PaddedRows` in `kernels/conv2d_3x3.cuh`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct PaddedRows {
    pitch: i32,
    height: i32,
    longest: i32,
    by_pitch: Divisor,
    by_height: Divisor,
}

impl PaddedRows {
    fn new(g: &Conv2dGeometry, pitch: usize, longest: usize) -> PaddedRows {
        let height = g.h + 1;
        let (by_pitch, by_height) = (Divisor::new(pitch), Divisor::new(height));
        let [pitch, height, longest] = [pitch, height, longest].map(|size| size as i32);
        PaddedRows { pitch, height, longest, by_pitch, by_height }
    }
}

/// What the operands are rounded to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Tf32,
    Bf16,
}

impl Format {
    /// That of the precision which was asked for; `f32` has none.
    fn active() -> Option<Format> {
        match precision::active() {
            Precision::F32 => None,
            Precision::Tf32 => Some(Format::Tf32),
            Precision::Bf16 => Some(Format::Bf16),
        }
    }

    /// Numbers in a word.
    fn in_a_word(self) -> usize {
        match self {
            Format::Tf32 => 1,
            Format::Bf16 => 2,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Wide,
    Narrow,
}

/// The kernel of a family for a format and a width.
macro_rules! kernel {
    ($format:expr, $width:expr, $name:literal) => {
        match ($format, $width) {
            (Format::Tf32, Width::Wide) => concat!($name, "_wide_tf32"),
            (Format::Tf32, Width::Narrow) => concat!($name, "_narrow_tf32"),
            (Format::Bf16, Width::Wide) => concat!($name, "_wide_bf16"),
            (Format::Bf16, Width::Narrow) => concat!($name, "_narrow_bf16"),
        }
    };
}

/// Whether these kernels can serve the geometry at all. First layers stay in `f32`.
fn suits(g: &Conv2dGeometry) -> bool {
    let places = (g.n * (g.h + 1) + 1).checked_mul(g.w + 2);
    [g.kh, g.kw] == [3, 3]
        && [g.stride, g.padding, g.dilation] == [[1, 1]; 3]
        && g.groups == 1
        && !g.is_first_layer()
        && places.is_some_and(|places| places + g.w < i32::MAX as usize)
}

/// How a product may be made of tiles: which width is expected to be the faster one.
pub(super) struct Plan {
    format: Format,
    widths: [Width; 2],
    /// Tiles of pixels, and the longest stretch that one of them needs.
    columns: usize,
    longest: usize,
}

/// `Tile3x3` there: output channels of a wide and of a narrow tile, pixels and threads of both, and the longest stretch that they can hold.
const WIDE: usize = 64;
const NARROW: usize = 32;
const PIXELS: usize = 128;
const SPAN: usize = 328;

/// The plan for a forward pass, with its results in pooling windows or not, if these kernels take it. It depends on sizes alone, and the
/// results do not depend on it.
pub(super) fn plan(g: &Conv2dGeometry, windows: bool) -> Option<Plan> {
    let format = Format::active().filter(|_| suits(g))?;
    let longest = Some(longest_stretch(g, windows, PIXELS)).filter(|&longest| longest <= SPAN)?;
    let pixels = if windows { g.n * (g.h / 2) * (g.w / 2) * 4 } else { g.n * g.h * g.w };
    let columns = pixels.div_ceil(PIXELS);
    let fills = g.c_out > NARROW && columns * g.c_out.div_ceil(WIDE) >= ENOUGH_BLOCKS;
    let widths = if fills { [Width::Wide, Width::Narrow] } else { [Width::Narrow, Width::Wide] };
    (g.c_out.div_ceil(NARROW) <= MAX_GRID_YZ).then_some(Plan { format, widths, columns, longest })
}

/// The plan for an input gradient.
pub(super) fn plan_grad_input(g: &Conv2dGeometry) -> Option<Plan> {
    suits(g).then(|| plan(&mirrored(g), false)).flatten()
}

/// The most places of the stretch of padded rows that `pixels` neighbouring results and the pixels around them lie in.
fn longest_stretch(g: &Conv2dGeometry, windows: bool, pixels: usize) -> usize {
    let side = if windows { 2 } else { 1 };
    let [h, w, tile] = [g.h / side, g.w / side, pixels / (side * side)];
    let pitch = g.w + 1;
    let place = |q: usize, inside: usize| {
        let (image, y, x) = (q / (h * w), q / w % h * side + inside, q % w * side + inside);
        (image * (g.h + 1) + y) * pitch + x
    };
    let results = g.n * h * w;
    // After so many tiles one begins again at an image's beginning.
    let period = h * w / gcd(tile, h * w);
    let stretch = |first: usize| place((first + tile).min(results) - 1, side - 1) - place(first, 0) + 2 * pitch + 3;
    (0..results).step_by(tile).take(period).map(stretch).max().unwrap_or(0)
}

fn gcd(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}

/// The convolution of the output's gradient that is the input's gradient.
fn mirrored(g: &Conv2dGeometry) -> Conv2dGeometry {
    Conv2dGeometry { c_in: g.c_out, c_out: g.c_in, ..*g }
}

/// The weights of a convolution `g` in the kernels' order; for the input gradient `g` is the mirrored one.
fn packed(device: &CudaDevice, g: &Conv2dGeometry, format: Format, pass: Pass, w: &Tensor) -> Result<Tensor> {
    const DEEP: usize = 8;
    let slices = g.c_in.div_ceil(DEEP * format.in_a_word());
    let words = g.c_out.next_multiple_of(PACKED_ROWS) * slices * TAPS * DEEP;
    let packed = device.floats([words])?;
    let [rows, channels] = [g.c_out, g.c_in].map(|size| size as i32);
    let (backward, to_tf32) = (i32::from(pass == Pass::InputGradient), i32::from(format == Format::Tf32));
    let args = args![address(w), rows, channels, backward, to_tf32, address(&packed), words as u32];
    device.launch("conv2d_3x3_weights", launch::elements(words), args, &[w])?;
    Ok(packed)
}

impl Plan {
    fn rows(&self, g: &Conv2dGeometry) -> PaddedRows {
        PaddedRows::new(g, g.w + 1, self.longest)
    }

    /// The kernels of a family, which `name` names, for so many output channels.
    fn candidates(&self, c_out: usize, name: impl Fn(Width) -> &'static str) -> [Candidate; 2] {
        self.widths.map(|width| {
            let rows = c_out.div_ceil(if width == Width::Wide { WIDE } else { NARROW });
            (name(width), Config { grid: [self.columns as u32, rows as u32, 1], block: PIXELS as u32 })
        })
    }

    pub(super) fn conv2d(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        [x, w, y]: [&Tensor; 3],
        bias: DevicePtr,
        relu: bool,
    ) -> Result<()> {
        let packed = packed(device, g, self.format, Pass::Forward, w)?;
        self.dense(device, g, x, &packed, bias, relu, y)
    }

    #[allow(clippy::too_many_arguments)]
    fn dense(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        x: &Tensor,
        packed: &Tensor,
        bias: DevicePtr,
        relu: bool,
        y: &Tensor,
    ) -> Result<()> {
        let relu = i32::from(relu);
        let args = args![Conv::from(g), self.rows(g), address(x), address(packed), bias, relu, address(y)];
        let candidates = self.candidates(g.c_out, |width| kernel!(self.format, width, "conv2d_3x3"));
        device.launch_fastest(&candidates, args, &[x, y])
    }

    pub(super) fn relu_pool(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        [x, w, bias]: [&Tensor; 3],
        [y, winners]: [&Tensor; 2],
    ) -> Result<()> {
        let packed = packed(device, g, self.format, Pass::Forward, w)?;
        let [x_at, packed, bias, y, winners] = [x, &packed, bias, y, winners].map(address);
        let args = args![Conv::from(g), self.rows(g), x_at, packed, bias, y, winners];
        let candidates = self.candidates(g.c_out, |width| kernel!(self.format, width, "conv2d_3x3_relu_pool"));
        device.launch_fastest(&candidates, args, &[x, w])
    }

    pub(super) fn grad_input(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        gradient: OutputGradient,
        w: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        let g = &mirrored(g);
        let packed = packed(device, g, self.format, Pass::InputGradient, w)?;
        let Some(winners) = gradient.winners else {
            return self.dense(device, g, gradient.dy, &packed, DevicePtr::NULL, false, dx);
        };
        let [dy, winners, packed, dx] = [gradient.dy, winners, &packed, dx].map(address);
        let args = args![Conv::from(g), self.rows(g), dy, winners, packed, dx];
        let candidates = self.candidates(g.c_out, |width| kernel!(self.format, width, "conv2d_3x3_pooled_grad_input"));
        device.launch_fastest(&candidates, args, &[gradient.dy, w])
    }
}

/// The weight gradient, if these kernels take it.
pub(super) fn grad_weight(
    device: &CudaDevice,
    g: &Conv2dGeometry,
    x: &Tensor,
    gradient: OutputGradient,
) -> Result<Option<Tensor>> {
    /// Places that a block brings into shared memory at a time, and the widest images for which those around them have room there.
    const PLACES: usize = 64;
    const WIDEST: usize = 64;
    /// Input channels of a block, and output channels of a narrow one.
    const IN: usize = 32;
    const OUT: usize = 32;
    let (width, out, block) = if g.c_out > OUT { (Width::Wide, 2 * OUT, 256) } else { (Width::Narrow, OUT, 128) };
    let blocks = [g.c_in.div_ceil(IN), g.c_out.div_ceil(out)];
    let Some(format) = Format::active().filter(|_| suits(g) && g.w <= WIDEST && blocks[1] <= MAX_GRID_YZ) else {
        return Ok(None);
    };
    let pitch = (g.w + 1).next_multiple_of(format.in_a_word());
    let rows = PaddedRows::new(g, pitch, PLACES + 2 * pitch + 2);
    let places = g.n * (rows.height * rows.pitch) as usize;
    let (splits, stretch) = launch::split_for(blocks[0] * blocks[1], places, PLACES, MAX_GRID_YZ);
    let n = g.c_out * g.c_in * TAPS;
    let sums = device.floats([splits, n])?;
    let kernel = match gradient.winners {
        None => kernel!(format, width, "conv2d_3x3_grad_weight"),
        Some(_) => kernel!(format, width, "conv2d_3x3_pooled_grad_weight"),
    };
    let mut args: Vec<Arg> = args![Conv::from(g), rows, address(x)];
    args.extend(gradient.args());
    args.extend(args![stretch as i32, address(&sums)]);
    let config = Config { grid: [blocks[0] as u32, blocks[1] as u32, splits as u32], block };
    device.launch(kernel, config, args, &[x, gradient.dy])?;
    let dw = device.floats(Shape::from([g.c_out, g.c_in, 3, 3]))?;
    let args = args![address(&sums), address(&dw), splits as i32, (g.c_out * g.c_in) as u32, n as u32];
    device.launch("conv2d_3x3_grad_weight_sum", launch::elements(n), args, &[x, gradient.dy])?;
    Ok(Some(dw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[cfg(feature = "emulator")]
    #[test]
    fn wide_and_narrow_tiles_give_the_same_bits() {
        use crate::tensor::{DType, Device};
        let device = super::super::cuda(Device::Emulator);
        let (stride, padding, dilation) = ([1, 1], [1, 1], [1, 1]);
        let g = Conv2dGeometry {
            n: 2,
            c_in: 19,
            h: 12,
            w: 11,
            c_out: 70,
            kh: 3,
            kw: 3,
            stride,
            padding,
            dilation,
            groups: 1,
        };
        let some = |shape: Shape, seed: usize| {
            let values: Vec<f32> = (0..shape.numel()).map(|i| ((i * 37 + seed) % 101) as f32 / 50.0 - 1.0).collect();
            Tensor::from_slice(&values, shape, Device::Emulator).unwrap()
        };
        let (x, w, bias) = (some([2, 19, 12, 11].into(), 1), some([70, 19, 3, 3].into(), 2), some([70].into(), 3));
        let (dy, pooled_dy) = (some([2, 70, 12, 11].into(), 4), some([2, 70, 6, 5].into(), 5));
        let plan = |pixels: usize, width: Width, format: Format| Plan {
            format,
            widths: [width; 2],
            columns: pixels.div_ceil(PIXELS),
            longest: SPAN,
        };
        let (all, windows) = (2 * 12 * 11, 2 * 6 * 5 * 4);
        for format in [Format::Tf32, Format::Bf16] {
            let outputs = [Width::Wide, Width::Narrow].map(|width| {
                let floats = |shape: [usize; 4]| device.floats(shape).unwrap();
                let (y, pooled, dx, pooled_dx) =
                    (floats([2, 70, 12, 11]), floats([2, 70, 6, 5]), floats([2, 19, 12, 11]), floats([2, 19, 12, 11]));
                let winners = device.output([2, 70, 6, 5], DType::U8).unwrap();
                plan(all, width, format).conv2d(device, &g, [&x, &w, &y], address(&bias), true).unwrap();
                plan(windows, width, format).relu_pool(device, &g, [&x, &w, &bias], [&pooled, &winners]).unwrap();
                let backward = plan(all, width, format);
                backward.grad_input(device, &g, OutputGradient { dy: &dy, winners: None }, &w, &dx).unwrap();
                let gradient = OutputGradient { dy: &pooled_dy, winners: Some(&winners) };
                backward.grad_input(device, &g, gradient, &w, &pooled_dx).unwrap();
                [y, pooled, winners, dx, pooled_dx].map(|t| t.to_host().unwrap().storage().bytes().to_vec())
            });
            assert_eq!(outputs[0], outputs[1]);
        }
    }

    /// The most places that any tile of `pixels` results needs, found by looking at each of its results.
    fn longest_by_search(g: &Conv2dGeometry, windows: bool, pixels: usize) -> usize {
        let side = if windows { 2 } else { 1 };
        let pitch = g.w + 1;
        let mut places = Vec::new();
        for image in 0..g.n {
            for (y, x) in (0..g.h / side).flat_map(|y| (0..g.w / side).map(move |x| (y * side, x * side))) {
                for (down, right) in (0..side).flat_map(|down| (0..side).map(move |right| (down, right))) {
                    places.push((image * (g.h + 1) + y + down) * pitch + x + right);
                }
            }
        }
        let stretch = |tile: &[usize]| tile.iter().max().unwrap() - tile.iter().min().unwrap() + 2 * pitch + 3;
        places.chunks(pixels).map(stretch).max().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn the_longest_stretch_is_that_of_the_tile_that_needs_most(
            n in 1..40usize, h in 2..40usize, w in 2..40usize, windows: bool, pixels in prop_oneof![Just(128), Just(256)],
        ) {
            let (stride, padding, dilation) = ([1, 1], [1, 1], [1, 1]);
            let g = Conv2dGeometry { n, c_in: 8, h, w, c_out: 8, kh: 3, kw: 3, stride, padding, dilation, groups: 1 };
            prop_assert_eq!(longest_stretch(&g, windows, pixels), longest_by_search(&g, windows, pixels));
        }
    }
}
