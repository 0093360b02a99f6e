//! 3 × 3 convolutions in `f32` by minimal filtering (`kernels/conv2d_winograd.cu`, `kernels/conv2d_winograd_weight.cu`).

use super::conv2d::{Conv, Divisor, OutputGradient, Pass};
use super::conv2d_3x3::{suits, Family, Kernels3x3};
use super::device::{args, CudaDevice, MOST_ELEMENTS};
use super::driver::{Arg, DevicePtr};
use super::format::Format;
use super::launch::{self, Config, Tile, MAX_GRID_YZ, THREADS};
use super::memory::address;
use super::tuner::on_or_off;
use crate::backend::params::Conv2dGeometry;
use crate::error::Result;
use crate::tensor::Tensor;

const VARIABLE: &str = "KDENGINE_WINOGRAD";

/// Whether convolutions may be computed this way: unless `KDENGINE_WINOGRAD` is `off`.
///
/// # Errors
/// The variable has a value that means nothing.
pub(super) fn is_on() -> Result<bool, String> {
    Ok(on_or_off(VARIABLE)?.unwrap_or(true))
}

/// Rows and columns of a block's products; what they add up at a time; numbers of a transformed patch.
const ROWS: usize = 32;
const DEEP: usize = 8;
const PLACES: usize = 16;
/// Pairs of channels of a block that adds up a weight gradient's splits.
const PAIRS: usize = 16;

/// `Windows` in the kernels: 2 × 2 results each.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Windows {
    down: i32,
    across: i32,
    count: i32,
    by_down: Divisor,
    by_across: Divisor,
}

impl Windows {
    /// All windows, or those that are pooled: a last row and column without a partner are left out.
    fn new(g: &Conv2dGeometry, pooled: bool) -> Windows {
        let [down, across] = [g.h, g.w].map(|size| if pooled { size / 2 } else { size.div_ceil(2) });
        let (by_down, by_across) = (Divisor::new(down), Divisor::new(across));
        let [down, across, count] = [down, across, g.n * down * across].map(|size| size as i32);
        Windows { down, across, count, by_down, by_across }
    }

    fn count(&self) -> usize {
        self.count as usize
    }

    /// Results in them.
    fn results(&self, g: &Conv2dGeometry, pooled: bool) -> usize {
        if pooled {
            4 * self.count()
        } else {
            g.n * g.h * g.w
        }
    }
}

/// What the general kernels multiply for m × n sums of k products: whole tiles.
fn general(m: usize, n: usize, k: usize) -> usize {
    let [rows, columns] = Tile::in_f32(m, n).extents();
    m.next_multiple_of(rows) * n.next_multiple_of(columns) * k
}

/// Whether at most 0.6 of the general kernels' multiplications remain: 16 for each window and pair of channels, also of whole tiles. What is left
/// to 1 pays for transforming weights or sums, and for what the machine code does not tell (docs/kernels.md).
fn pays(padded: [usize; 3], general: usize) -> bool {
    10 * PLACES * padded.into_iter().product::<usize>() <= 6 * general
}

/// How a convolution is divided among blocks.
pub(super) struct Plan {
    windows: Windows,
    config: Config,
}

/// The plan for a forward pass, with its results in pooling windows or not, where these kernels are expected to be faster.
///
/// # Errors
/// There is no such device here.
pub(super) fn plan(device: &CudaDevice, g: &Conv2dGeometry, pooled: bool) -> Result<Option<Plan>> {
    let may = Format::active().is_none() && suits(g) && device.offers_winograd()?;
    Ok(may.then(|| Plan::new(g, pooled)).filter(|plan| plan.pays(g, pooled)))
}

impl Plan {
    fn new(g: &Conv2dGeometry, pooled: bool) -> Plan {
        let windows = Windows::new(g, pooled);
        let grid = [windows.count().div_ceil(ROWS) as u32, g.c_out.div_ceil(ROWS) as u32, 1];
        Plan { windows, config: Config { grid, block: THREADS } }
    }

