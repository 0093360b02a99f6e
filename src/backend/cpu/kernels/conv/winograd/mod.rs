//! Winograd's minimal filtering F(m×m, 3×3), m = 2, 3 or 4, for 3×3 filters of stride 1 (Lavin & Gray 2016).
//!
//! Each m×m square of outputs needs an (m+2)×(m+2) square of inputs. Both it and the filter are transformed to as many components
//! (`minimal`), whose products are summed over channels as (m+2)² matrix products, and the sums are transformed back:
//! (m+2)² multiplications a channel instead of 9·m², a quarter for m = 4. What lies beyond the image is computed and dropped, so m
//! is chosen for the size of the image ([`size`]).
//!
//! The transforms add and scale by small constants, which costs digits. Measured on normal inputs with 40 channels, the largest
//! error against sums in f64, relative to the largest output: 4e-7 for m = 2, 3e-6 for m = 3, 7e-6 for m = 4 (a test holds them
//! below 1e-6, 4e-6 and 1e-5).
//!
//! A pass takes a few images, so that the components of all their squares, `[component][square][channel]`, stay in L2 while every
//! block of filters is applied to them. Vectors hold channels on both sides, so no transform depends on the image's width.

mod minimal;
mod weights;

pub(super) use weights::grad_weight;

use super::super::isa::{Isa, Kernel};
use super::super::parallel::{elements_ns, flops_ns, for_each, Disjoint};
use super::super::scratch::{take, zeroed};
use super::super::simd::Simd;
use super::super::tile::{multiply, Picked};
use super::blocked::{Blocked, Placement};
use super::correlation::{Correlation, Filters};
use super::forward::{Sink, Strip};
use minimal::{Minimal, F2, F3, F4, MAX_OUT, MAX_SIDE};

const TAPS: usize = 9;
/// Channels and outputs from which the products outweigh the transforms.
const MANY_CHANNELS: usize = 16;
/// Squares from which the transform of the filters is repaid.
const MANY_SQUARES: usize = 8;
/// What reading a component costs, in multiplications a square.
const READING: usize = 8;
/// Passes × groups from which each is a task; with fewer, the blocks of filters of one pass are.
const MANY_TASKS: usize = 8;
/// Transformed inputs of one pass, in elements: they stay in L2 with a block of filters.
const PASS_LEN: usize = 120 << 10;

/// Filter components, in elements, that do not stay in L2: then each is read for at least `WIDE_SQUARES` squares.
const WIDE_LEN: usize = 512 << 10;
const WIDE_SQUARES: usize = 64;

/// The m of F(m×m, 3×3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Two = 2,
    Three = 3,
    Four = 4,
}

/// Runs `$body` with `$f` as the transforms of a size.
macro_rules! with_minimal {
    ($size:expr, $f:ident => $body:expr) => {
        match $size {
            Size::Two => {
                let $f = F2;
                $body
            }
            Size::Three => {
                let $f = F3;
                $body
            }
            Size::Four => {
                let $f = F4;
                $body
            }
        }
    };
}
use with_minimal;

/// The size for a correlation's `wanted` rows and columns, if it has the shape for minimal filtering and enough work to repay the
/// transforms: the one with the fewest multiplications; the smallest, if several, for it is the most exact. With few squares,
/// reading the filters' components counts more than multiplying.
pub(super) fn size(plan: &Correlation, wanted: [usize; 2]) -> Option<Size> {
    let plain = plan.kernel == [3, 3] && [plan.stride, plan.dilation, plan.spread] == [[1, 1]; 3];
    if !plain || plan.channels.min(plan.outputs) < MANY_CHANNELS {
        return None;
    }
    let squares = |size: Size| plan.images * wanted.iter().map(|out| out.div_ceil(size as usize)).product::<usize>();
    let cost = |size: &Size| (*size as usize + 2).pow(2) * (squares(*size) + READING);
    let size = [Size::Two, Size::Three, Size::Four].into_iter().min_by_key(cost)?;
    (squares(size) >= MANY_SQUARES).then_some(size)
}

/// Packed filters, transformed for minimal filtering of a size, if one is given.
pub(super) fn transform(isa: Isa, plan: &Correlation, size: Option<Size>, filters: Filters) -> Filters {
    match size {
        None => filters,
        Some(size) => with_minimal!(size, f => transform_filters(f, isa, plan, size, &filters)),
    }
}

/// Correlates like `forward::correlate`, to which it is equal but for rounding.
pub(super) fn correlate(isa: Isa, plan: &Correlation, size: Size, x: &[f32], filters: &Filters, sink: &impl Sink) {
    with_minimal!(size, f => correlate_by(f, isa, plan, x, filters, sink))
}

