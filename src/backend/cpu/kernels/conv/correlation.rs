//! What forward and input gradient have in common: images placed in zero-padded planes, correlated with packed filters.
//!
//! The input gradient of a convolution is itself a correlation: of the output gradient, spread out by the stride and
//! padded by the reach of the filter, with the filter turned by 180° and its channels exchanged.

use std::ops::Range;

use super::super::isa::{Isa, Kernel};
use super::super::parallel::{elements_ns, for_each, Disjoint};
use super::super::scratch::{take, Scratch};
use super::super::simd::Simd;
use super::super::tile::panel_lanes;
use super::super::transpose::transpose;
use super::{winograd, Conv2d};

/// A correlation of `images × groups` independent stacks of planes.
pub(super) struct Correlation {
    pub images: usize,
    pub groups: usize,
    /// Planes read, per group.
    pub channels: usize,
    /// Planes written, per group.
    pub outputs: usize,
    /// Height and width of a stored plane.
    pub source: [usize; 2],
    /// Where the stored plane starts in the padded one; negative where its border is never read.
    pub offset: [isize; 2],
    /// Distance of stored pixels in the padded plane.
    pub spread: [usize; 2],
    /// Height and width of a padded plane.
    pub padded: [usize; 2],
    pub kernel: [usize; 2],
    pub dilation: [usize; 2],
    pub stride: [usize; 2],
    /// Height and width of a plane written.
    pub out: [usize; 2],
}

impl Correlation {
    /// The forward pass.
    pub fn forward(conv: &Conv2d) -> Self {
        Correlation {
            images: conv.n,
            groups: conv.groups,
            channels: conv.group_in(),
            outputs: conv.group_out(),
            source: [conv.h, conv.w],
            offset: conv.padding.map(|p| p as isize),
            spread: [1, 1],
            padded: conv.padded(),
            kernel: [conv.kh, conv.kw],
            dilation: conv.dilation,
            stride: conv.stride,
            out: [conv.out_h(), conv.out_w()],
        }
    }

    /// The gradient with respect to the input.
    pub fn adjoint(conv: &Conv2d) -> Self {
        let reach = [conv.dilation[0] * (conv.kh - 1), conv.dilation[1] * (conv.kw - 1)];
        Correlation {
            images: conv.n,
            groups: conv.groups,
            channels: conv.group_out(),
            outputs: conv.group_in(),
            source: [conv.out_h(), conv.out_w()],
            offset: std::array::from_fn(|i| reach[i] as isize - conv.padding[i] as isize),
            spread: conv.stride,
            padded: [conv.h + reach[0], conv.w + reach[1]],
            kernel: [conv.kh, conv.kw],
            dilation: conv.dilation,
            stride: [1, 1],
            out: [conv.h, conv.w],
        }
    }

    /// Length of the sums.
    pub fn depth(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    pub fn flops(&self) -> usize {
        2 * self.images * self.groups * self.outputs * self.depth() * self.out[0] * self.out[1]
    }

    /// Offsets of the filter's elements, in the order of the weights, from the top left pixel under the filter.
    pub fn steps(&self) -> Scratch<usize> {
        let mut steps = take(self.depth());
        let [height, width] = self.padded;
        let taps = self.kernel[0] * self.kernel[1];
        for (i, step) in steps.iter_mut().enumerate() {
            let (channel, tap) = (i / taps, i % taps);
            let (y, x) = (tap / self.kernel[1] * self.dilation[0], tap % self.kernel[1] * self.dilation[1]);
            *step = (channel * height + y) * width + x;
        }
        steps
    }

    /// Offsets of the top left pixels under the filter for `rows × columns` outputs.
    pub fn pixels(&self, rows: usize, columns: usize) -> Scratch<usize> {
        let mut pixels = take(rows * columns);
        for (row, pixels) in pixels.chunks_exact_mut(columns.max(1)).enumerate() {
            for (column, pixel) in pixels.iter_mut().enumerate() {
                *pixel = row * self.row_step() + column * self.stride[1];
            }
        }
        pixels
    }

    /// Distance in the padded plane of vertically adjacent outputs.
    pub fn row_step(&self) -> usize {
        self.stride[0] * self.padded[1]
    }

    /// The planes of one group of one image in the stored tensor.
    pub fn planes(&self, image: usize, group: usize) -> Range<usize> {
        let len = self.channels * self.source[0] * self.source[1];
        let start = (image * self.groups + group) * len;
        start..start + len
    }

    /// Length of one group's padded planes.
    pub fn padded_len(&self) -> usize {
        self.channels * self.padded[0] * self.padded[1]
    }

    /// Places stored planes in zeroed padded ones. Call it on a zeroed buffer, or on one that it has filled before.
    pub fn place(&self, isa: Isa, stored: &[f32], padded: &mut [f32]) {
        let (rows, columns) = (self.inside(0), self.inside(1));
        if !rows.is_empty() && !columns.is_empty() {
            isa.run(Place { plan: self, rows, columns, stored, padded });
        }
    }

    /// Where a stored row or column lies in the padded plane.
    fn position(&self, axis: usize, i: usize) -> isize {
        self.offset[axis] + (i * self.spread[axis]) as isize
    }

    /// The stored rows or columns that land inside the padded plane.
    fn inside(&self, axis: usize) -> Range<usize> {
        let size = self.source[axis];
        let end = self.padded[axis] as isize;
        let first = (0..size).find(|&i| self.position(axis, i) >= 0).unwrap_or(size);
        first..(first..size).find(|&i| self.position(axis, i) >= end).unwrap_or(size)
    }
}

/// Copies the stored rows and columns that land inside.
struct Place<'a> {
    plan: &'a Correlation,
    rows: Range<usize>,
    columns: Range<usize>,
    stored: &'a [f32],
    padded: &'a mut [f32],
}

