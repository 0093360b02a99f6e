//! `dx` of a pooled 3×3 convolution: every winner adds its gradient times the filter to the nine pixels under it.
//!
//! For one output channel and a block of input channels the filter is 9 × 1 or 9 × 2 vectors and stays in registers; each
//! step is a load, a multiply-add and a store to the image in L1. The store port is the limit: one multiply-add a cycle,
//! for about a fifth of the dense arithmetic.

use super::super::isa::{Isa, Kernel};
use super::super::parallel::{elements_ns, flops_ns, for_each, Disjoint};
use super::super::scratch::{take, zeroed};
use super::super::simd::Simd;
use super::sparse::{vectors, Addressing, Blocked, Winners, TAPS};
use super::Conv2d;

pub(super) fn grad_input(isa: Isa, conv: &Conv2d, dy: &[f32], winner: &[u8], weights: &[f32], dx: &mut [f32]) {
    let lanes = isa.run(Lanes(conv.c_in));
    let layout = Blocked { channels: conv.c_in, lanes, padded: conv.padded(), images: 1 };
    let filters = blocked_filters(conv, weights, &layout);
    let address =
        Addressing { output_step: [conv.stride[0] * layout.padded[1] * lanes, conv.stride[1] * lanes], image_step: 0 };
    let image_len = conv.c_in * conv.h * conv.w;
    let dx = Disjoint::new(dx);
    for_each(conv.n, flops_ns(conv.flops() / 4), |image| {
        let winners = Winners::list(conv, dy, winner, image..image + 1, address);
        let mut blocked = zeroed(layout.blocks() * layout.block_len());
        isa.run(Scatter { conv, layout, winners: &winners, filters: &filters, blocked: &mut blocked });
        // SAFETY: each task has its own image.
        let dx = unsafe { dx.range(image * image_len..(image + 1) * image_len) };
        layout.extract(isa, conv, &blocked, dx);
    });
}

/// Lanes of a block of channels.
pub(super) struct Lanes(pub usize);

impl Kernel for Lanes {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        vectors::<S>(self.0) * S::LANES
    }
}

/// Weights as `[block][c_out][tap][lanes]`.
fn blocked_filters(conv: &Conv2d, weights: &[f32], layout: &Blocked) -> super::super::scratch::Scratch<f32> {
    let lanes = layout.lanes;
    let filter_len = TAPS * lanes;
    let mut filters = take(layout.blocks() * conv.c_out * filter_len);
    let work = elements_ns(4 * filters.len());
    let parts = Disjoint::new(&mut filters);
    for_each(layout.blocks() * conv.c_out, work, |task| {
        let (block, output) = (task / conv.c_out, task % conv.c_out);
        let channels = layout.channels_of(block);
        // SAFETY: each task has its own filter.
        let to = unsafe { parts.range(task * filter_len..(task + 1) * filter_len) };
        to.fill(0.0);
        let from = &weights[(output * conv.c_in + channels.start) * TAPS..][..channels.len() * TAPS];
        for (lane, taps) in from.chunks_exact(TAPS).enumerate() {
            taps.iter().enumerate().for_each(|(tap, &weight)| to[tap * lanes + lane] = weight);
        }
    });
    filters
}

/// Adds one image's winners to its blocked planes.
struct Scatter<'a> {
    conv: &'a Conv2d,
    layout: Blocked,
    winners: &'a Winners,
    filters: &'a [f32],
    blocked: &'a mut [f32],
}

impl Kernel for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let taps = self.layout.taps(self.conv);
        let filter_len = TAPS * self.layout.lanes;
        for block in 0..self.layout.blocks() {
            let planes = self.blocked.as_mut_ptr().add(block * self.layout.block_len());
            for output in 0..self.conv.c_out {
                let filter = self.filters.as_ptr().add((block * self.conv.c_out + output) * filter_len);
                if self.layout.lanes == S::LANES {
                    scatter::<S, 1>(planes, taps, self.winners.of(output), filter);
                } else {
                    scatter::<S, 2>(planes, taps, self.winners.of(output), filter);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn scatter<S: Simd, const NV: usize>(
    planes: *mut f32,
    taps: [usize; TAPS],
    (offsets, gradients): (&[usize], &[f32]),
    filter: *const f32,
) {
    let mut weights = [[S::zero(); NV]; TAPS];
    for (tap, weights) in weights.iter_mut().enumerate() {
        for (v, weight) in weights.iter_mut().enumerate() {
            *weight = S::load(filter.add((tap * NV + v) * S::LANES));
        }
    }
    for (&offset, &gradient) in offsets.iter().zip(gradients) {
        let gradient = S::splat(gradient);
        for tap in 0..TAPS {
            let pixel = planes.add(offset + taps[tap]);
            for v in 0..NV {
                let at = pixel.add(v * S::LANES);
                S::store(at, S::fma(gradient, weights[tap][v], S::load(at)));
            }
        }
    }
}
