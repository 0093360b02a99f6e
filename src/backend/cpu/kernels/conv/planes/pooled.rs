//! The same with bias, ReLU and 2×2 max-pool, for images with few channels, forward and the gradient of the weights.
//!
//! Vectors hold windows: the padded rows are split into even and odd columns, so the four pixels of a window are four vectors with
//! the same lane, and so are their gradients, of which the winner has one and the others zero.

use std::ops::Range;

use super::super::super::elementwise::add_parts;
use super::super::super::isa::{Isa, Kernel};
use super::super::super::parallel::{flops_ns, for_each, Disjoint};
use super::super::super::scratch::{zeroed, Scratch};
use super::super::super::simd::{Simd, MAX_LANES};
use super::super::super::vector::{self, CLIPPED};
use super::super::correlation::Correlation;
use super::super::grad_weight::CHUNKS;
use super::super::Conv2d;
use super::{split_columns, TAPS};

/// Pixels of a window.
const PIXELS: usize = 4;

/// The padded rows of one image, `[channel][row][even, odd][half]`.
struct Phases {
    padded: Scratch<f32>,
    values: Scratch<f32>,
    half: usize,
}

impl Phases {
    fn new(plan: &Correlation) -> Self {
        let half = plan.padded[1].div_ceil(2) + MAX_LANES;
        let values = zeroed(plan.channels * plan.padded[0] * 2 * half);
        Phases { padded: zeroed(plan.padded_len()), values, half }
    }

    fn fill(&mut self, isa: Isa, plan: &Correlation, image: &[f32]) {
        plan.place(isa, image, &mut self.padded);
        let rows = self.padded.chunks_exact(plan.padded[1]);
        for (row, phases) in rows.zip(self.values.chunks_exact_mut(2 * self.half)) {
            split_columns(row, phases);
        }
    }

    /// The first even column of window `x` of a row of windows.
    ///
    /// # Safety
    /// There is such a window.
    #[inline(always)]
    unsafe fn window(&self, plan: &Correlation, channel: usize, row: usize, x: usize) -> *const f32 {
        self.values.as_ptr().add((channel * plan.padded[0] + 2 * row) * 2 * self.half + x)
    }
}

/// Calls `visit(pixel of the window, filter element, pixels of the input)` for all 36 products of a vector of windows.
macro_rules! for_each_product {
    ($S:ident, $from:expr, $half:expr, |$pixel:ident, $tap:ident, $input:ident| $body:expr) => {
        for i in 0..4 {
            for j in 0..4 {
                let $input = $S::load($from.add((2 * i + j % 2) * $half + j / 2));
                for $pixel in 0..PIXELS {
                    let (down, right) = ($pixel / 2, $pixel % 2);
                    if (down..down + 3).contains(&i) && (right..right + 3).contains(&j) {
                        let $tap = 3 * (i - down) + j - right;
                        $body
                    }
                }
            }
        }
    };
}

/// `relu`, bias and pool as one; `winner`, if wanted, as in `pooled`.
pub(in super::super) fn forward_relu_pool(
    isa: Isa,
    conv: &Conv2d,
    x: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    winner: Option<&mut [u8]>,
) {
    let plan = Correlation::forward(conv);
    let image_len = conv.pooled_len() / conv.n;
    let y = Disjoint::new(y);
    let winner = winner.map(Disjoint::new);
    for_each(conv.n, flops_ns(2 * plan.flops()), |image| {
        let mut phases = Phases::new(&plan);
        phases.fill(isa, &plan, &x[plan.planes(image, 0)]);
        let (plan, phases) = (&plan, &phases);
        let range = image * image_len..(image + 1) * image_len;
        // SAFETY: each task has its own image.
        let y = unsafe { y.range(range.clone()) };
        match &winner {
            None => isa.run(PoolWindows::<false> { plan, phases, weights, bias, y, winner: &mut [] }),
            Some(winner) => {
                // SAFETY: as above.
                let winner = unsafe { winner.range(range) };
                isa.run(PoolWindows::<true> { plan, phases, weights, bias, y, winner });
            }
        }
    });
}

/// One image.
struct PoolWindows<'a, const WINNERS: bool> {
    plan: &'a Correlation,
    phases: &'a Phases,
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    y: &'a mut [f32],
    winner: &'a mut [u8],
}

