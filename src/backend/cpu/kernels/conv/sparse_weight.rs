//! `dw` and `db` of a pooled 3×3 convolution: every winner adds its gradient times the nine pixels under it.
//!
//! For one output channel and a block of input channels the sums are 9 × 1 or 9 × 2 vectors in registers, fed by one load
//! each: full multiply-add rate for about a fifth of the dense arithmetic. With up to four input channels (images) a block
//! of channels would be mostly empty; the pixels under the filter are then copied out as one row of `9·c_in` lanes.
//! The batch is cut into a fixed number of chunks, each summed on its own, and the chunks are added in order.

use std::ops::Range;

use super::super::elementwise::add_parts;
use super::super::isa::{Isa, Kernel};
use super::super::parallel::{elements_ns, flops_ns, for_each, Disjoint};
use super::super::scratch::{take, zeroed};
use super::super::simd::Simd;
use super::super::vector;
use super::blocked::{Blocked, Placement};
use super::correlation::Correlation;
use super::grad_weight::CHUNKS;
use super::sparse::{Addressing, Winners, TAPS};
use super::sparse_input::Lanes;
use super::Conv2d;

/// Images go through together while one block of their channels stays in L1, in elements.
const TOGETHER: usize = 10 << 10;
/// Input channels up to which pixels under the filter become rows.
const FEW_CHANNELS: usize = 4;
/// Independent sums of the row kernel, to hide the latency of the multiply-add.
const CHAINS: usize = 4;

pub(super) fn grad_weight(
    isa: Isa,
    conv: &Conv2d,
    x: &[f32],
    dy: &[f32],
    winner: &[u8],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    let few = conv.c_in <= FEW_CHANNELS;
    let lanes = if few { (conv.c_in * TAPS).next_multiple_of(isa.lanes()) } else { isa.run(Lanes(conv.c_in)) };
    let filter_len = if few { lanes } else { TAPS * lanes };
    let blocks = if few { 1 } else { conv.c_in.div_ceil(lanes) };
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
        let chunk = Chunk { isa, conv, x, dy, winner, lanes, weights, bias };
        if few {
            chunk.add_rows(images);
        } else {
            chunk.add_planes(images);
        }
    });
    add_parts(isa, &mut parts, part_len);

    let work = elements_ns(4 * weights_len);
    let dw = Disjoint::new(dw);
    for_each(conv.c_out, work, |output| {
        let depth = conv.c_in * TAPS;
        // SAFETY: each task has its own filter.
        let dw = unsafe { dw.range(output * depth..(output + 1) * depth) };
        if few {
            dw.copy_from_slice(&parts[output * lanes..][..depth]);
            return;
        }
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

    /// Many channels: planes with the channels last, nine neighbours a winner.
    fn add_planes(mut self, images: Range<usize>) {
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

    /// Few channels: the pixels under the filter as one row of `9·c_in` lanes per output pixel.
    fn add_rows(mut self, images: Range<usize>) {
        let (conv, lanes) = (self.conv, self.lanes);
        let plan = Correlation::forward(conv);
        let (steps, pixels) = (plan.steps(), plan.pixels(plan.out[0], plan.out[1]));
        let address = Addressing { output_step: [plan.out[1] * lanes, lanes], image_step: 0 };
        let mut padded = zeroed(plan.padded_len());
        let mut rows = take::<f32>(pixels.len() * lanes);
        rows.fill(0.0);
        for image in images {
            plan.place(self.image(image), &mut padded);
            for (row, &pixel) in rows.chunks_exact_mut(lanes).zip(pixels.iter()) {
                row.iter_mut().zip(steps.iter()).for_each(|(to, &step)| *to = padded[pixel + step]);
            }
            let winners = Winners::list(conv, self.dy, self.winner, image..image + 1, address);
            self.add_bias(&winners);
            self.isa.run(GatherRows { lanes, winners: &winners, rows: &rows, sums: self.weights });
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

struct GatherRows<'a> {
    lanes: usize,
    winners: &'a Winners,
    rows: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for GatherRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (output, sums) in self.sums.chunks_exact_mut(self.lanes).enumerate() {
            let (offsets, gradients) = self.winners.of(output);
            for lane in (0..self.lanes).step_by(S::LANES) {
                let rows = self.rows.as_ptr().add(lane);
                let mut acc = [S::zero(); CHAINS];
                let (mut offsets, mut gradients) = (offsets.chunks_exact(CHAINS), gradients.chunks_exact(CHAINS));
                for (offsets, gradients) in (&mut offsets).zip(&mut gradients) {
                    for i in 0..CHAINS {
                        acc[i] = S::fma(S::splat(gradients[i]), S::load(rows.add(offsets[i])), acc[i]);
                    }
                }
                for (&offset, &gradient) in offsets.remainder().iter().zip(gradients.remainder()) {
                    acc[0] = S::fma(S::splat(gradient), S::load(rows.add(offset)), acc[0]);
                }
                let at = sums.as_mut_ptr().add(lane);
                let acc = S::add(S::add(acc[0], acc[1]), S::add(acc[2], acc[3]));
                S::store(at, S::add(S::load(at), acc));
            }
        }
    }
}
