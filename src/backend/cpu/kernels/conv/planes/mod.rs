//! 3×3 correlation along the pixels of whole planes: convolutions with few channels on one side, and depthwise ones.
//!
//! Where a vector of channels would be mostly empty, vectors hold neighbouring pixels of a row instead, as images are stored: nothing
//! is transposed. Four rows of an output plane are summed in registers, so that a row of the input serves up to three of them.

mod pooled;

pub(super) use pooled::{forward_relu_pool, pooled_grad_weight};

use super::super::elementwise::add_parts;
use super::super::isa::{Isa, Kernel};
use super::super::parallel::{flops_ns, for_each, Disjoint};
use super::super::scratch::{take, zeroed};
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

/// Whether a correlation is one of 3×3 filters of stride 1 with few planes per group on either side.
pub(super) fn suits(plan: &Correlation) -> bool {
    let plain = plan.kernel == [3, 3] && [plan.stride, plan.dilation, plan.spread] == [[1, 1]; 3];
    plain && plan.channels.min(plan.outputs) <= FEW_CHANNELS
}

/// Whether a convolution with a pool after it is one of images with few channels.
pub(super) fn suits_pooled(conv: &Conv2d) -> bool {
    conv.n > 0 && conv.groups == 1 && conv.c_in <= FEW_CHANNELS && suits(&Correlation::forward(conv))
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
    for_each(plan.images * plan.groups, flops_ns(2 * plan.flops()), |stack| {
        let group = stack % plan.groups;
        let mut padded = zeroed(plan.padded_len() + MAX_LANES);
        plan.place(&x[plan.planes(stack / plan.groups, group)], &mut padded);
        for output in 0..plan.outputs {
            let plane = group * plan.outputs + output;
            let start = (stack * plan.outputs + output) * area;
            // SAFETY: each task has its own stack of planes.
            let y = unsafe { y.range(start..start + area) };
            let filter = &filters[plane * depth..(plane + 1) * depth];
            let bias = bias.map_or(0.0, |bias| bias[plane]);
            isa.run(CorrelatePlane { plan, padded: &padded, filter, bias, relu, y });
        }
    });
}

/// One output plane.
struct CorrelatePlane<'a> {
    plan: &'a Correlation,
    padded: &'a [f32],
    filter: &'a [f32],
    bias: f32,
    relu: bool,
    y: &'a mut [f32],
}

impl Kernel for CorrelatePlane<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let height = self.plan.out[0];
        for row in (0..height / ROWS * ROWS).step_by(ROWS) {
            self.rows::<S, ROWS>(row);
        }
        for row in height / ROWS * ROWS..height {
            self.rows::<S, 1>(row);
        }
    }
}

impl CorrelatePlane<'_> {
    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize>(&mut self, row: usize) {
        let ([_, width], [tall, wide]) = (self.plan.out, self.plan.padded);
        for x in (0..width).step_by(S::LANES) {
            let mut sums = [S::splat(self.bias); R];
            for channel in 0..self.plan.channels {
                let corner = self.padded.as_ptr().add((channel * tall + row) * wide + x);
                let taps = self.filter.as_ptr().add(channel * TAPS);
                for i in 0..R + 2 {
                    for j in 0..3 {
                        let pixels = S::load(corner.add(i * wide + j));
                        for r in 0..R {
                            if (r..r + 3).contains(&i) {
                                sums[r] = S::fma(S::splat(*taps.add(3 * (i - r) + j)), pixels, sums[r]);
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
        let mut padded = zeroed(plan.padded_len() + MAX_LANES);
        for image in conv.n * chunk / chunks..conv.n * (chunk + 1) / chunks {
            plan.place(&x[plan.planes(image, group)], &mut padded);
            let first = (image * conv.c_out + group * plan.outputs) * area;
            let dy = &dy[first..first + plan.outputs * area];
            isa.run(AddProducts { plan: &plan, padded: &padded, dy, sums });
        }
    });
    add_parts(isa, &mut parts, part_len);
    dw.iter_mut().zip(parts.chunks_exact(lanes)).for_each(|(dw, sums)| *dw = vector::sum(isa, sums));
}

/// Adds `Σ dy·x` under every filter element of one image and group to `sums`, `[outputs, depth, lanes]`.
struct AddProducts<'a> {
    plan: &'a Correlation,
    padded: &'a [f32],
    dy: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let outputs = self.plan.outputs;
        for channel in 0..self.plan.channels {
            for output in (0..outputs / OUTPUTS * OUTPUTS).step_by(OUTPUTS) {
                self.add::<S, OUTPUTS>(channel, output);
            }
            for output in outputs / OUTPUTS * OUTPUTS..outputs {
                self.add::<S, 1>(channel, output);
            }
        }
    }
}

impl AddProducts<'_> {
    #[inline(always)]
    unsafe fn add<S: Simd, const N: usize>(&mut self, channel: usize, output: usize) {
        let ([height, width], [tall, wide]) = (self.plan.out, self.plan.padded);
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
                let corner = self.padded.as_ptr().add((channel * tall + row) * wide + x);
                for tap in 0..TAPS {
                    let pixels = S::load_first(corner.add(tap / 3 * wide + tap % 3), count, 0.0);
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
