//! 3 × 3 convolutions with stride 1 and padding 1 on tensor cores (`kernels/conv2d_3x3.cu`, `kernels/conv2d_3x3_wgmma.cu`,
//! `kernels/conv2d_3x3_weight.cu`).

use super::conv2d::{Conv, Divisor, OutputGradient, Pass};
use super::device::{args, CudaDevice};
use super::driver::{Arg, DevicePtr};
use super::format::Format;
use super::launch::{self, Config, ENOUGH_BLOCKS, MAX_GRID_YZ};
use super::memory::address;
use super::tuner::Candidate;
use super::warpgroups;
use crate::backend::params::Conv2dGeometry;
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

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Wide,
    Narrow,
}

/// The kernel of a family for a format and a width.
macro_rules! kernel {
    ($format:expr, $width:expr, $($name:literal)+) => {
        match ($format, $width) {
            (Format::Tf32, Width::Wide) => concat!($($name,)+ "_wide_tf32"),
            (Format::Tf32, Width::Narrow) => concat!($($name,)+ "_narrow_tf32"),
            (Format::Bf16, Width::Wide) => concat!($($name,)+ "_wide_bf16"),
            (Format::Bf16, Width::Narrow) => concat!($($name,)+ "_narrow_bf16"),
            (Format::F16, Width::Wide) => concat!($($name,)+ "_wide_f16"),
            (Format::F16, Width::Narrow) => concat!($($name,)+ "_narrow_f16"),
        }
    };
}

/// Whether kernels for 3 × 3 taps can serve the geometry at all. First layers have their own.
pub(super) fn suits(g: &Conv2dGeometry) -> bool {
    let places = (g.n * (g.h + 1) + 1).checked_mul(g.w + 2);
    [g.kh, g.kw] == [3, 3]
        && [g.stride, g.padding, g.dilation] == [[1, 1]; 3]
        && g.groups == 1
        && !g.is_first_layer()
        && places.is_some_and(|places| places + g.w < i32::MAX as usize)
}

/// Who multiplies together, which decides the order of the packed weights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Team {
    Warp,
    Warpgroup,
}

/// One way to make a product of tiles.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    pub team: Team,
    pub width: Width,
    pub config: Config,
    /// The longest stretch that a tile needs.
    pub stretch: usize,
    /// Pairs of image rows in a warpgroup's tile of pooling windows.
    pub pairs: usize,
}

/// The ways to make a product of tiles, which all give the same bits: first the one that is expected to be the fastest.
pub(super) struct Plan {
    format: Format,
    tiles: Vec<Tiles>,
}

/// `Tile3x3` there: output channels of a wide and of a narrow tile, pixels and threads of both, and the longest stretch that they can hold.
const WIDE: usize = 64;
const NARROW: usize = 32;
const PIXELS: usize = 128;
const SPAN: usize = 328;

/// The plan for a forward pass, with its results in pooling windows or not, if these kernels take it.
///
/// # Errors
/// There is no such device here.
pub(super) fn plan(device: &CudaDevice, g: &Conv2dGeometry, windows: bool) -> Result<Option<Plan>> {
    let Some(format) = Format::active().filter(|_| suits(g)) else { return Ok(None) };
    let mut tiles = warp_tiles(g, windows);
    if tiles.is_empty() {
        return Ok(None);
    }
    if device.offers_warpgroups()? {
        tiles.extend(warpgroups::tiles(g, windows));
    }
    Ok(Some(Plan { format, tiles }))
}

/// The tiles that warps multiply on their own. The order depends on sizes alone.
fn warp_tiles(g: &Conv2dGeometry, windows: bool) -> Vec<Tiles> {
    let stretch = longest_stretch(g, windows, PIXELS);
    if stretch > SPAN || g.c_out.div_ceil(NARROW) > MAX_GRID_YZ {
        return Vec::new();
    }
    let pixels = if windows { g.n * (g.h / 2) * (g.w / 2) * 4 } else { g.n * g.h * g.w };
    let columns = pixels.div_ceil(PIXELS);
    let fills = g.c_out > NARROW && columns * g.c_out.div_ceil(WIDE) >= ENOUGH_BLOCKS;
    let widths = if fills { [Width::Wide, Width::Narrow] } else { [Width::Narrow, Width::Wide] };
    let tiles = |width| {
        let rows = g.c_out.div_ceil(if width == Width::Wide { WIDE } else { NARROW });
        let config = Config { grid: [columns as u32, rows as u32, 1], block: PIXELS as u32 };
        Tiles { team: Team::Warp, width, config, stretch, pairs: 0 }
    };
    widths.map(tiles).to_vec()
}

/// Places from row to row, but for weight gradients.
pub(super) fn pitch(g: &Conv2dGeometry) -> usize {
    g.w + 1
}

