//! The gradient of 3×3 filters by minimal filtering: `dg = Gᵀ (Σ (A dy Aᵀ) · (Bᵀ d B)) G`, summed over squares and images.
//!
//! The products of each component are a matrix product `[channels, squares] · [squares, outputs]`. The batch is cut into a fixed
//! number of chunks, each summed on its own, and the chunks are added in order.

use super::super::super::elementwise::add_parts;
use super::super::super::isa::{Isa, Kernel};
use super::super::super::parallel::{flops_ns, for_each, Disjoint};
use super::super::super::scratch::{take, zeroed};
use super::super::super::simd::Simd;
use super::super::super::tile::{multiply, panel_lanes, Picked};
use super::super::super::transpose::transpose;
use super::super::blocked::{Blocked, Placement};
use super::super::correlation::Correlation;
use super::super::grad_weight::CHUNKS;
use super::super::Conv2d;
use super::{with_minimal, Minimal, Size, Squares, TransformInput, F2, F3, F4, MAX_OUT, MAX_SIDE, TAPS};

/// Squares of a pass, about: enough products a component to repay adding them up.
const SQUARES: usize = 64;
/// Channels in one pass of the micro-kernel.
const COLUMNS: usize = 112;

/// `dw` from `x` and `dy`, by minimal filtering of a size that [`super::size`] found.
pub(in super::super) fn grad_weight(isa: Isa, conv: &Conv2d, size: Size, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    with_minimal!(size, f => grad_weight_by(f, isa, conv, x, dy, dw))
}

fn grad_weight_by<F: Minimal>(f: F, isa: Isa, conv: &Conv2d, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let plan = Correlation::forward(conv);
    let grid = plan.out.map(|size| size.div_ceil(F::OUT));
    let (squares, components) = (grid[0] * grid[1], F::SIDE * F::SIDE);
    let depth = plan.channels.next_multiple_of(isa.lanes());
    let lanes = panel_lanes(isa, plan.outputs);
    let blocks = plan.outputs.div_ceil(lanes);
    let chunks = CHUNKS.min(conv.n);
    let together = (SQUARES / squares).clamp(1, conv.n.div_ceil(chunks));

    // Partial sums, [chunk][group][block][component][channel][lanes].
    let sum_len = plan.channels * lanes;
    let panel_len = components * sum_len;
    let part_len = plan.groups * blocks * panel_len;
    let mut parts = zeroed(chunks * part_len);
    let sums = Disjoint::new(&mut parts);
    for_each(chunks * plan.groups, flops_ns(plan.flops() / 2), |task| {
        let (chunk, group) = (task / plan.groups, task % plan.groups);
        let images = conv.n * chunk / chunks..conv.n * (chunk + 1) / chunks;
        let start = chunk * part_len + group * blocks * panel_len;
        // SAFETY: each task has its own chunk and group.
        let sums = unsafe { sums.range(start..start + blocks * panel_len) };
        let mut columns = take::<usize>(plan.channels);
        columns.iter_mut().enumerate().for_each(|(channel, at)| *at = channel);
        let mut tile = take::<f32>(COLUMNS.min(plan.channels) * lanes);
        for first in images.clone().step_by(together) {
            let count = together.min(images.end - first);
            let total = count * squares;
            let mut steps = take::<usize>(total);
            steps.iter_mut().enumerate().for_each(|(square, step)| *step = square * depth);

            let input_squares = Squares { grid, lanes: isa.lanes(), total, depth };
            let input = input_squares.layout::<F>(plan.channels, plan.padded);
            let mut blocked = zeroed(input.len());
            let mut inputs = take::<f32>(components * total * depth);
            let gradient = Blocked { channels: plan.outputs, lanes, padded: grid.map(|size| size * F::OUT), images: 1 };
            let mut blocked_gradient = zeroed(gradient.len());
            let mut gradients = take::<f32>(components * blocks * total * lanes);
            for i in 0..count {
                let at = Placement { source: plan.source, offset: plan.offset };
                input.fill(isa, at, &x[plan.planes(first + i, group)], 0, &mut blocked);
                let (squares_of, to) = (input_squares, &mut inputs);
                isa.run(TransformInput {
                    f,
                    layout: input,
                    blocked: &blocked,
                    squares: squares_of,
                    first: i * squares,
                    to,
                });

                let at = Placement { source: plan.out, offset: [0, 0] };
                let area = plan.out[0] * plan.out[1];
                let plane = (first + i) * conv.c_out + group * plan.outputs;
                gradient.fill(isa, at, &dy[plane * area..][..plan.outputs * area], 0, &mut blocked_gradient);
                let (blocked, to) = (&blocked_gradient[..], &mut gradients[..]);
                isa.run(TransformGradient { f, layout: gradient, blocked, grid, total, first: i * squares, to });
            }
            for component in 0..components {
                let x = &inputs[component * total * depth..][..total * depth];
                for block in 0..blocks {
                    let panel = &gradients[(component * blocks + block) * total * lanes..][..total * lanes];
                    let sums = &mut sums[block * panel_len + component * sum_len..][..sum_len];
                    for (columns, sums) in columns.chunks(COLUMNS).zip(sums.chunks_mut(COLUMNS * lanes)) {
                        // SAFETY: the steps are rows of `depth` channels, the columns run along them.
                        unsafe { multiply(isa, Picked { x, columns, steps: &steps }, panel, lanes, &mut tile) };
                        isa.vectorise(|| sums.iter_mut().zip(tile.iter()).for_each(|(sum, tile)| *sum += tile));
                    }
                }
            }
        }
    });
    add_parts(isa, &mut parts, part_len);

    let depth = plan.depth();
    let dw = Disjoint::new(dw);
    for_each(plan.groups * blocks, flops_ns(16 * part_len), |task| {
        let (group, block) = (task / blocks, task % blocks);
        let mut taps = take::<f32>(depth * lanes);
        let sums = &parts[task * panel_len..(task + 1) * panel_len];
        isa.run(TransformSums { f, sums, lanes, taps: &mut taps });
        let planes = lanes.min(plan.outputs - block * lanes);
        let start = (group * plan.outputs + block * lanes) * depth;
        // SAFETY: each task has its own filters.
        let dw = unsafe { dw.range(start..start + planes * depth) };
        transpose(isa, [depth, planes], (&taps, lanes), (dw, depth));
    });
}

