//! Winograd's minimal filtering F(2×2, 3×3) (Lavin & Gray 2016) for 3×3 filters of stride 1.
//!
//! Each 2×2 square of outputs needs a 4×4 square of inputs. Both it and the filter are transformed to 16 components, whose
//! products are summed over channels as 16 matrix products, and the sums are transformed back: 16 multiplications a
//! channel instead of 36. The transforms only add, subtract and halve, so the error stays within a small factor of the
//! direct sum's (relative to the largest terms, a few 1e-7).
//!
//! ```text
//! components  V = Bᵀ d B   U = G g Gᵀ   y = Aᵀ (Σ U·V) A
//! Bᵀ = 1  0 −1  0      G = 1   0   0      Aᵀ = 1  1  1  0
//!      0  1  1  0          ½   ½   ½           0  1 −1 −1
//!      0 −1  1  0          ½  −½   ½
//!      0  1  0 −1          0   0   1
//! ```
//!
//! A task transforms a few images, so that the components of all their squares, `[component][channel][square]`, stay in
//! L2 while every block of filters is applied to them.

use super::super::isa::{Isa, Kernel};
use super::super::parallel::{elements_ns, flops_ns, for_each, Disjoint};
use super::super::scratch::{take, zeroed, Scratch};
use super::super::simd::{Simd, MAX_LANES};
use super::super::tile::{multiply, Picked};
use super::correlation::{Correlation, Filters};
use super::forward::{Sink, Strip};

const COMPONENTS: usize = 16;
const TAPS: usize = 9;
/// Channels and outputs from which the products outweigh the transforms.
const MANY_CHANNELS: usize = 16;
/// Images from which the transform of the filters is repaid.
const MANY_IMAGES: usize = 8;
/// Transformed inputs of one task, in elements.
const COMPONENTS_LEN: usize = 100 << 10;

/// Whether a correlation has the shape for it, and enough work to repay the transforms.
pub(super) fn suits(plan: &Correlation) -> bool {
    let plain = plan.kernel == [3, 3] && [plan.stride, plan.dilation, plan.spread] == [[1, 1]; 3];
    plain && plan.channels.min(plan.outputs) >= MANY_CHANNELS && plan.images >= MANY_IMAGES
}

/// Correlates like `forward::correlate`, to which it is equal but for rounding.
pub(super) fn correlate(isa: Isa, plan: &Correlation, x: &[f32], filters: &Filters, sink: &impl Sink) {
    let ([rows, columns], _) = sink.wanted();
    let grid = [rows.div_ceil(2), columns.div_ceil(2)];
    let squares = grid[0] * grid[1];
    let (channels, lanes) = (plan.channels, filters.lanes);
    let together = (COMPONENTS_LEN / (COMPONENTS * channels * squares)).clamp(1, plan.images);
    let component_filters = transform_filters(isa, plan, filters);
    let panel_len = channels * lanes;
    let batches = plan.images.div_ceil(together);

    for_each(plan.groups * batches, flops_ns(plan.flops() / 2), |task| {
        let (batch, group) = (task / plan.groups, task % plan.groups);
        let images = batch * together..plan.images.min((batch + 1) * together);
        let total = images.len() * squares;
        let mut inputs = take::<f32>(COMPONENTS * channels * total);
        // The last squares may reach below and right of the padding: what they read there only reaches outputs that are
        // dropped, but it must be memory.
        let reach = plan.padded[1] + 2 * MAX_LANES + 4;
        let mut padded = zeroed(plan.padded_len() + reach);
        for (i, image) in images.clone().enumerate() {
            plan.place(&x[plan.planes(image, group)], &mut padded);
            isa.run(TransformInput { plan, padded: &padded, grid, total, first: i * squares, inputs: &mut inputs });
        }
        let mut square_index = take::<usize>(total);
        square_index.iter_mut().enumerate().for_each(|(i, at)| *at = i);
        let mut steps = take::<usize>(channels);
        steps.iter_mut().enumerate().for_each(|(channel, step)| *step = channel * total);

        let mut products = take::<f32>(COMPONENTS * total * lanes);
        let mut tile = take::<f32>(rows * columns * lanes);
        for block in 0..filters.blocks {
            let panels = &component_filters[(group * filters.blocks + block) * COMPONENTS * panel_len..];
            for component in 0..COMPONENTS {
                let picked = Picked {
                    x: &inputs[component * channels * total..][..channels * total],
                    columns: &square_index,
                    steps: &steps,
                };
                let panel = &panels[component * panel_len..][..panel_len];
                let out = &mut products[component * total * lanes..][..total * lanes];
                // SAFETY: the steps are rows of `total` elements, the columns run along them.
                unsafe { multiply(isa, picked, panel, lanes, out) };
            }
            for (i, image) in images.clone().enumerate() {
                let products = &products[i * squares * lanes..];
                let to = &mut tile;
                isa.run(TransformOutput { products, component_len: total * lanes, lanes, grid, rows, columns, to });
                let plane = group * plan.outputs + block * lanes;
                let planes = lanes.min(plan.outputs - block * lanes);
                sink.store(isa, Strip { image, plane, planes, lanes, row: 0, rows }, &tile);
            }
        }
    });
}

/// `U = G g Gᵀ` of every filter, as panels `[group][block][component][channel][lanes]`.
fn transform_filters(isa: Isa, plan: &Correlation, filters: &Filters) -> Scratch<f32> {
    let panel_len = COMPONENTS * plan.channels * filters.lanes;
    let mut out = take::<f32>(plan.groups * filters.blocks * panel_len);
    let work = elements_ns(4 * out.len());
    let panels = Disjoint::new(&mut out);
    for_each(plan.groups * filters.blocks, work, |task| {
        // SAFETY: each task has its own panels.
        let out = unsafe { panels.range(task * panel_len..(task + 1) * panel_len) };
        let panel = filters.panel(task / filters.blocks, task % filters.blocks);
        isa.run(TransformFilters { panel, lanes: filters.lanes, out });
    });
    out
}