    fn pays(&self, g: &Conv2dGeometry, pooled: bool) -> bool {
        let [windows, c_out, _] = self.config.grid.map(|blocks| blocks as usize * ROWS);
        let c_in = g.c_in.next_multiple_of(DEEP);
        let fits = self.config.grid[1] as usize <= MAX_GRID_YZ && PLACES * c_out * c_in <= MOST_ELEMENTS;
        fits && pays([windows, c_out, c_in], general(g.c_out, self.windows.results(g, pooled), 9 * g.c_in))
    }
}

impl Kernels3x3 for Plan {
    fn launch(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        family: Family,
        [x, w]: [&Tensor; 2],
        _outputs: &[&Tensor],
        args: &dyn Fn(DevicePtr) -> Vec<Arg>,
    ) -> Result<()> {
        let kernel = match family {
            Family::Forward | Family::GradInput => "conv2d_winograd",
            Family::ReluPool => "conv2d_winograd_relu_pool",
            Family::PooledGradInput => "conv2d_winograd_pooled_grad_input",
        };
        let pairs = g.c_out.next_multiple_of(ROWS) * g.c_in.next_multiple_of(DEEP);
        let packed = device.floats([PLACES * pairs])?;
        let [rows, channels, backward] =
            [g.c_out as i32, g.c_in as i32, i32::from(family.pass() == Pass::InputGradient)];
        let of_weights = args![address(w), rows, channels, backward, address(&packed), pairs as u32];
        device.launch("conv2d_winograd_weights", launch::elements(pairs), of_weights, &[w])?;
        let mut all = args![Conv::from(g), self.windows];
        all.extend(args(address(&packed)));
        device.launch(kernel, self.config, all, &[x, w])
    }
}

/// The weight gradient, where these kernels are expected to be faster.
pub(super) fn grad_weight(
    device: &CudaDevice,
    g: &Conv2dGeometry,
    x: &Tensor,
    gradient: OutputGradient,
) -> Result<Option<Tensor>> {
    let pooled = gradient.winners.is_some();
    let windows = Windows::new(g, pooled);
    let [c_out, c_in] = [g.c_out, g.c_in].map(|channels| channels.next_multiple_of(ROWS));
    let fits = c_out / ROWS <= MAX_GRID_YZ && split(g, &windows).0 * PLACES * c_out * c_in <= MOST_ELEMENTS;
    let padded = [windows.count().next_multiple_of(DEEP), c_out, c_in];
    // Sums of fewer windows cost more to write and add up than is saved.
    let enough = windows.count() >= 64;
    let faster = enough && pays(padded, general(g.c_out, 9 * g.c_in, windows.results(g, pooled)));
    match Format::active().is_none() && suits(g) && fits && faster && device.offers_winograd()? {
        true => sum_windows(device, g, windows, x, gradient).map(Some),
        false => Ok(None),
    }
}

/// How many blocks share the windows, and how many windows each takes at most.
fn split(g: &Conv2dGeometry, windows: &Windows) -> (usize, usize) {
    launch::split_for(g.c_in.div_ceil(ROWS) * g.c_out.div_ceil(ROWS), windows.count(), DEEP, MAX_GRID_YZ)
}

