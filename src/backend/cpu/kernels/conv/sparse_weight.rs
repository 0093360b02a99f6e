//! `dw` and `db` of a pooled 3×3 convolution: every winner adds its gradient times the nine pixels under it.
//!
//! For one output channel and a block of input channels the sums are 9 × 1 or 9 × 2 vectors in registers, fed by one load
//! each: full multiply-add rate for about a fifth of the dense arithmetic. The batch is cut into a fixed number of chunks, each summed on its own, and the chunks are added in order.

use std::ops::Range;

use super::super::elementwise::add_parts;
use super::super::isa::{Isa, Kernel};
use super::super::parallel::{elements_ns, flops_ns, for_each, Disjoint};
use super::super::scratch::zeroed;
use super::super::simd::Simd;
use super::super::vector;
use super::blocked::{Blocked, Placement};
use super::grad_weight::CHUNKS;
use super::sparse::{Addressing, Winners, TAPS};
use super::sparse_input::Lanes;
use super::Conv2d;

/// Images go through together while one block of their channels stays in L1, in elements.
const TOGETHER: usize = 10 << 10;

pub(super) fn grad_weight(
    isa: Isa,
    conv: &Conv2d,
    x: &[f32],
    dy: &[f32],
    winner: &[u8],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    let lanes = isa.run(Lanes(conv.c_in));
    let filter_len = TAPS * lanes;
    let blocks = conv.c_in.div_ceil(lanes);
    // Partial sums, [chunk]([block][c_out][filter], [c_out]): the weights' gradients, then the bias'.
    let weights_len = blocks * conv.c_out * filter_len;
    let part_len = weights_len + conv.c_out;
    let chunks = CHUNKS.min(conv.n);
    let mut parts = zeroed(chunks * part_len);
    let sums = Disjoint::new(&mut parts);
    for_each(chunks, flops_ns(conv.flops() / 4), |chunk| {
        let images = conv.n * chunk / chunks..conv.n * (chunk + 1) / chunks;
        // SAFETY: each task has its own chunk.
        let part = unsafe { sums.range(chunk * part_len..(chunk + 1) * part_len) };
        let (weights, bias) = part.split_at_mut(weights_len);
        Chunk { isa, conv, x, dy, winner, lanes, weights, bias }.add(images);
    });
    add_parts(isa, &mut parts, part_len);

    let work = elements_ns(4 * weights_len);
    let dw = Disjoint::new(dw);
    for_each(conv.c_out, work, |output| {
        let depth = conv.c_in * TAPS;
        // SAFETY: each task has its own filter.
        let dw = unsafe { dw.range(output * depth..(output + 1) * depth) };
        for (channel, dw) in dw.chunks_exact_mut(TAPS).enumerate() {
            let (block, lane) = (channel / lanes, channel % lanes);
            let filter = &parts[(block * conv.c_out + output) * filter_len..][..filter_len];
            dw.iter_mut().enumerate().for_each(|(tap, dw)| *dw = filter[tap * lanes + lane]);
        }
    });
    if let Some(db) = db {
        db.copy_from_slice(&parts[weights_len..part_len]);
    }
}

/// One chunk of the batch and its partial sums.
struct Chunk<'a> {
    isa: Isa,
    conv: &'a Conv2d,
    x: &'a [f32],
    dy: &'a [f32],
    winner: &'a [u8],
    lanes: usize,
    weights: &'a mut [f32],
    bias: &'a mut [f32],
}

impl Chunk<'_> {
    fn image(&self, image: usize) -> &[f32] {
        let len = self.conv.c_in * self.conv.h * self.conv.w;
        &self.x[image * len..(image + 1) * len]
    }

    fn add_bias(&mut self, winners: &Winners) {
        for (output, bias) in self.bias.iter_mut().enumerate() {
            *bias += vector::sum(self.isa, winners.of(output).1);
        }
    }

    /// Planes with the channels last, nine neighbours a winner.
    fn add(mut self, images: Range<usize>) {
        let (conv, lanes) = (self.conv, self.lanes);
        let padded = conv.padded();
        let together = (TOGETHER / (padded[0] * padded[1] * lanes)).clamp(1, images.len());
        let layout = Blocked { channels: conv.c_in, lanes, padded, images: together };
        let address = Addressing {
            output_step: [conv.stride[0] * padded[1] * lanes, conv.stride[1] * lanes],
            image_step: layout.image_len(),
        };
        let mut blocked = zeroed(layout.len());
        for first in images.clone().step_by(together) {
            let now = first..images.end.min(first + together);
            for image in now.clone() {
                layout.fill(self.isa, Placement::input(conv), self.image(image), image - first, &mut blocked);
            }
            let winners = Winners::list(conv, self.dy, self.winner, now, address);
            self.add_bias(&winners);
            self.isa.run(GatherPlanes { conv, layout, winners: &winners, blocked: &blocked, sums: self.weights });
        }
    }
}

struct GatherPlanes<'a> {
    conv: &'a Conv2d,
    layout: Blocked,
    winners: &'a Winners,
    blocked: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for GatherPlanes<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let tap_step = self.layout.tap_step(self.conv.dilation);
        let filter_len = TAPS * self.layout.lanes;
        for block in 0..self.layout.blocks() {
            let planes = self.blocked.as_ptr().add(block * self.layout.block_len());
            for output in 0..self.conv.c_out {
                let sums = self.sums.as_mut_ptr().add((block * self.conv.c_out + output) * filter_len);
                if self.layout.lanes == S::LANES {
                    gather::<S, 1>(planes, tap_step, self.winners.of(output), sums);
                } else {
                    gather::<S, 2>(planes, tap_step, self.winners.of(output), sums);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn gather<S: Simd, const NV: usize>(
    planes: *const f32,
    [down, right]: [usize; 2],
    (offsets, gradients): (&[usize], &[f32]),
    sums: *mut f32,
) {
    let mut acc = [[S::zero(); NV]; TAPS];
    for (&offset, &gradient) in offsets.iter().zip(gradients) {
        let gradient = S::splat(gradient);
        for tap in 0..TAPS {
            let pixel = planes.add(offset + tap / 3 * down + tap % 3 * right);
            for v in 0..NV {
                acc[tap][v] = S::fma(gradient, S::load(pixel.add(v * S::LANES)), acc[tap][v]);
            }
        }
    }
    for (tap, acc) in acc.iter().enumerate() {
        for (v, &acc) in acc.iter().enumerate() {
            let at = sums.add((tap * NV + v) * S::LANES);
            S::store(at, S::add(S::load(at), acc));
        }
    }
}
