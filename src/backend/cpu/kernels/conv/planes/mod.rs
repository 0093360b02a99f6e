//! 3×3 correlation along the pixels of whole planes: convolutions with few channels on one side, and depthwise ones.
//!
//! Where a vector of channels would be mostly empty, vectors hold neighbouring pixels of a row instead, as images are stored: nothing
//! is transposed. Four rows of an output plane are summed in registers, so that a row of the input serves up to three of them.

mod pooled;

pub(super) use pooled::{forward_relu_pool, pooled_grad_weight};

use super::super::elementwise::add_parts;
use super::super::isa::{Isa, Kernel};
use super::super::parallel::{flops_ns, for_each, Disjoint};
use super::super::scratch::{take, zeroed, Scratch};
use super::super::simd::{Simd, MAX_LANES};
use super::super::vector;
use super::correlation::Correlation;
use super::grad_weight::CHUNKS;
use super::Conv2d;

const TAPS: usize = 9;
/// Channels on one side, per group, up to which vectors of pixels are fuller than vectors of channels.
const FEW_CHANNELS: usize = 4;
/// Output rows summed at once.
const ROWS: usize = 4;
/// Output channels whose weight gradients are summed at once.
const OUTPUTS: usize = 2;

/// Elements of the planes that a task writes, about: depthwise layers have many small ones.
const TASK_LEN: usize = 8 << 10;

/// Whether a correlation is one of 3×3 filters of stride 1 or 2 with few planes per group on either side.
pub(super) fn suits(plan: &Correlation) -> bool {
    let stride = [[1, 1], [2, 2]].contains(&plan.stride);
    let plain = plan.kernel == [3, 3] && plan.dilation == [1, 1] && stride;
    plain && plan.channels.min(plan.outputs) <= FEW_CHANNELS
}

/// Whether a convolution with a pool after it is one of images with few channels.
pub(super) fn suits_pooled(conv: &Conv2d) -> bool {
    conv.n > 0
        && conv.groups == 1
        && conv.c_in <= FEW_CHANNELS
        && conv.stride == [1, 1]
        && suits(&Correlation::forward(conv))
}

/// Correlates every plane; `filter(plane, taps)` writes the `9·channels` filter elements of output plane `plane`.
pub(super) fn correlate(
    isa: Isa,
    plan: &Correlation,
    x: &[f32],
    filter: impl Fn(usize, &mut [f32]) + Sync,
    (bias, relu): (Option<&[f32]>, bool),
    y: &mut [f32],
) {
    let depth = plan.depth();
    let mut filters = take::<f32>(plan.groups * plan.outputs * depth);
    filters.chunks_exact_mut(depth).enumerate().for_each(|(plane, taps)| filter(plane, taps));
    let area = plan.out[0] * plan.out[1];
    let y = Disjoint::new(y);
    let stacks = plan.images * plan.groups;
    let together = (TASK_LEN / (plan.outputs * area)).max(1);
    for_each(stacks.div_ceil(together), flops_ns(2 * plan.flops()), |task| {
        let mut input = Input::new(plan);
        for stack in task * together..stacks.min((task + 1) * together) {
            let group = stack % plan.groups;
            input.fill(isa, plan, &x[plan.planes(stack / plan.groups, group)]);
            for output in 0..plan.outputs {
                let plane = group * plan.outputs + output;
                let start = (stack * plan.outputs + output) * area;
                // SAFETY: each task has its own stacks of planes.
                let y = unsafe { y.range(start..start + area) };
                let filter = &filters[plane * depth..(plane + 1) * depth];
                let bias = bias.map_or(0.0, |bias| bias[plane]);
                isa.run(CorrelatePlane { plan, input: &input, filter, bias, relu, y });
            }
        }
    });
}

/// Padded planes of one stack, so stored that the pixels under one filter element are adjacent: with stride 2, every row as its even
/// columns, then its odd ones.
struct Input {
    padded: Scratch<f32>,
    /// The rows by phase, with stride 2.
    phases: Option<Scratch<f32>>,
    /// Distance of rows, and of the phases in a row.
    row_step: usize,
    half: usize,
}