/// The most places of the stretch of padded rows that `pixels` neighbouring results and the pixels around them lie in.
fn longest_stretch(g: &Conv2dGeometry, windows: bool, pixels: usize) -> usize {
    let side = if windows { 2 } else { 1 };
    let [h, w, tile] = [g.h / side, g.w / side, pixels / (side * side)];
    let pitch = pitch(g);
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
pub(super) fn mirrored(g: &Conv2dGeometry) -> Conv2dGeometry {
    Conv2dGeometry { c_in: g.c_out, c_out: g.c_in, ..*g }
}

/// The weights of a convolution `g` in the order of a team's kernels; for the input gradient `g` is the mirrored one.
fn packed(
    device: &CudaDevice,
    g: &Conv2dGeometry,
    format: Format,
    pass: Pass,
    team: Team,
    w: &Tensor,
) -> Result<Tensor> {
    const DEEP: usize = 8;
    let slices = g.c_in.div_ceil(DEEP * format.in_a_word());
    let words = g.c_out.next_multiple_of(PACKED_ROWS) * slices * TAPS * DEEP;
    let packed = device.floats([words])?;
    let [rows, channels] = [g.c_out, g.c_in].map(|size| size as i32);
    let (backward, format) = (i32::from(pass == Pass::InputGradient), format as i32);
    let by_rows = i32::from(team == Team::Warpgroup);
    let args = args![address(w), rows, channels, backward, format, by_rows, address(&packed), words as u32];
    device.launch("conv2d_3x3_weights", launch::elements(words), args, &[w])?;
    Ok(packed)
}

/// The kernel of a family for a format and tiles.
macro_rules! kernel_of_tiles {
    ($format:expr, $tiles:expr, $name:literal) => {
        match $tiles.team {
            Team::Warp => kernel!($format, $tiles.width, $name),
            Team::Warpgroup => kernel!($format, $tiles.width, $name "_wgmma"),
        }
    };
}

/// What kernels for 3 × 3 taps compute of a geometry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// A convolution.
    Forward,
    /// A convolution behind which ReLU and pooling follow.
    ReluPool,
    /// The input gradient, by the kernels of a convolution.
    GradInput,
    /// The input gradient behind ReLU and pooling.
    PooledGradInput,
}

impl Family {
    /// What the weights are read for.
    pub(super) fn pass(self) -> Pass {
        match self {
            Family::Forward | Family::ReluPool => Pass::Forward,
            Family::GradInput | Family::PooledGradInput => Pass::InputGradient,
        }
    }
}

/// Kernels for 3 × 3 taps with stride 1 and padding 1, and how a convolution is divided among their blocks. Families differ in their arguments,
/// kernels in their geometry and in how they want the weights packed.
pub(super) trait Kernels3x3 {
    /// Launches a family's kernel, which reads `x` and the weights. `args` has its arguments behind the geometry, given the packed weights.
    fn launch(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        family: Family,
        x_and_w: [&Tensor; 2],
        outputs: &[&Tensor],
        args: &dyn Fn(DevicePtr) -> Vec<Arg>,
    ) -> Result<()>;

    fn conv2d(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        [x, w, y]: [&Tensor; 3],
        bias: DevicePtr,
        relu: bool,
    ) -> Result<()> {
        self.launch(device, g, Family::Forward, [x, w], &[y], &|packed| {
            args![address(x), packed, bias, i32::from(relu), address(y)]
        })
    }

    fn relu_pool(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        [x, w, bias]: [&Tensor; 3],
        [y, winners]: [&Tensor; 2],
    ) -> Result<()> {
        self.launch(device, g, Family::ReluPool, [x, w], &[y, winners], &|packed| {
            args![address(x), packed, address(bias), address(y), address(winners)]
        })
    }

    /// The input gradient of a convolution of which `g` is the mirrored one.
    fn grad_input(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        gradient: OutputGradient,
        w: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        let dy = gradient.dy;
        let Some(winners) = gradient.winners else {
            return self.launch(device, g, Family::GradInput, [dy, w], &[dx], &|packed| {
                args![address(dy), packed, DevicePtr::NULL, 0, address(dx)]
            });
        };
        self.launch(device, g, Family::PooledGradInput, [dy, w], &[dx], &|packed| {
            args![address(dy), address(winners), packed, address(dx)]
        })
    }
}

