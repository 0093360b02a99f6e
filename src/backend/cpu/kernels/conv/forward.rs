//! The dense forward pass: filters × pixels, a strip of output rows at a time.
//!
//! A strip is computed as `[pixels, lanes]` in a buffer that stays in cache, then a [`Sink`] turns it into output planes,
//! with bias and ReLU, or pools it on the way. Nothing the size of the output is written twice.

use super::super::isa::{self, Isa};
use super::super::parallel::{flops_ns, for_each, Disjoint};
use super::super::scratch::{take, zeroed};
use super::super::tile::{multiply, Picked};
use super::super::transpose::transpose;
use super::super::vector;
use super::super::weights::{Kind, Weights};
use super::correlation::{Correlation, Filters};
use super::{depthwise, planes, pointwise, winograd, Conv2d};
use std::sync::Arc;

/// Images × groups from which a task takes all filters of one image; with fewer, each block of filters is a task.
pub(super) const MANY_STACKS: usize = 16;
/// Pixels in a strip, about.
const STRIP: usize = 112;

/// `y = relu(conv(x, weights) + bias)`: `x` `[n, c_in, h, w]`, `bias` `[c_out]`, `y` `[n, c_out, out_h, out_w]`.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn forward<'a>(
    conv: &Conv2d,
    x: &[f32],
    weights: impl Into<Weights<'a>>,
    bias: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    let weights = weights.into();
    conv.check();
    assert_eq!(x.len(), conv.x_len(), "conv2d forward: x of {conv:?}");
    assert_eq!(weights.values.len(), conv.w_len(), "conv2d forward: weights of {conv:?}");
    assert_eq!(y.len(), conv.y_len(), "conv2d forward: y of {conv:?}");
    assert!(bias.is_none_or(|bias| bias.len() == conv.c_out), "conv2d forward: bias of {conv:?}");
    if y.is_empty() {
        return;
    }
    let isa = isa::active();
    let plan = Correlation::forward(conv);
    if planes::suits(&plan) {
        let depth = plan.depth();
        let filter =
            |plane: usize, taps: &mut [f32]| taps.copy_from_slice(&weights.values[plane * depth..(plane + 1) * depth]);
        return planes::correlate(isa, &plan, x, filter, (bias, relu), y);
    }
    if pointwise::suits(isa, conv) {
        return pointwise::Mix::forward(conv, weights.values, bias, relu).run(isa, x, y);
    }
    if depthwise::suits(conv) {
        return depthwise::forward(isa, conv, x, weights.values, bias, relu, y);
    }
    let planes = Planes { plan: &plan, bias, relu, y: Disjoint::new(y) };
    correlate(isa, &plan, x, &filters(isa, &plan, weights, planes.wanted().0), &planes);
}

/// The filters of the forward pass, transformed where that pays for `wanted` rows and columns; found again if the weights have not
/// changed.
pub(super) fn filters(isa: Isa, plan: &Correlation, weights: Weights, wanted: [usize; 2]) -> Arc<Filters> {
    let size = winograd::size(plan, wanted);
    let [height, width] = plan.kernel;
    let key = [plan.groups, plan.channels, plan.outputs, height, width, size.map_or(0, |size| size as usize)];
    weights.derive(Kind::Filters, isa, key, || {
        winograd::transform(isa, plan, size, Filters::forward(isa, plan, weights.values))
    })
}

/// Where strips of results go. `tile` is `[rows·columns, lanes]`; its first lane is output plane `plane` of `image`.
pub(super) trait Sink: Sync {
    /// Rows and columns wanted, and the number of rows that must stay together.
    fn wanted(&self) -> ([usize; 2], usize);

    fn store(&self, isa: Isa, strip: Strip, tile: &[f32]);
}

/// The part of the output that a tile holds.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    pub image: usize,
    /// First plane among all groups, and how many.
    pub plane: usize,
    pub planes: usize,
    pub lanes: usize,
    pub row: usize,
    pub rows: usize,
}

/// Correlates every stack of planes of `x` with `filters` and hands the results to `sink`.
pub(super) fn correlate(isa: Isa, plan: &Correlation, x: &[f32], filters: &Filters, sink: &impl Sink) {
    if let Some(size) = filters.size {
        return winograd::correlate(isa, plan, size, x, filters, sink);
    }
    let ([rows, columns], together) = sink.wanted();
    let strip_rows = (STRIP / columns.max(1)).next_multiple_of(together).clamp(together, rows.max(together));
    let steps = plan.steps();
    let pixels = plan.pixels(strip_rows, columns);
    let lanes = filters.lanes;
    let stacks = plan.images * plan.groups;
    let parts = if stacks >= MANY_STACKS { 1 } else { filters.blocks };
    for_each(stacks * parts, flops_ns(plan.flops()), |task| {
        let (stack, part) = (task / parts, task % parts);
        let (image, group) = (stack / plan.groups, stack % plan.groups);
        let mut padded = zeroed(plan.padded_len());
        plan.place(isa, &x[plan.planes(image, group)], &mut padded);
        let mut tile = take::<f32>(pixels.len() * lanes);
        for block in filters.blocks * part / parts..filters.blocks * (part + 1) / parts {
            for row in (0..rows).step_by(strip_rows) {
                let strip = Strip {
                    image,
                    plane: group * plan.outputs + block * lanes,
                    planes: lanes.min(plan.outputs - block * lanes),
                    lanes,
                    row,
                    rows: strip_rows.min(rows - row),
                };
                let picked = Picked {
                    x: &padded[row * plan.row_step()..],
                    columns: &pixels[..strip.rows * columns],
                    steps: &steps,
                };
                // SAFETY: the filter at the last output pixel ends inside the padded planes.
                unsafe { multiply(isa, picked, filters.panel(group, block), lanes, &mut tile) };
                sink.store(isa, strip, &tile);
            }
        }
    });
}

/// Writes plain output planes, with bias and ReLU.
pub(super) struct Planes<'a> {
    pub plan: &'a Correlation,
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
    pub y: Disjoint<'a, f32>,
}

impl Sink for Planes<'_> {
    fn wanted(&self) -> ([usize; 2], usize) {
        (self.plan.out, 1)
    }

    fn store(&self, isa: Isa, strip: Strip, tile: &[f32]) {
        let [height, width] = self.plan.out;
        let area = height * width;
        let pixels = strip.rows * width;
        let first = (strip.image * self.plan.groups * self.plan.outputs + strip.plane) * area;
        // SAFETY: each task writes its own planes.
        let y = unsafe { self.y.range(first..first + strip.planes * area) };
        let from_row = strip.row * width;
        transpose(isa, [pixels, strip.planes], (tile, strip.lanes), (&mut y[from_row..], area));
        if self.bias.is_none() && !self.relu {
            return;
        }
        isa.vectorise(|| {
            for (i, y) in y.chunks_exact_mut(area).enumerate() {
                let y = &mut y[from_row..from_row + pixels];
                let bias = self.bias.map_or(0.0, |bias| bias[strip.plane + i]);
                if self.relu {
                    y.iter_mut().for_each(|y| *y = vector::relu(*y + bias));
                } else {
                    y.iter_mut().for_each(|y| *y += bias);
                }
            }
        });
    }
}
