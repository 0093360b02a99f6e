//! `dx` of a convolution with a stride: pixels of one phase (row and column modulo the stride) are reached by the same filter
//! elements only, so each phase is a plain correlation with a part of the filter. Spreading `dy` out by the stride instead would
//! multiply by zeros, three times in four for a stride of 2.

use super::super::isa::Isa;
use super::super::parallel::Disjoint;
use super::super::scratch::take;
use super::super::transpose::transpose;
use super::correlation::{Correlation, Filters};
use super::forward::{correlate, Sink, Strip};
use super::{winograd, Conv2d};

pub(super) fn suits(conv: &Conv2d) -> bool {
    conv.stride != [1, 1] && conv.dilation == [1, 1]
}

pub(super) fn grad_input(isa: Isa, conv: &Conv2d, dy: &[f32], weights: &[f32], dx: &mut [f32]) {
    // Phases that no filter element reaches.
    dx.fill(0.0);
    let dx = Disjoint::new(dx);
    for down in 0..conv.stride[0] {
        for right in 0..conv.stride[1] {
            let axes = [Phase::new(conv, 0, down), Phase::new(conv, 1, right)];
            if axes.iter().all(|axis| axis.taps > 0 && axis.pixels > 0) {
                grad_phase(isa, conv, axes, dy, weights, &dx);
            }
        }
    }
}

/// One axis of a phase.
#[derive(Clone, Copy)]
struct Phase {
    /// The first filter element; the others follow at the stride.
    tap: usize,
    taps: usize,
    /// The first pixel; the others follow at the stride.
    pixel: usize,
    pixels: usize,
    /// The output that the first filter element takes to the first pixel.
    output: usize,
}

impl Phase {
    fn new(conv: &Conv2d, axis: usize, tap: usize) -> Self {
        let (stride, padding) = (conv.stride[axis], conv.padding[axis]);
        let (size, kernel) = ([conv.h, conv.w][axis], [conv.kh, conv.kw][axis]);
        let pixel = (stride + tap - padding % stride) % stride;
        let count = |size: usize, first: usize| size.saturating_sub(first).div_ceil(stride);
        let output = (pixel + padding).saturating_sub(tap) / stride;
        Phase { tap, taps: count(kernel, tap), pixel, pixels: count(size, pixel), output }
    }
}

fn grad_phase(isa: Isa, conv: &Conv2d, axes: [Phase; 2], dy: &[f32], weights: &[f32], dx: &Disjoint<f32>) {
    let plan = Correlation {
        images: conv.n,
        groups: conv.groups,
        channels: conv.group_out(),
        outputs: conv.group_in(),
        source: [conv.out_h(), conv.out_w()],
        offset: axes.map(|axis| axis.taps as isize - 1 - axis.output as isize),
        spread: [1, 1],
        padded: axes.map(|axis| axis.pixels + axis.taps - 1),
        kernel: axes.map(|axis| axis.taps),
        dilation: [1, 1],
        stride: [1, 1],
        out: axes.map(|axis| axis.pixels),
    };
    let taps = plan.kernel[0] * plan.kernel[1];
    let mut part = take::<f32>(conv.c_out * conv.group_in() * taps);
    for (filter, part) in weights.chunks_exact(conv.taps()).zip(part.chunks_exact_mut(taps)) {
        for (i, to) in part.iter_mut().enumerate() {
            let row = axes[0].tap + i / axes[1].taps * conv.stride[0];
            *to = filter[row * conv.kw + axes[1].tap + i % axes[1].taps * conv.stride[1]];
        }
    }
    let size = winograd::size(&plan, plan.out);
    let filters = winograd::transform(isa, &plan, size, Filters::adjoint(isa, &plan, &part));
    correlate(isa, &plan, dy, &filters, &Pixels { plan: &plan, conv, axes, dx });
}

/// Writes the pixels of a phase.
struct Pixels<'a> {
    plan: &'a Correlation,
    conv: &'a Conv2d,
    axes: [Phase; 2],
    dx: &'a Disjoint<'a, f32>,
}

impl Sink for Pixels<'_> {
    fn wanted(&self) -> ([usize; 2], usize) {
        (self.plan.out, 1)
    }

    fn store(&self, isa: Isa, strip: Strip, tile: &[f32]) {
        let &Conv2d { w, stride, .. } = self.conv;
        let (area, width) = (self.conv.h * w, self.plan.out[1]);
        let first = (strip.image * self.conv.c_in + strip.plane) * area;
        // SAFETY: each task writes its own planes, and phases are computed one after the other.
        let dx = unsafe { self.dx.range(first..first + strip.planes * area) };
        let pixels = strip.rows * width;
        let mut planes = take::<f32>(strip.planes * pixels);
        transpose(isa, [pixels, strip.planes], (tile, strip.lanes), (&mut planes, pixels));
        for (dx, plane) in dx.chunks_exact_mut(area).zip(planes.chunks_exact(pixels)) {
            for (i, row) in plane.chunks_exact(width).enumerate() {
                let y = self.axes[0].pixel + (strip.row + i) * stride[0];
                let to = dx[y * w + self.axes[1].pixel..(y + 1) * w].iter_mut().step_by(stride[1]);
                to.zip(row).for_each(|(to, &from)| *to = from);
            }
        }
    }
}