impl Input {
    fn new(plan: &Correlation) -> Self {
        let [tall, wide] = plan.padded;
        let half = wide.div_ceil(2) + MAX_LANES;
        let padded = zeroed(plan.padded_len() + MAX_LANES);
        match plan.stride[1] {
            1 => Input { padded, phases: None, row_step: wide, half: 0 },
            _ => {
                let phases = Some(zeroed(plan.channels * tall * 2 * half));
                Input { padded, phases, row_step: 2 * half, half }
            }
        }
    }

    fn fill(&mut self, isa: Isa, plan: &Correlation, stored: &[f32]) {
        plan.place(isa, stored, &mut self.padded[..plan.padded_len()]);
        if let Some(phases) = &mut self.phases {
            let rows = self.padded.chunks_exact(plan.padded[1]);
            rows.zip(phases.chunks_exact_mut(2 * self.half)).for_each(|(row, to)| split_columns(row, to));
        }
    }

    /// The pixels under filter element `(i, j)` for the outputs of a row from `x` on, as an offset from `corner`.
    #[inline(always)]
    fn under(&self, stride: usize, i: usize, j: usize) -> usize {
        match stride {
            1 => i * self.row_step + j,
            _ => i * self.row_step + j % 2 * self.half + j / 2,
        }
    }

    /// The pixels under the first filter element for outputs `x` on of output row `row`.
    ///
    /// # Safety
    /// There are such outputs.
    #[inline(always)]
    unsafe fn corner(&self, plan: &Correlation, channel: usize, row: usize, x: usize) -> *const f32 {
        let values = self.phases.as_ref().unwrap_or(&self.padded);
        values.as_ptr().add((channel * plan.padded[0] + row * plan.stride[0]) * self.row_step + x)
    }
}

/// The even columns of a row, then the odd ones.
fn split_columns(row: &[f32], to: &mut [f32]) {
    let (even, odd) = to.split_at_mut(to.len() / 2);
    even.iter_mut().zip(row.iter().step_by(2)).for_each(|(to, &from)| *to = from);
    odd.iter_mut().zip(row.iter().skip(1).step_by(2)).for_each(|(to, &from)| *to = from);
}

/// One output plane.
struct CorrelatePlane<'a> {
    plan: &'a Correlation,
    input: &'a Input,
    filter: &'a [f32],
    bias: f32,
    relu: bool,
    y: &'a mut [f32],
}

impl Kernel for CorrelatePlane<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        match self.plan.stride[1] {
            1 => self.plane::<S, 1>(),
            _ => self.plane::<S, 2>(),
        }
    }
}

