//! 3×3 correlation along the pixels of whole planes: convolutions with few channels on one side, and depthwise ones.
//!
//! Where a vector of channels would be mostly empty, vectors hold neighbouring pixels of a row instead, as images are stored: nothing
//! is transposed. Four rows of an output plane are summed in registers, so that a row of the input serves up to three of them.

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
pub(super) const FEW_CHANNELS: usize = 4;
/// Output rows summed at once.
const ROWS: usize = 4;
/// Output channels whose weight gradients are summed at once.
const OUTPUTS: usize = 2;

/// Whether a correlation is one of 3×3 filters of stride 1 with few planes per group on either side.
pub(super) fn suits(plan: &Correlation) -> bool {
    let plain = plan.kernel == [3, 3] && [plan.stride, plan.dilation, plan.spread] == [[1, 1]; 3];
    plain && plan.channels.min(plan.outputs) <= FEW_CHANNELS
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

/// Convolution, bias, ReLU and 2×2 max-pool of images with few channels. `winner`, if wanted, as in `pooled`.
///
/// Vectors hold windows: the padded rows are split into even and odd columns, so the four pixels of a window are four sums in
/// the same lane.
pub(super) fn forward_relu_pool(
    isa: Isa,
    conv: &Conv2d,
    x: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    winner: Option<&mut [u8]>,
) {
    let plan = Correlation::forward(conv);
    let [tall, wide] = plan.padded;
    let half = wide.div_ceil(2) + MAX_LANES;
    let image_len = conv.pooled_len() / conv.n;
    let y = Disjoint::new(y);
    let winner = winner.map(Disjoint::new);
    for_each(conv.n, flops_ns(2 * plan.flops()), |image| {
        let mut padded = zeroed(plan.padded_len());
        plan.place(&x[plan.planes(image, 0)], &mut padded);
        let mut phases = zeroed(conv.c_in * tall * 2 * half);
        for (row, phases) in padded.chunks_exact(wide).zip(phases.chunks_exact_mut(2 * half)) {
            let (even, odd) = phases.split_at_mut(half);
            even.iter_mut().zip(row.iter().step_by(2)).for_each(|(to, &from)| *to = from);
            odd.iter_mut().zip(row.iter().skip(1).step_by(2)).for_each(|(to, &from)| *to = from);
        }
        let range = image * image_len..(image + 1) * image_len;
        // SAFETY: each task has its own image.
        let y = unsafe { y.range(range.clone()) };
        match &winner {
            None => isa.run(PoolWindows::<false> { conv, phases: &phases, half, weights, bias, y, winner: &mut [] }),
            Some(winner) => {
                // SAFETY: as above.
                let winner = unsafe { winner.range(range) };
                isa.run(PoolWindows::<true> { conv, phases: &phases, half, weights, bias, y, winner });
            }
        }
    });
}

/// One image; `phases` are its padded rows as `[channel][row][even, odd][half]`.
struct PoolWindows<'a, const WINNERS: bool> {
    conv: &'a Conv2d,
    phases: &'a [f32],
    half: usize,
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    y: &'a mut [f32],
    winner: &'a mut [u8],
}

impl<const WINNERS: bool> Kernel for PoolWindows<'_, WINNERS> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Conv2d { c_in, c_out, .. } = *self.conv;
        let (rows, columns) = (self.conv.out_h() / 2, self.conv.out_w() / 2);
        let tall = self.conv.padded()[0];
        for output in 0..c_out {
            let bias = S::splat(self.bias.map_or(0.0, |bias| bias[output]));
            let taps = self.weights.as_ptr().add(output * c_in * TAPS);
            for row in 0..rows {
                for x in (0..columns).step_by(S::LANES) {
                    let mut sums = [bias; 4];
                    for channel in 0..c_in {
                        let from = self.phases.as_ptr().add((channel * tall + 2 * row) * 2 * self.half + x);
                        add_window_products::<S>(from, self.half, taps.add(channel * TAPS), &mut sums);
                    }
                    let (best, place) = vector::best_of_window::<S, WINNERS>(sums);
                    let (at, count) = ((output * rows + row) * columns + x, S::LANES.min(columns - x));
                    S::store_first(self.y.as_mut_ptr().add(at), best, count);
                    if WINNERS {
                        S::store_first_bytes(self.winner.as_mut_ptr().add(at), place, count);
                    }
                }
            }
        }
    }
}

/// Adds one channel's products to the four sums of a vector of windows, of which `from` is the first even column.
#[inline(always)]
unsafe fn add_window_products<S: Simd>(from: *const f32, half: usize, taps: *const f32, sums: &mut [S::V; 4]) {
    for i in 0..4 {
        for j in 0..4 {
            let pixels = S::load(from.add((2 * i + j % 2) * half + j / 2));
            for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                if (down..down + 3).contains(&i) && (right..right + 3).contains(&j) {
                    let tap = S::splat(*taps.add(3 * (i - down) + j - right));
                    sums[2 * down + right] = S::fma(tap, pixels, sums[2 * down + right]);
                }
            }
        }
    }
}
