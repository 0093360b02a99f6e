//! 3 × 3 convolutions in `f32` by minimal filtering (`kernels/conv2d_winograd.cu`).

use super::conv2d::{Conv, Divisor, OutputGradient, Pass};
use super::conv2d_3x3::{mirrored, suits};
use super::device::{args, CudaDevice};
use super::driver::{Arg, DevicePtr};
use super::format::Format;
use super::launch::{self, Config, MAX_GRID_YZ, THREADS};
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

/// Output channels, and windows, of a block; input channels of a slice; numbers of a transformed patch.
const ROWS: usize = 32;
const DEEP: usize = 8;
const PLACES: usize = 16;

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

/// The plan for an input gradient.
///
/// # Errors
/// There is no such device here.
pub(super) fn plan_grad_input(device: &CudaDevice, g: &Conv2dGeometry) -> Result<Option<Plan>> {
    plan(device, &mirrored(g), false)
}

impl Plan {
    fn new(g: &Conv2dGeometry, pooled: bool) -> Plan {
        // Pooling leaves out a last row and column that have no partner.
        let [down, across] = [g.h, g.w].map(|size| if pooled { size / 2 } else { size.div_ceil(2) });
        let count = g.n * down * across;
        let config = Config { grid: [count.div_ceil(ROWS) as u32, g.c_out.div_ceil(ROWS) as u32, 1], block: THREADS };
        let (by_down, by_across) = (Divisor::new(down), Divisor::new(across));
        let [down, across, count] = [down, across, count].map(|size| size as i32);
        Plan { windows: Windows { down, across, count, by_down, by_across }, config }
    }

    /// Whether at most 0.6 of the multiplications remain: 16 for each window and pair of channels in place of 9 for each result, but for whole
    /// tiles. What is left to 1 pays for transforming and packing the weights, and for what the machine code does not tell (docs/kernels.md).
    fn pays(&self, g: &Conv2dGeometry, pooled: bool) -> bool {
        let results = if pooled { 4 * self.windows.count as usize } else { g.n * g.h * g.w };
        let [windows, rows, _] = self.config.grid.map(|blocks| blocks as usize * ROWS);
        let multiplications = PLACES * windows * rows * g.c_in.next_multiple_of(DEEP);
        self.config.grid[1] as usize <= MAX_GRID_YZ && 10 * multiplications <= 6 * 9 * results * g.c_out * g.c_in
    }

    /// Launches a kernel; `more` has its arguments behind the geometry, given the packed weights.
    fn launch(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        pass: Pass,
        kernel: &'static str,
        [x, w]: [&Tensor; 2],
        more: impl Fn(DevicePtr) -> Vec<Arg>,
    ) -> Result<()> {
        let pairs = g.c_out.next_multiple_of(ROWS) * g.c_in.next_multiple_of(DEEP);
        let packed = device.floats([PLACES * pairs])?;
        let [rows, channels, backward] = [g.c_out as i32, g.c_in as i32, i32::from(pass == Pass::InputGradient)];
        let args = args![address(w), rows, channels, backward, address(&packed), pairs as u32];
        device.launch("conv2d_winograd_weights", launch::elements(pairs), args, &[w])?;
        let mut args = args![Conv::from(g), self.windows];
        args.extend(more(address(&packed)));
        device.launch(kernel, self.config, args, &[x, w])
    }

    pub(super) fn conv2d(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        pass: Pass,
        [x, w, y]: [&Tensor; 3],
        bias: DevicePtr,
        relu: bool,
    ) -> Result<()> {
        self.launch(device, g, pass, "conv2d_winograd", [x, w], |packed| {
            args![address(x), packed, bias, i32::from(relu), address(y)]
        })
    }

    pub(super) fn relu_pool(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        [x, w, bias]: [&Tensor; 3],
        [y, winners]: [&Tensor; 2],
    ) -> Result<()> {
        self.launch(device, g, Pass::Forward, "conv2d_winograd_relu_pool", [x, w], |packed| {
            args![address(x), packed, address(bias), address(y), address(winners)]
        })
    }

    pub(super) fn grad_input(
        &self,
        device: &CudaDevice,
        g: &Conv2dGeometry,
        gradient: OutputGradient,
        w: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        let (g, pass, dy) = (&mirrored(g), Pass::InputGradient, gradient.dy);
        let Some(winners) = gradient.winners else {
            return self.conv2d(device, g, pass, [dy, w, dx], DevicePtr::NULL, false);
        };
        self.launch(device, g, pass, "conv2d_winograd_pooled_grad_input", [dy, w], |packed| {
            args![address(dy), address(winners), packed, address(dx)]
        })
    }
}

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use super::*;
    use crate::backend;
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

    /// Forward, with and without pooling, and both input gradients, against the reference in `f64`; the results' bytes.
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
        Plan::new(g, false).conv2d(device, g, Pass::Forward, [&x, &w, &y], address(&bias), true).unwrap();
        assert_near("conv2d", g, &y, &reference.conv2d(g, &x64, &w64, Some(&bias64), true).unwrap());

        let (dy, dx) = (normal([g.n, g.c_out, g.h, g.w], seed ^ 3), device.floats([g.n, g.c_in, g.h, g.w]).unwrap());
        let backward = Plan::new(&mirrored(g), false);
        backward.grad_input(device, g, OutputGradient { dy: &dy, winners: None }, &w, &dx).unwrap();
        assert_near("its gradient", g, &dx, &reference.conv2d_grad_input(g, &exact(&dy), &w64).unwrap());
        let mut results = vec![y, dx];

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
            backward.grad_input(device, g, OutputGradient { dy: &dy, winners: Some(&winners) }, &w, &dx).unwrap();
            let expected = reference.conv2d_pooled_grad_input(g, &exact(&dy), &exact(&winners), &w64).unwrap();
            assert_near("its gradient behind pooling", g, &dx, &expected);
            results.extend([y, winners, dx]);
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
    fn several_blocks_and_slices_are_near_the_reference() {
        check(&geometry([3, 33, 70, 13, 14]), 1);
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
        Plan::new(&g, false).conv2d(device, &g, Pass::Forward, [&x, &w, &y], DevicePtr::NULL, false).unwrap();
        let y = y.to_f64_vec().unwrap();
        for (row, column) in (1..4).flat_map(|row| (2..5).map(move |column| (row, column))) {
            assert!(y[row * 6 + column].is_nan(), "{row} {column}");
        }
        assert!(y[5 * 6].is_finite(), "windows far from it do not see it");
    }

    #[test]
    fn few_channels_and_small_images_are_left_to_the_other_kernels() {
        let pays = |sizes| Plan::new(&geometry(sizes), false).pays(&geometry(sizes), false);
        assert!(pays([128, 64, 64, 28, 28]) && pays([128, 64, 128, 14, 14]) && pays([32, 128, 128, 7, 7]));
        assert!(!pays([128, 64, 16, 28, 28]) && !pays([1, 64, 64, 4, 4]) && !pays([128, 5, 64, 28, 28]));
    }
}
