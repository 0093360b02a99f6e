//! `dx` of a pooled 3×3 convolution: every winner adds its gradient times the filter to the nine pixels under it.
//!
//! Output channels that won at the same pixel touch the same nine input pixels, so winners are sorted into buckets by
//! pixel: 9 × 1 or 9 × 2 vectors of sums are loaded once, take a multiply-add from each channel in the bucket, and are
//! stored once. Buckets are made for a few channels at a time, whose filters (for one block of input channels) stay in L1:
//! one load a multiply-add, for about a fifth of the dense arithmetic.

use super::super::isa::{Isa, Kernel};
use super::super::parallel::{elements_ns, flops_ns, for_each, Disjoint};
use super::super::scratch::{take, zeroed, Scratch};
use super::super::simd::Simd;
use super::super::vector::CLIPPED;
use super::blocked::{Blocked, Placement};
use super::sparse::{vectors, TAPS};
use super::Conv2d;

pub(super) fn grad_input(isa: Isa, conv: &Conv2d, dy: &[f32], winner: &[u8], weights: &[f32], dx: &mut [f32]) {
    let lanes = isa.run(Lanes(conv.c_in));
    let layout = Blocked { channels: conv.c_in, lanes, padded: conv.padded(), images: 1 };
    let filters = blocked_filters(conv, weights, &layout);
    let image_len = conv.c_in * conv.h * conv.w;
    let dx = Disjoint::new(dx);
    for_each(conv.n, flops_ns(conv.flops() / 4), |image| {
        let buckets = Buckets::sort(conv, dy, winner, image);
        let mut blocked = zeroed(layout.len());
        isa.run(Scatter { conv, layout, buckets: &buckets, filters: &filters, blocked: &mut blocked });
        // SAFETY: each task has its own image.
        let dx = unsafe { dx.range(image * image_len..(image + 1) * image_len) };
        layout.extract(isa, Placement::input(conv), &blocked, dx);
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
fn blocked_filters(conv: &Conv2d, weights: &[f32], layout: &Blocked) -> Scratch<f32> {
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

/// Output channels in a bucket at most: 32 filters of 9 × 2 vectors are 36 KiB.
const BUCKET: usize = 32;
/// Pixels of a pooling window.
const PIXELS: usize = 4;

/// The winners of one image by group of `BUCKET` output channels, window, and pixel of the window.
struct Buckets {
    /// Entries in each bucket.
    counts: Scratch<usize>,
    /// Output channel of each entry, `BUCKET` places a bucket.
    channels: Scratch<u32>,
    gradients: Scratch<f32>,
}

impl Buckets {
    fn sort(conv: &Conv2d, dy: &[f32], winner: &[u8], image: usize) -> Self {
        let windows = (conv.out_h() / 2) * (conv.out_w() / 2);
        let total = conv.c_out.div_ceil(BUCKET) * windows * PIXELS;
        let mut counts = take::<usize>(total);
        counts.fill(0);
        let mut channels = take::<u32>(total * BUCKET);
        let mut gradients = take::<f32>(total * BUCKET);
        for channel in 0..conv.c_out {
            let plane = (image * conv.c_out + channel) * windows;
            let first = channel / BUCKET * windows * PIXELS;
            let both = dy[plane..plane + windows].iter().zip(&winner[plane..plane + windows]);
            for (window, (&gradient, &winner)) in both.enumerate() {
                let bucket = first + window * PIXELS + usize::from(winner % CLIPPED);
                let entry = bucket * BUCKET + counts[bucket];
                if winner < CLIPPED {
                    channels[entry] = channel as u32;
                    gradients[entry] = gradient;
                    counts[bucket] += 1;
                }
            }
        }
        Buckets { counts, channels, gradients }
    }

    fn of(&self, bucket: usize) -> (&[u32], &[f32]) {
        let range = bucket * BUCKET..bucket * BUCKET + self.counts[bucket];
        (&self.channels[range.clone()], &self.gradients[range])
    }
}

/// Adds one image's winners to its blocked planes.
struct Scatter<'a> {
    conv: &'a Conv2d,
    layout: Blocked,
    buckets: &'a Buckets,
    filters: &'a [f32],
    blocked: &'a mut [f32],
}

impl Kernel for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Conv2d { c_out, stride, .. } = *self.conv;
        let (rows, columns) = (self.conv.out_h() / 2, self.conv.out_w() / 2);
        let lanes = self.layout.lanes;
        let tap_step = self.layout.tap_step(self.conv.dilation);
        for block in 0..self.layout.blocks() {
            let planes = self.blocked.as_mut_ptr().add(block * self.layout.block_len());
            let filters = self.filters.as_ptr().add(block * c_out * TAPS * lanes);
            for bucket in 0..self.buckets.counts.len() {
                let (window, pixel) = (bucket / PIXELS % (rows * columns), bucket % PIXELS);
                let y = (2 * (window / columns) + pixel / 2) * stride[0];
                let x = (2 * (window % columns) + pixel % 2) * stride[1];
                let corner = planes.add((y * self.layout.padded[1] + x) * lanes);
                if lanes == S::LANES {
                    scatter::<S, 1>(corner, tap_step, self.buckets.of(bucket), filters);
                } else {
                    scatter::<S, 2>(corner, tap_step, self.buckets.of(bucket), filters);
                }
            }
        }
    }
}

/// Adds the filters of a bucket, times their gradients, to the nine pixels from `corner`.
#[inline(always)]
unsafe fn scatter<S: Simd, const NV: usize>(
    corner: *mut f32,
    [down, right]: [usize; 2],
    (channels, gradients): (&[u32], &[f32]),
    filters: *const f32,
) {
    if channels.is_empty() {
        return;
    }
    let mut sums = [[S::zero(); NV]; TAPS];
    for (tap, sums) in sums.iter_mut().enumerate() {
        let pixel = corner.add(tap / 3 * down + tap % 3 * right);
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = S::load(pixel.add(v * S::LANES));
        }
    }
    for (&channel, &gradient) in channels.iter().zip(gradients) {
        let filter = filters.add(channel as usize * TAPS * NV * S::LANES);
        let gradient = S::splat(gradient);
        for tap in 0..TAPS {
            for v in 0..NV {
                let weight = S::load(filter.add((tap * NV + v) * S::LANES));
                sums[tap][v] = S::fma(gradient, weight, sums[tap][v]);
            }
        }
    }
    for (tap, sums) in sums.iter().enumerate() {
        let pixel = corner.add(tap / 3 * down + tap % 3 * right);
        for (v, &sum) in sums.iter().enumerate() {
            S::store(pixel.add(v * S::LANES), sum);
        }
    }
}