impl Kernels3x3 for Plan {
    fn launch(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        family: Family,
        [x, w]: [&Tensor; 2],
        outputs: &[&Tensor],
        args: &dyn Fn(DevicePtr) -> Vec<Arg>,
    ) -> Result<()> {
        let candidate = |tiles: &Tiles| {
            let kernel = match family {
                Family::Forward | Family::GradInput => kernel_of_tiles!(self.format, tiles, "conv2d_3x3"),
                Family::ReluPool => kernel_of_tiles!(self.format, tiles, "conv2d_3x3_relu_pool"),
                Family::PooledGradInput => kernel_of_tiles!(self.format, tiles, "conv2d_3x3_pooled_grad_input"),
            };
            (kernel, tiles.config)
        };
        let candidates: Vec<Candidate> = self.tiles.iter().map(candidate).collect();
        device.launch_fastest(&candidates, outputs, &[x, w], |number| {
            let tiles = &self.tiles[number];
            let packed = packed(device, g, self.format, family.pass(), tiles.team, w)?;
            let geometry = match family.pass() {
                Pass::Forward => Conv::from(g),
                Pass::InputGradient => Conv::backward(g, Some(self.format)),
            };
            let mut all = args![geometry, PaddedRows::new(g, pitch(g), tiles.stretch)];
            all.extend(args(address(&packed)));
            if family == Family::ReluPool && tiles.team == Team::Warpgroup {
                all.extend(args![tiles.pairs as i32]);
            }
            Ok((all, Some(packed)))
        })
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
    let mut args: Vec<Arg> = args![Conv::backward(g, Some(format)), rows, address(x)];
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
    mod on_the_emulator {
        use super::super::*;
        use crate::backend::cuda::emulator::with_schedule;
        use crate::tensor::{DType, Device};
        use proptest::prelude::*;

        fn some(shape: impl Into<Shape>, seed: usize) -> Tensor {
            let shape = shape.into();
            let values: Vec<f32> = (0..shape.numel()).map(|i| ((i * 37 + seed) % 101) as f32 / 50.0 - 1.0).collect();
            Tensor::from_slice(&values, shape, Device::Emulator).unwrap()
        }

        fn bits(x: &Tensor) -> Vec<u8> {
            x.to_host().unwrap().storage().bytes().to_vec()
        }

        /// Forward, forward with pooling (and its winners), and both input gradients; `choose` takes one of a plan's tiles.
        fn all_passes(
            g: &Conv2dGeometry,
            format: Format,
            choose: impl Fn(Vec<Tiles>) -> Option<Tiles>,
        ) -> Option<Vec<Vec<u8>>> {
            let device = crate::backend::cuda::cuda(Device::Emulator);
            let plan = |g: &Conv2dGeometry, windows| {
                let tiles = choose([warp_tiles(g, windows), warpgroups::tiles(g, windows)].concat())?;
                Some(Plan { format, tiles: vec![tiles] })
            };
            let (image, result, pooled) =
                ([g.n, g.c_in, g.h, g.w], [g.n, g.c_out, g.h, g.w], [g.n, g.c_out, g.h / 2, g.w / 2]);
            let (x, w, bias) = (some(image, 1), some([g.c_out, g.c_in, 3, 3], 2), some([g.c_out], 3));
            let (y, y_pooled) = (device.floats(result).unwrap(), device.floats(pooled).unwrap());
            let winners = device.output(pooled, DType::U8).unwrap();
            plan(g, false)?.conv2d(device, g, [&x, &w, &y], address(&bias), true).unwrap();
            plan(g, true)?.relu_pool(device, g, [&x, &w, &bias], [&y_pooled, &winners]).unwrap();
            let (dx, dx_pooled) = (device.floats(image).unwrap(), device.floats(image).unwrap());
            let (dy, dy_pooled) = (some(result, 4), some(pooled, 5));
            let (mirrored, backward) = (&mirrored(g), plan(&mirrored(g), false)?);
            backward.grad_input(device, mirrored, OutputGradient { dy: &dy, winners: None }, &w, &dx).unwrap();
            let gradient = OutputGradient { dy: &dy_pooled, winners: Some(&winners) };
            backward.grad_input(device, mirrored, gradient, &w, &dx_pooled).unwrap();
            Some([y, y_pooled, winners, dx, dx_pooled].iter().map(bits).collect())
        }

        fn geometry([n, c_in, c_out, h, w]: [usize; 5]) -> Conv2dGeometry {
            let one = [1, 1];
            Conv2dGeometry { n, c_in, h, w, c_out, kh: 3, kw: 3, stride: one, padding: one, dilation: one, groups: 1 }
        }

        fn all_tiles_agree(g: &Conv2dGeometry, format: Format) {
            let by = |team: Team, width: Width| {
                move |tiles: Vec<Tiles>| tiles.into_iter().find(|tiles| (tiles.team, tiles.width) == (team, width))
            };
            let expected = all_passes(g, format, by(Team::Warp, Width::Wide)).unwrap();
            for (team, width) in
                [(Team::Warp, Width::Narrow), (Team::Warpgroup, Width::Wide), (Team::Warpgroup, Width::Narrow)]
            {
                // Narrow tiles of a warpgroup hold no pair of the widest images' rows.
                let found = all_passes(g, format, by(team, width));
                assert!(found.is_none_or(|found| found == expected), "{g:?}");
            }
        }

        #[test]
        fn all_tiles_give_the_same_bits() {
            for sizes in [[2, 39, 70, 12, 11], [3, 40, 33, 7, 7], [1, 35, 64, 33, 57], [5, 36, 130, 2, 2]] {
                for format in Format::ALL {
                    all_tiles_agree(&geometry(sizes), format);
                }
            }
        }

        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

            #[test]
            fn all_tiles_give_the_same_bits_on_random_shapes_under_any_schedule(
                n in 1..5usize, c_in in 33..50usize, c_out in 33..80usize, h in 2..20usize, w in 2..20usize, schedule: u64,
                format in 0..Format::ALL.len(),
            ) {
                let format = Format::ALL[format];
                with_schedule(schedule, || all_tiles_agree(&geometry([n, c_in, c_out, h, w]), format));
            }
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