impl Kernel for Place<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let plan = self.plan;
        let ([height, width], [tall, wide]) = (plan.source, plan.padded);
        let left = plan.position(1, self.columns.start) as usize;
        let planes = self.stored.chunks_exact(height * width).zip(self.padded.chunks_exact_mut(tall * wide));
        for (stored, padded) in planes {
            for y in self.rows.clone() {
                let row = &stored[y * width..][self.columns.clone()];
                let to = &mut padded[plan.position(0, y) as usize * wide + left..];
                if plan.spread[1] > 1 {
                    to.iter_mut().step_by(plan.spread[1]).zip(row).for_each(|(to, &from)| *to = from);
                    continue;
                }
                // Rows of small images are shorter than a call to copy them takes.
                let to = &mut to[..row.len()];
                for x in (0..row.len()).step_by(S::LANES) {
                    let count = S::LANES.min(row.len() - x);
                    S::store_first(to.as_mut_ptr().add(x), S::load_first(row.as_ptr().add(x), count, 0.0), count);
                }
            }
        }
    }
}

/// Filters packed into panels `[group][block][depth][lanes]`, zero beyond the last output; `depth` counts filter elements, or
/// components × channels once they are transformed for minimal filtering.
pub(super) struct Filters {
    pub lanes: usize,
    /// Panels per group.
    pub blocks: usize,
    pub depth: usize,
    /// Minimal filtering of this size, if the filters are transformed for it.
    pub size: Option<winograd::Size>,
    pub packed: Scratch<f32>,
}

impl Filters {
    /// Filters of the forward pass from weights `[groups·outputs, depth]`.
    pub fn forward(isa: Isa, plan: &Correlation, weights: &[f32]) -> Self {
        let depth = plan.depth();
        Filters::pack(isa, plan, |group, outputs, lanes, panel| {
            let from = &weights[(group * plan.outputs + outputs.start) * depth..];
            transpose(isa, [outputs.len(), depth], (from, depth), (panel, lanes));
        })
    }

    /// Filters of the input gradient from weights `[groups·channels, outputs, taps]`: turned, channels exchanged.
    pub fn adjoint(isa: Isa, plan: &Correlation, weights: &[f32]) -> Self {
        let taps = plan.kernel[0] * plan.kernel[1];
        Filters::pack(isa, plan, |group, outputs, lanes, panel| {
            for channel in 0..plan.channels {
                let filter = &weights[((group * plan.channels + channel) * plan.outputs + outputs.start) * taps..];
                let panel = &mut panel[channel * taps * lanes..][..taps * lanes];
                transpose(isa, [outputs.len(), taps], (filter, taps), (panel, lanes));
                let (mut front, mut back) = (0, taps - 1);
                while front < back {
                    let (head, tail) = panel.split_at_mut(back * lanes);
                    head[front * lanes..][..lanes].swap_with_slice(&mut tail[..lanes]);
                    (front, back) = (front + 1, back - 1);
                }
            }
        })
    }

    fn pack(isa: Isa, plan: &Correlation, fill: impl Fn(usize, Range<usize>, usize, &mut [f32]) + Sync) -> Self {
        let lanes = panel_lanes(isa, plan.outputs);
        let (blocks, depth) = (plan.outputs.div_ceil(lanes), plan.depth());
        let mut packed = take::<f32>(plan.groups * blocks * depth * lanes);
        let work = elements_ns(4 * packed.len());
        let panels = Disjoint::new(&mut packed);
        for_each(plan.groups * blocks, work, |task| {
            let (group, block) = (task / blocks, task % blocks);
            // SAFETY: each task has its own panel.
            let panel = unsafe { panels.range(task * depth * lanes..(task + 1) * depth * lanes) };
            let outputs = block * lanes..plan.outputs.min((block + 1) * lanes);
            if outputs.len() < lanes {
                panel.fill(0.0);
            }
            fill(group, outputs, lanes, panel);
        });
        Filters { lanes, blocks, depth, size: None, packed }
    }

    pub fn panel(&self, group: usize, block: usize) -> &[f32] {
        &self.packed[(group * self.blocks + block) * self.depth * self.lanes..][..self.depth * self.lanes]
    }
}