fn sum_windows(
    device: &CudaDevice,
    g: &Conv2dGeometry,
    windows: Windows,
    x: &Tensor,
    gradient: OutputGradient,
) -> Result<Tensor> {
    let (splits, stretch) = split(g, &windows);
    let pairs = g.c_out * g.c_in;
    let sums = device.floats([splits, PLACES, pairs])?;
    let kernel = match gradient.winners {
        None => "conv2d_winograd_grad_weight",
        Some(_) => "conv2d_winograd_pooled_grad_weight",
    };
    let mut args = args![Conv::from(g), windows, address(x)];
    args.extend(gradient.args());
    args.extend(args![stretch as i32, address(&sums)]);
    let grid = [g.c_in.div_ceil(ROWS) as u32, g.c_out.div_ceil(ROWS) as u32, splits as u32];
    let config = Config { grid, block: THREADS };
    device.launch(kernel, config, args, &[x, gradient.dy])?;
    let dw = device.floats([g.c_out, g.c_in, 3, 3])?;
    let args = args![address(&sums), address(&dw), splits as i32, pairs as u32];
    let config = Config { grid: [pairs.div_ceil(PAIRS) as u32, 1, 1], block: THREADS };
    device.launch("conv2d_winograd_grad_weight_sum", config, args, &[x, gradient.dy])?;
    Ok(dw)
}

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use super::*;
    use crate::backend;
    use crate::backend::cuda::conv2d_3x3::mirrored;
    use crate::backend::cuda::emulator::with_schedule;
    use crate::tensor::{DType, Device, Rng, Shape};
    use proptest::prelude::*;

    fn geometry([n, c_in, c_out, h, w]: [usize; 5]) -> Conv2dGeometry {
        let one = [1, 1];
        Conv2dGeometry { n, c_in, h, w, c_out, kh: 3, kw: 3, stride: one, padding: one, dilation: one, groups: 1 }
    }

    fn normal(shape: impl Into<Shape>, seed: u64) -> Tensor {
        backend::of(Device::Emulator).normal(&shape.into(), 0.0, 1.0, DType::F32, Rng::new(seed, 0)).unwrap()
    }

    fn exact(x: &Tensor) -> Tensor {
        let x = x.to_device(Device::Reference).unwrap();
        if x.dtype() == DType::F32 {
            x.to_dtype(DType::F64).unwrap()
        } else {
            x
        }
    }

    /// As near as sums in `f32` of transformed numbers may be, relative to the largest result.
    fn assert_near(what: &str, g: &Conv2dGeometry, found: &Tensor, expected: &Tensor) {
        let (found, expected) = (found.to_f64_vec().unwrap(), expected.to_f64_vec().unwrap());
        let largest = expected.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
        let is_far = |off: f64| off.is_nan() || off > 5e-6 * largest;
        let far = found.iter().zip(&expected).position(|(a, b)| is_far((a - b).abs()));
        assert_eq!(far, None, "{what} of {g:?}");
    }

    /// Forward, with and without pooling, and all gradients, against the reference in `f64`; the results' bytes.
    fn check(g: &Conv2dGeometry, seed: u64) -> Vec<u8> {
        let device = crate::backend::cuda::cuda(Device::Emulator);
        let reference = backend::of(Device::Reference);
        let (x, w, bias) = (
            normal([g.n, g.c_in, g.h, g.w], seed),
            normal([g.c_out, g.c_in, 3, 3], seed ^ 1),
            normal([g.c_out], seed ^ 2),
        );
        let [x64, w64, bias64] = [&x, &w, &bias].map(exact);

        let y = device.floats([g.n, g.c_out, g.h, g.w]).unwrap();
        Plan::new(g, false).conv2d(device, g, [&x, &w, &y], address(&bias), true).unwrap();
        assert_near("conv2d", g, &y, &reference.conv2d(g, &x64, &w64, Some(&bias64), true).unwrap());

        let (dy, dx) = (normal([g.n, g.c_out, g.h, g.w], seed ^ 3), device.floats([g.n, g.c_in, g.h, g.w]).unwrap());
        let (mirrored, backward) = (&mirrored(g), Plan::new(&mirrored(g), false));
        backward.grad_input(device, mirrored, OutputGradient { dy: &dy, winners: None }, &w, &dx).unwrap();
        assert_near("its gradient", g, &dx, &reference.conv2d_grad_input(g, &exact(&dy), &w64).unwrap());
        let dw = sum_windows(device, g, Windows::new(g, false), &x, OutputGradient { dy: &dy, winners: None }).unwrap();
        assert_near("its weight's", g, &dw, &reference.conv2d_grad_weight(g, &x64, &exact(&dy), false).unwrap().0);
        let mut results = vec![y, dx, dw];

        if g.h > 1 && g.w > 1 {
            let shape = [g.n, g.c_out, g.h / 2, g.w / 2];
            let (y, winners) = (device.floats(shape).unwrap(), device.output(shape, DType::U8).unwrap());
            Plan::new(g, true).relu_pool(device, g, [&x, &w, &bias], [&y, &winners]).unwrap();
            let (pooled, their_winners) = reference.conv2d_relu_pool(g, &x64, &w64, &bias64).unwrap();
            assert_near("conv2d_relu_pool", g, &y, &pooled);
            let [ours, theirs] = [&winners, &their_winners].map(|winners| winners.to_f64_vec().unwrap());
            let others = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
            assert!(others <= ours.len() / 100, "{others} of {} winners of {g:?} are others", ours.len());

            let (dy, dx) = (normal(shape, seed ^ 4), device.floats([g.n, g.c_in, g.h, g.w]).unwrap());
            let gradient = OutputGradient { dy: &dy, winners: Some(&winners) };
            backward.grad_input(device, mirrored, gradient, &w, &dx).unwrap();
            let [dy64, winners64] = [&dy, &winners].map(exact);
            let expected = reference.conv2d_pooled_grad_input(g, &dy64, &winners64, &w64).unwrap();
            assert_near("its gradient behind pooling", g, &dx, &expected);
            let dw = sum_windows(device, g, Windows::new(g, true), &x, gradient).unwrap();
            let expected = reference.conv2d_pooled_grad_weight(g, &x64, &dy64, &winners64).unwrap().0;
            assert_near("its weight's behind pooling", g, &dw, &expected);
            results.extend([y, winners, dx, dw]);
        }
        results.iter().flat_map(|x| x.to_host().unwrap().storage().bytes().to_vec()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) })]

        #[test]
        fn any_shape_under_any_schedule_is_near_the_reference_with_the_same_bits(
            n in 1..4usize, c_in in 5..20usize, c_out in 1..40usize, h in 1..12usize, w in 1..12usize, seed: u64,
        ) {
            let g = geometry([n, c_in, c_out, h, w]);
            let runs: Vec<Vec<u8>> = (0..4).map(|schedule| with_schedule(schedule, || check(&g, seed))).collect();
            prop_assert!(runs.iter().all(|run| run == &runs[0]));
        }
    }

    #[test]
    fn several_blocks_slices_and_splits_are_near_the_reference() {
        check(&geometry([3, 33, 70, 13, 14]), 1);
        check(&geometry([11, 9, 5, 14, 15]), 3);
        check(&geometry([1, 40, 33, 2, 31]), 2);
    }

    #[test]
    fn a_number_that_is_not_finite_shows_in_all_results_around_it() {
        let g = geometry([1, 5, 2, 6, 6]);
        let device = crate::backend::cuda::cuda(Device::Emulator);
        let mut pixels = vec![1.0f32; 5 * 36];
        pixels[36 + 2 * 6 + 3] = f32::NAN;
        let x = Tensor::from_slice(&pixels, [1, 5, 6, 6], Device::Emulator).unwrap();
        let (w, y) = (normal([2, 5, 3, 3], 1), device.floats([1, 2, 6, 6]).unwrap());
        Plan::new(&g, false).conv2d(device, &g, [&x, &w, &y], DevicePtr::NULL, false).unwrap();
        let y = y.to_f64_vec().unwrap();
        for (row, column) in (1..4).flat_map(|row| (2..5).map(move |column| (row, column))) {
            assert!(y[row * 6 + column].is_nan(), "{row} {column}");
        }
        assert!(y[5 * 6].is_finite(), "windows far from it do not see it");
    }

    #[test]
    fn what_would_be_mostly_padding_is_left_to_the_other_kernels() {
        let pays = |sizes| Plan::new(&geometry(sizes), false).pays(&geometry(sizes), false);
        assert!(pays([128, 64, 3, 28, 28]), "the input gradient of a first layer");
        assert!(pays([128, 64, 64, 28, 28]) && pays([128, 64, 16, 14, 14]) && pays([32, 128, 128, 7, 7]));
        assert!(!pays([1, 64, 64, 4, 4]) && !pays([128, 5, 64, 28, 28]));
    }
}