impl CorrelatePlane<'_> {
    #[inline(always)]
    unsafe fn plane<S: Simd, const STRIDE: usize>(&mut self) {
        let height = self.plan.out[0];
        for row in (0..height / ROWS * ROWS).step_by(ROWS) {
            self.rows::<S, STRIDE, ROWS>(row);
        }
        let rest = height / ROWS * ROWS;
        match height - rest {
            1 => self.rows::<S, STRIDE, 1>(rest),
            2 => self.rows::<S, STRIDE, 2>(rest),
            3 => self.rows::<S, STRIDE, 3>(rest),
            _ => {}
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, const STRIDE: usize, const R: usize>(&mut self, row: usize) {
        let width = self.plan.out[1];
        for x in (0..width).step_by(S::LANES) {
            let mut sums = [S::splat(self.bias); R];
            for channel in 0..self.plan.channels {
                let corner = self.input.corner(self.plan, channel, row, x);
                let taps = self.filter.as_ptr().add(channel * TAPS);
                for i in 0..(R - 1) * STRIDE + 3 {
                    for j in 0..3 {
                        let pixels = S::load(corner.add(self.input.under(STRIDE, i, j)));
                        for r in 0..R {
                            if (r * STRIDE..r * STRIDE + 3).contains(&i) {
                                sums[r] = S::fma(S::splat(*taps.add(3 * (i - r * STRIDE) + j)), pixels, sums[r]);
                            }
                        }
                    }
                }
            }
            let count = S::LANES.min(width - x);
            for (r, &sum) in sums.iter().enumerate() {
                let sum = if self.relu { S::max(S::zero(), sum) } else { sum };
                S::store_first(self.y.as_mut_ptr().add((row + r) * width + x), sum, count);
            }
        }
    }
}

/// `dw` of a convolution that `suits`, from `x` and `dy`. The batch is cut into a fixed number of chunks, which are added in order.
pub(super) fn grad_weight(isa: Isa, conv: &Conv2d, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let plan = Correlation::forward(conv);
    let (depth, area) = (plan.depth(), plan.out[0] * plan.out[1]);
    let (chunks, lanes) = (CHUNKS.min(conv.n), isa.lanes());
    // Partial sums, [chunk][group][output][depth][lanes].
    let part_len = dw.len() * lanes;
    let mut parts = zeroed(chunks * part_len);
    let sums = Disjoint::new(&mut parts);
    for_each(chunks * plan.groups, flops_ns(2 * plan.flops()), |task| {
        let (chunk, group) = (task / plan.groups, task % plan.groups);
        let start = chunk * part_len + group * plan.outputs * depth * lanes;
        // SAFETY: each task has its own chunk and group.
        let sums = unsafe { sums.range(start..start + plan.outputs * depth * lanes) };
        let mut input = Input::new(&plan);
        for image in conv.n * chunk / chunks..conv.n * (chunk + 1) / chunks {
            input.fill(isa, &plan, &x[plan.planes(image, group)]);
            let first = (image * conv.c_out + group * plan.outputs) * area;
            let dy = &dy[first..first + plan.outputs * area];
            isa.run(AddProducts { plan: &plan, input: &input, dy, sums });
        }
    });
    add_parts(isa, &mut parts, part_len);
    dw.iter_mut().zip(parts.chunks_exact(lanes)).for_each(|(dw, sums)| *dw = vector::sum(isa, sums));
}

/// Adds `Σ dy·x` under every filter element of one image and group to `sums`, `[outputs, depth, lanes]`.
struct AddProducts<'a> {
    plan: &'a Correlation,
    input: &'a Input,
    dy: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        match self.plan.stride[1] {
            1 => self.channels::<S, 1>(),
            _ => self.channels::<S, 2>(),
        }
    }
}

impl AddProducts<'_> {
    #[inline(always)]
    unsafe fn channels<S: Simd, const STRIDE: usize>(&mut self) {
        let outputs = self.plan.outputs;
        for channel in 0..self.plan.channels {
            for output in (0..outputs / OUTPUTS * OUTPUTS).step_by(OUTPUTS) {
                self.add::<S, STRIDE, OUTPUTS>(channel, output);
            }
            for output in outputs / OUTPUTS * OUTPUTS..outputs {
                self.add::<S, STRIDE, 1>(channel, output);
            }
        }
    }

    #[inline(always)]
    unsafe fn add<S: Simd, const STRIDE: usize, const N: usize>(&mut self, channel: usize, output: usize) {
        let [height, width] = self.plan.out;
        let sums_of = |i: usize| ((output + i) * self.plan.depth() + channel * TAPS) * S::LANES;
        let mut sums = [[S::zero(); TAPS]; N];
        for (i, sums) in sums.iter_mut().enumerate() {
            for (tap, sum) in sums.iter_mut().enumerate() {
                *sum = S::load(self.sums.as_ptr().add(sums_of(i) + tap * S::LANES));
            }
        }
        for row in 0..height {
            for x in (0..width).step_by(S::LANES) {
                let count = S::LANES.min(width - x);
                let mut dy = [S::zero(); N];
                for (i, dy) in dy.iter_mut().enumerate() {
                    *dy = S::load_first(self.dy.as_ptr().add(((output + i) * height + row) * width + x), count, 0.0);
                }
                let corner = self.input.corner(self.plan, channel, row, x);
                for tap in 0..TAPS {
                    let pixels = S::load_first(corner.add(self.input.under(STRIDE, tap / 3, tap % 3)), count, 0.0);
                    for i in 0..N {
                        sums[i][tap] = S::fma(dy[i], pixels, sums[i][tap]);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (tap, &sum) in sums.iter().enumerate() {
                S::store(self.sums.as_mut_ptr().add(sums_of(i) + tap * S::LANES), sum);
            }
        }
    }
}