impl<const WINNERS: bool> Kernel for PoolWindows<'_, WINNERS> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [rows, columns] = self.plan.out.map(|size| size / 2);
        for output in 0..self.plan.outputs {
            let bias = S::splat(self.bias.map_or(0.0, |bias| bias[output]));
            let taps = self.weights.as_ptr().add(output * self.plan.depth());
            for row in 0..rows {
                for x in (0..columns).step_by(S::LANES) {
                    let mut sums = [bias; PIXELS];
                    for channel in 0..self.plan.channels {
                        let from = self.phases.window(self.plan, channel, row, x);
                        let taps = taps.add(channel * TAPS);
                        for_each_product!(S, from, self.phases.half, |pixel, tap, input| {
                            sums[pixel] = S::fma(S::splat(*taps.add(tap)), input, sums[pixel]);
                        });
                    }
                    let (best, place) = vector::best_of_window::<S, WINNERS>(sums);
                    let (at, count) = ((output * rows + row) * columns + x, S::LANES.min(columns - x));
                    S::store_first(self.y.as_mut_ptr().add(at), best, count);
                    if WINNERS {
                        S::store_first_bytes(self.winner.as_mut_ptr().add(at), place, count);
                    }
                }
            }
        }
    }
}

/// `dw` and `db` from the gradient of the pooled output and its winners. The batch is cut into a fixed number of chunks, which are
/// added in order.
pub(in super::super) fn pooled_grad_weight(
    isa: Isa,
    conv: &Conv2d,
    x: &[f32],
    dy: &[f32],
    winner: &[u8],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    let plan = Correlation::forward(conv);
    let (chunks, lanes) = (CHUNKS.min(conv.n), isa.lanes());
    // Partial sums, [chunk]([output][depth][lanes], [output][lanes]): the weights' gradients, then the bias'.
    let weights_len = dw.len() * lanes;
    let part_len = weights_len + conv.c_out * lanes;
    let mut parts = zeroed(chunks * part_len);
    let sums = Disjoint::new(&mut parts);
    for_each(chunks, flops_ns(2 * plan.flops()), |chunk| {
        // SAFETY: each task has its own chunk.
        let part = unsafe { sums.range(chunk * part_len..(chunk + 1) * part_len) };
        let (sums, bias_sums) = part.split_at_mut(weights_len);
        let images = conv.n * chunk / chunks..conv.n * (chunk + 1) / chunks;
        isa.run(AddWindowProducts { isa, plan: &plan, images, x, dy, winner, sums, bias_sums });
    });
    add_parts(isa, &mut parts, part_len);
    let total = |sums: &[f32]| vector::sum(isa, sums);
    let (weights, bias) = parts[..part_len].split_at(weights_len);
    dw.iter_mut().zip(weights.chunks_exact(lanes)).for_each(|(dw, sums)| *dw = total(sums));
    if let Some(db) = db {
        db.iter_mut().zip(bias.chunks_exact(lanes)).for_each(|(db, sums)| *db = total(sums));
    }
}

/// Adds `Σ dy·x` of some images to `sums` and `Σ dy` to `bias_sums`, lane by lane.
struct AddWindowProducts<'a> {
    isa: Isa,
    plan: &'a Correlation,
    images: Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    winner: &'a [u8],
    sums: &'a mut [f32],
    bias_sums: &'a mut [f32],
}

impl Kernel for AddWindowProducts<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let mut phases = Phases::new(self.plan);
        for image in self.images.clone() {
            phases.fill(self.isa, self.plan, &self.x[self.plan.planes(image, 0)]);
            for output in 0..self.plan.outputs {
                for channel in 0..self.plan.channels {
                    self.add::<S>(&phases, image, output, channel);
                }
            }
        }
    }
}

impl AddWindowProducts<'_> {
    #[inline(always)]
    unsafe fn add<S: Simd>(&mut self, phases: &Phases, image: usize, output: usize, channel: usize) {
        let [rows, columns] = self.plan.out.map(|size| size / 2);
        let to = self.sums.as_mut_ptr().add((output * self.plan.depth() + channel * TAPS) * S::LANES);
        let mut sums: [S::V; TAPS] = std::array::from_fn(|tap| S::load(to.add(tap * S::LANES)));
        let mut total = S::zero();
        for row in 0..rows {
            for x in (0..columns).step_by(S::LANES) {
                let at = ((image * self.plan.outputs + output) * rows + row) * columns + x;
                let count = S::LANES.min(columns - x);
                let dy = S::load_first(self.dy.as_ptr().add(at), count, 0.0);
                let winner = S::load_first_bytes(self.winner.as_ptr().add(at), count, CLIPPED);
                let of_pixel: [S::V; PIXELS] =
                    std::array::from_fn(|pixel| S::if_equal(winner, S::splat(pixel as f32), dy, S::zero()));
                total = of_pixel.iter().fold(total, |total, &dy| S::add(total, dy));
                let from = phases.window(self.plan, channel, row, x);
                for_each_product!(S, from, phases.half, |pixel, tap, input| {
                    sums[tap] = S::fma(of_pixel[pixel], input, sums[tap]);
                });
            }
        }
        for (tap, &sum) in sums.iter().enumerate() {
            S::store(to.add(tap * S::LANES), sum);
        }
        if channel == 0 {
            let to = self.bias_sums.as_mut_ptr().add(output * S::LANES);
            S::store(to, S::add(S::load(to), total));
        }
    }
}