fn correlate_by<F: Minimal>(f: F, isa: Isa, plan: &Correlation, x: &[f32], filters: &Filters, sink: &impl Sink) {
    let ([rows, columns], _) = sink.wanted();
    let grid = [rows.div_ceil(F::OUT), columns.div_ceil(F::OUT)];
    let (squares, components) = (grid[0] * grid[1], F::SIDE * F::SIDE);
    let (channels, lanes) = (plan.channels, filters.lanes);
    let depth = channels.next_multiple_of(isa.lanes());
    let fitting = PASS_LEN / (components * depth);
    let wide = components * channels * plan.outputs > WIDE_LEN;
    let together = (if wide { fitting.max(WIDE_SQUARES) } else { fitting } / squares).clamp(1, plan.images);
    let passes = plan.images.div_ceil(together);
    let placement = Placement { source: plan.source, offset: plan.offset };
    let mut steps = take::<usize>(channels);
    steps.iter_mut().enumerate().for_each(|(channel, step)| *step = channel);
    let mut square_starts = take::<usize>(together * squares);
    square_starts.iter_mut().enumerate().for_each(|(i, at)| *at = i * depth);

    let images_of = |task: usize| {
        let pass = task / plan.groups;
        pass * together..plan.images.min((pass + 1) * together)
    };
    let transform_inputs = |task: usize| {
        let (images, group) = (images_of(task), task % plan.groups);
        let total = images.len() * squares;
        let mut inputs = take::<f32>(components * total * depth);
        let squares_of = Squares { grid, lanes: isa.lanes(), total, depth };
        let layout = squares_of.layout::<F>(channels, plan.padded);
        let mut blocked = zeroed(layout.len());
        for (i, image) in images.enumerate() {
            layout.fill(isa, placement, &x[plan.planes(image, group)], 0, &mut blocked);
            let first = i * squares;
            isa.run(TransformInput { f, layout, blocked: &blocked, squares: squares_of, first, to: &mut inputs });
        }
        inputs
    };
    let multiply_block = |task: usize, inputs: &[f32], block: usize| {
        let (images, group) = (images_of(task), task % plan.groups);
        let total = images.len() * squares;
        let mut products = take::<f32>(components * total * lanes);
        let panels = filters.panel(group, block).chunks_exact(channels * lanes);
        let outs = products.chunks_exact_mut(total * lanes);
        for ((x, panel), out) in inputs.chunks_exact(total * depth).zip(panels).zip(outs) {
            let picked = Picked { x, columns: &square_starts[..total], steps: &steps };
            // SAFETY: the columns are rows of `depth` channels, the steps run along them.
            unsafe { multiply(isa, picked, panel, lanes, out) };
        }
        let mut tile = take::<f32>(rows * columns * lanes);
        for (i, image) in images.enumerate() {
            let products = &products[i * squares * lanes..];
            let to = &mut tile;
            isa.run(TransformOutput { f, products, component_len: total * lanes, lanes, grid, rows, columns, to });
            let plane = group * plan.outputs + block * lanes;
            let planes = lanes.min(plan.outputs - block * lanes);
            sink.store(isa, Strip { image, plane, planes, lanes, row: 0, rows }, &tile);
        }
    };
    let (tasks, work) = (plan.groups * passes, flops_ns(plan.flops() / 2));
    if tasks >= MANY_TASKS {
        for_each(tasks, work, |task| {
            let inputs = transform_inputs(task);
            (0..filters.blocks).for_each(|block| multiply_block(task, &inputs, block));
        });
    } else {
        for task in 0..tasks {
            let inputs = transform_inputs(task);
            for_each(filters.blocks, work / tasks, |block| multiply_block(task, &inputs, block));
        }
    }
}

/// `U = G g Gᵀ` of every filter, as panels `[group][block][component][channel][lanes]`.
fn transform_filters<F: Minimal>(f: F, isa: Isa, plan: &Correlation, size: Size, filters: &Filters) -> Filters {
    let &Filters { lanes, blocks, .. } = filters;
    let depth = F::SIDE * F::SIDE * plan.channels;
    let panel_len = depth * lanes;
    let mut packed = take::<f32>(plan.groups * blocks * panel_len);
    let work = elements_ns(4 * packed.len());
    let panels = Disjoint::new(&mut packed);
    for_each(plan.groups * blocks, work, |task| {
        // SAFETY: each task has its own panels.
        let out = unsafe { panels.range(task * panel_len..(task + 1) * panel_len) };
        isa.run(TransformFilters { f, panel: filters.panel(task / blocks, task % blocks), lanes, out });
    });
    Filters { lanes, blocks, depth, size: Some(size), packed }
}

struct TransformFilters<'a, F> {
    f: F,
    panel: &'a [f32],
    lanes: usize,
    out: &'a mut [f32],
}