/// `A dy Aᵀ` of all squares of one image, to `to[component][block][first + square][lanes]`.
struct TransformGradient<'a, F> {
    f: F,
    layout: Blocked,
    blocked: &'a [f32],
    grid: [usize; 2],
    total: usize,
    first: usize,
    to: &'a mut [f32],
}

impl<F: Minimal> Kernel for TransformGradient<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let _ = self.f;
        let Blocked { lanes, padded, .. } = self.layout;
        let blocks = self.layout.blocks();
        for block in 0..blocks {
            let planes = self.blocked.as_ptr().add(block * self.layout.block_len());
            for square in 0..self.grid[0] * self.grid[1] {
                let (y, x) = (square / self.grid[1] * F::OUT, square % self.grid[1] * F::OUT);
                for lane in (0..lanes).step_by(S::LANES) {
                    let corner = planes.add((y * padded[1] + x) * lanes + lane);
                    let mut columns = [[S::zero(); MAX_SIDE]; MAX_OUT];
                    for x in 0..F::OUT {
                        let mut column = [S::zero(); MAX_OUT];
                        for y in 0..F::OUT {
                            column[y] = S::load(corner.add((y * padded[1] + x) * lanes));
                        }
                        columns[x] = F::output_adjoint::<S>(column);
                    }
                    let to = self.to.as_mut_ptr().add((block * self.total + self.first + square) * lanes + lane);
                    for y in 0..F::SIDE {
                        let row = F::output_adjoint::<S>(std::array::from_fn(|x| columns[x][y]));
                        for x in 0..F::SIDE {
                            S::store(to.add((F::SIDE * y + x) * blocks * self.total * lanes), row[x]);
                        }
                    }
                }
            }
        }
    }
}

/// `Gᵀ · sums · G`: filter elements `taps[channel·9 + tap][lanes]` from `sums[component][channel][lanes]`.
struct TransformSums<'a, F> {
    f: F,
    sums: &'a [f32],
    lanes: usize,
    taps: &'a mut [f32],
}

impl<F: Minimal> Kernel for TransformSums<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let _ = self.f;
        let component_len = self.sums.len() / (F::SIDE * F::SIDE);
        for (channel, taps) in self.taps.chunks_exact_mut(TAPS * self.lanes).enumerate() {
            for lane in (0..self.lanes).step_by(S::LANES) {
                let from = self.sums.as_ptr().add(channel * self.lanes + lane);
                let mut columns = [[S::zero(); 3]; MAX_SIDE];
                for x in 0..F::SIDE {
                    let mut column = [S::zero(); MAX_SIDE];
                    for y in 0..F::SIDE {
                        column[y] = S::load(from.add((F::SIDE * y + x) * component_len));
                    }
                    columns[x] = F::filter_adjoint::<S>(column);
                }
                for y in 0..3 {
                    let row = F::filter_adjoint::<S>(std::array::from_fn(|x| columns[x][y]));
                    for (x, &tap) in row.iter().enumerate() {
                        S::store(taps.as_mut_ptr().add((3 * y + x) * self.lanes + lane), tap);
                    }
                }
            }
        }
    }
}