/// `G` applied to three values.
#[inline(always)]
unsafe fn filter_transform<S: Simd>([a, b, c]: [S::V; 3]) -> [S::V; 4] {
    let half = S::splat(0.5);
    let ends = S::mul(S::add(a, c), half);
    let middle = S::mul(b, half);
    [a, S::add(ends, middle), S::sub(ends, middle), c]
}

/// `Bᵀ` applied to four values.
#[inline(always)]
unsafe fn input_transform<S: Simd>([a, b, c, d]: [S::V; 4]) -> [S::V; 4] {
    [S::sub(a, c), S::add(b, c), S::sub(c, b), S::sub(b, d)]
}

/// `Aᵀ` applied to four values.
#[inline(always)]
unsafe fn output_transform<S: Simd>([a, b, c, d]: [S::V; 4]) -> [S::V; 2] {
    [S::add(S::add(a, b), c), S::sub(S::sub(b, c), d)]
}

struct TransformFilters<'a> {
    panel: &'a [f32],
    lanes: usize,
    out: &'a mut [f32],
}

impl Kernel for TransformFilters<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let component_len = self.out.len() / COMPONENTS;
        for (channel, taps) in self.panel.chunks_exact(TAPS * self.lanes).enumerate() {
            for lane in (0..self.lanes).step_by(S::LANES) {
                let mut columns = [[S::zero(); 4]; 3];
                for (x, column) in columns.iter_mut().enumerate() {
                    let mut taps_down = [S::zero(); 3];
                    for (y, tap) in taps_down.iter_mut().enumerate() {
                        *tap = S::load(taps.as_ptr().add((3 * y + x) * self.lanes + lane));
                    }
                    *column = filter_transform::<S>(taps_down);
                }
                let to = self.out.as_mut_ptr().add(channel * self.lanes + lane);
                for y in 0..4 {
                    let row = filter_transform::<S>([columns[0][y], columns[1][y], columns[2][y]]);
                    for (x, &component) in row.iter().enumerate() {
                        S::store(to.add((4 * y + x) * component_len), component);
                    }
                }
            }
        }
    }
}

/// Components of all squares of one image, to `inputs[component][channel][first + square]`.
struct TransformInput<'a> {
    plan: &'a Correlation,
    padded: &'a [f32],
    grid: [usize; 2],
    total: usize,
    first: usize,
    inputs: &'a mut [f32],
}

impl Kernel for TransformInput<'_> {
    type Output = ();

    /// Lanes are horizontally adjacent squares, two pixels apart: a vector of even pixels and one of odd ones hold the
    /// first two columns of all squares, the same two pixels on hold the last two.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [tall, wide] = self.plan.padded;
        let component_len = self.plan.channels * self.total;
        for channel in 0..self.plan.channels {
            for y in 0..self.grid[0] {
                for x in (0..self.grid[1]).step_by(S::LANES) {
                    let corner = self.padded.as_ptr().add((channel * tall + 2 * y) * wide + 2 * x);
                    let mut rows = [[S::zero(); 4]; 4];
                    for (i, row) in rows.iter_mut().enumerate() {
                        let at = corner.add(i * wide);
                        let [a, b] = S::deinterleave(S::load(at), S::load(at.add(S::LANES)));
                        let [c, d] = S::deinterleave(S::load(at.add(2)), S::load(at.add(S::LANES + 2)));
                        *row = input_transform::<S>([a, b, c, d]);
                    }
                    let at = channel * self.total + self.first + y * self.grid[1] + x;
                    let to = self.inputs.as_mut_ptr().add(at);
                    let count = S::LANES.min(self.grid[1] - x);
                    for j in 0..4 {
                        let column = input_transform::<S>([rows[0][j], rows[1][j], rows[2][j], rows[3][j]]);
                        for (i, &component) in column.iter().enumerate() {
                            S::store_first(to.add((4 * i + j) * component_len), component, count);
                        }
                    }
                }
            }
        }
    }
}

/// Outputs `[rows, columns, lanes]` of one image from its sums of products `[component][square][lanes]`.
struct TransformOutput<'a> {
    products: &'a [f32],
    component_len: usize,
    lanes: usize,
    grid: [usize; 2],
    rows: usize,
    columns: usize,
    to: &'a mut [f32],
}

impl Kernel for TransformOutput<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for square in 0..self.grid[0] * self.grid[1] {
            let (y, x) = (square / self.grid[1] * 2, square % self.grid[1] * 2);
            for lane in (0..self.lanes).step_by(S::LANES) {
                let from = self.products.as_ptr().add(square * self.lanes + lane);
                let mut rows = [[S::zero(); 2]; 4];
                for (i, row) in rows.iter_mut().enumerate() {
                    let mut products = [S::zero(); 4];
                    for (j, product) in products.iter_mut().enumerate() {
                        *product = S::load(from.add((4 * i + j) * self.component_len));
                    }
                    *row = output_transform::<S>(products);
                }
                for j in 0..2 {
                    let column = output_transform::<S>([rows[0][j], rows[1][j], rows[2][j], rows[3][j]]);
                    for (i, &output) in column.iter().enumerate() {
                        if y + i < self.rows && x + j < self.columns {
                            let pixel = (y + i) * self.columns + x + j;
                            S::store(self.to.as_mut_ptr().add(pixel * self.lanes + lane), output);
                        }
                    }
                }
            }
        }
    }
}