impl<F: Minimal> Kernel for TransformFilters<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let _ = self.f;
        let component_len = self.out.len() / (F::SIDE * F::SIDE);
        for (channel, taps) in self.panel.chunks_exact(TAPS * self.lanes).enumerate() {
            for lane in (0..self.lanes).step_by(S::LANES) {
                let mut columns = [[S::zero(); MAX_SIDE]; 3];
                for (x, column) in columns.iter_mut().enumerate() {
                    let tap = |y: usize| S::load(taps.as_ptr().add((3 * y + x) * self.lanes + lane));
                    *column = F::filter::<S>([tap(0), tap(1), tap(2)]);
                }
                let to = self.out.as_mut_ptr().add(channel * self.lanes + lane);
                for y in 0..F::SIDE {
                    let row = F::filter::<S>([columns[0][y], columns[1][y], columns[2][y]]);
                    for (x, &component) in row[..F::SIDE].iter().enumerate() {
                        S::store(to.add((F::SIDE * y + x) * component_len), component);
                    }
                }
            }
        }
    }
}

/// The squares of one pass and how their components are stored.
#[derive(Clone, Copy)]
struct Squares {
    /// Squares down and across an image.
    grid: [usize; 2],
    /// Lanes of a block of channels.
    lanes: usize,
    /// Squares in the pass.
    total: usize,
    /// Distance of squares: the channels, in whole vectors.
    depth: usize,
}

impl Squares {
    /// The planes that the squares are cut from: as large as the last square reaches.
    fn layout<F: Minimal>(&self, channels: usize, padded: [usize; 2]) -> Blocked {
        let reach = std::array::from_fn(|axis| padded[axis].max(self.grid[axis] * F::OUT + 2));
        Blocked { channels, lanes: self.lanes, padded: reach, images: 1 }
    }
}

/// `V = Bᵀ d B` of all squares of one image, to `to[component][first + square][channel]`.
struct TransformInput<'a, F> {
    f: F,
    layout: Blocked,
    blocked: &'a [f32],
    squares: Squares,
    first: usize,
    to: &'a mut [f32],
}

impl<F: Minimal> Kernel for TransformInput<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let _ = self.f;
        let Squares { grid, lanes, total, depth } = self.squares;
        let wide = self.layout.padded[1];
        for block in 0..self.layout.blocks() {
            let planes = self.blocked.as_ptr().add(block * self.layout.block_len());
            for square in 0..grid[0] * grid[1] {
                let (y, x) = (square / grid[1] * F::OUT, square % grid[1] * F::OUT);
                let corner = planes.add((y * wide + x) * lanes);
                let mut columns = [[S::zero(); MAX_SIDE]; MAX_SIDE];
                for x in 0..F::SIDE {
                    let mut column = [S::zero(); MAX_SIDE];
                    for y in 0..F::SIDE {
                        column[y] = S::load(corner.add((y * wide + x) * lanes));
                    }
                    columns[x] = F::input::<S>(column);
                }
                let to = self.to.as_mut_ptr().add((self.first + square) * depth + block * lanes);
                for y in 0..F::SIDE {
                    let row = F::input::<S>(std::array::from_fn(|x| columns[x][y]));
                    for x in 0..F::SIDE {
                        S::store(to.add((F::SIDE * y + x) * total * depth), row[x]);
                    }
                }
            }
        }
    }
}

/// `y = Aᵀ (Σ U·V) A`: outputs `[rows, columns, lanes]` of one image from its sums of products `[component][square][lanes]`.
struct TransformOutput<'a, F> {
    f: F,
    products: &'a [f32],
    component_len: usize,
    lanes: usize,
    grid: [usize; 2],
    rows: usize,
    columns: usize,
    to: &'a mut [f32],
}

impl<F: Minimal> Kernel for TransformOutput<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let _ = self.f;
        for square in 0..self.grid[0] * self.grid[1] {
            let (top, left) = (square / self.grid[1] * F::OUT, square % self.grid[1] * F::OUT);
            let (height, width) = (F::OUT.min(self.rows - top), F::OUT.min(self.columns - left));
            for lane in (0..self.lanes).step_by(S::LANES) {
                let from = self.products.as_ptr().add(square * self.lanes + lane);
                let mut columns = [[S::zero(); MAX_OUT]; MAX_SIDE];
                for x in 0..F::SIDE {
                    let mut column = [S::zero(); MAX_SIDE];
                    for y in 0..F::SIDE {
                        column[y] = S::load(from.add((F::SIDE * y + x) * self.component_len));
                    }
                    columns[x] = F::output::<S>(column);
                }
                let to = self.to.as_mut_ptr().add((top * self.columns + left) * self.lanes + lane);
                for y in 0..F::OUT {
                    let row = F::output::<S>(std::array::from_fn(|x| columns[x][y]));
                    for x in 0..F::OUT {
                        if y < height && x < width {
                            S::store(to.add((y * self.columns + x) * self.lanes), row[x]);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
