//! Convolution + bias + ReLU + 2×2 max-pool as one op, forward and backward.
//!
//! The forward pass writes only the pooled planes, and for each window which of its four pixels won (0–3, row-major, the
//! first of equals) or that ReLU clipped them all (4: no gradient, as ReLU'(0) = 0). Rows and columns that the floor of the
//! pool drops are never computed. Backward, at most one output pixel in four has a gradient: 3×3 filters use that.

use super::super::isa::{self, Isa, Kernel};
use super::super::parallel::{elements_ns, for_each, Disjoint};
use super::super::scratch::take;
use super::super::simd::Simd;
use super::super::transpose::transpose;
use super::super::vector::{self, CLIPPED};
use super::super::weights::Weights;
use super::correlation::Correlation;
use super::forward::{correlate, filters, Sink, Strip};
use super::{grad_input, grad_weight, planes, sparse, sparse_input, sparse_weight, Conv2d};

/// `y = max_pool(relu(conv(x, weights) + bias))`, with `y` and, if wanted, `winner` `[n, c_out, out_h / 2, out_w / 2]`.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn forward_relu_pool<'a>(
    conv: &Conv2d,
    x: &[f32],
    weights: impl Into<Weights<'a>>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    winner: Option<&mut [u8]>,
) {
    let weights = weights.into();
    conv.check();
    assert_eq!(x.len(), conv.x_len(), "conv2d forward_relu_pool: x of {conv:?}");
    assert_eq!(weights.values.len(), conv.w_len(), "conv2d forward_relu_pool: weights of {conv:?}");
    let winners = winner.as_ref().map_or(y.len(), |winner| winner.len());
    assert_eq!([y.len(), winners], [conv.pooled_len(); 2], "conv2d forward_relu_pool: y, winner of {conv:?}");
    assert!(bias.is_none_or(|bias| bias.len() == conv.c_out), "conv2d forward_relu_pool: bias of {conv:?}");
    if y.is_empty() {
        return;
    }
    let isa = isa::active();
    let plan = Correlation::forward(conv);
    if planes::suits_pooled(conv) {
        return planes::forward_relu_pool(isa, conv, x, weights.values, bias, y, winner);
    }
    let pool = Pool { plan: &plan, bias, y: Disjoint::new(y), winner: winner.map(Disjoint::new) };
    correlate(isa, &plan, x, &filters(isa, &plan, weights, pool.wanted().0), &pool);
}

/// `dx` from the gradient of the pooled output.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn pooled_grad_input(conv: &Conv2d, dy: &[f32], winner: &[u8], weights: &[f32], dx: &mut [f32]) {
    conv.check();
    assert_eq!([dy.len(), winner.len()], [conv.pooled_len(); 2], "conv2d pooled_grad_input: dy, winner of {conv:?}");
    assert_eq!(weights.len(), conv.w_len(), "conv2d pooled_grad_input: weights of {conv:?}");
    assert_eq!(dx.len(), conv.x_len(), "conv2d pooled_grad_input: dx of {conv:?}");
    if sparse::suits(conv) {
        return sparse_input::grad_input(isa::active(), conv, dy, winner, weights, dx);
    }
    let mut full = take::<f32>(conv.y_len());
    unpool(conv, dy, winner, &mut full);
    grad_input(conv, &full, weights, dx);
}

/// `dw` and optionally `db` from the gradient of the pooled output. Both are overwritten.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn pooled_grad_weight(conv: &Conv2d, x: &[f32], dy: &[f32], winner: &[u8], dw: &mut [f32], db: Option<&mut [f32]>) {
    conv.check();
    assert_eq!(x.len(), conv.x_len(), "conv2d pooled_grad_weight: x of {conv:?}");
    assert_eq!([dy.len(), winner.len()], [conv.pooled_len(); 2], "conv2d pooled_grad_weight: dy, winner of {conv:?}");
    assert_eq!(dw.len(), conv.w_len(), "conv2d pooled_grad_weight: dw of {conv:?}");
    assert!(db.as_ref().is_none_or(|db| db.len() == conv.c_out), "conv2d pooled_grad_weight: db of {conv:?}");
    if planes::suits_pooled(conv) {
        return planes::pooled_grad_weight(isa::active(), conv, x, dy, winner, dw, db);
    }
    if sparse::suits(conv) && conv.n > 0 {
        return sparse_weight::grad_weight(isa::active(), conv, x, dy, winner, dw, db);
    }
    let mut full = take::<f32>(conv.y_len());
    unpool(conv, dy, winner, &mut full);
    grad_weight(conv, x, &full, dw, db);
}

/// The gradient before pool and ReLU, `[n, c_out, out_h, out_w]`: `dy` at the winners, zero elsewhere.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn unpool(conv: &Conv2d, dy: &[f32], winner: &[u8], full: &mut [f32]) {
    assert_eq!([dy.len(), winner.len()], [conv.pooled_len(); 2], "conv2d unpool: dy, winner of {conv:?}");
    assert_eq!(full.len(), conv.y_len(), "conv2d unpool: full of {conv:?}");
    let (height, width) = (conv.out_h(), conv.out_w());
    let (rows, columns) = (height / 2, width / 2);
    let work = elements_ns(4 * full.len());
    let full = Disjoint::new(full);
    for_each(conv.n * conv.c_out, work, |plane| {
        // SAFETY: each task has its own plane.
        let full = unsafe { full.range(plane * height * width..(plane + 1) * height * width) };
        full.fill(0.0);
        for row in 0..rows {
            let at = (plane * rows + row) * columns;
            for (column, (&dy, &winner)) in dy[at..at + columns].iter().zip(&winner[at..]).enumerate() {
                if winner < CLIPPED {
                    let (down, right) = (usize::from(winner) / 2, usize::from(winner) % 2);
                    full[(2 * row + down) * width + 2 * column + right] = dy;
                }
            }
        }
    });
}

/// Pools strips of row pairs.
struct Pool<'a> {
    plan: &'a Correlation,
    bias: Option<&'a [f32]>,
    y: Disjoint<'a, f32>,
    winner: Option<Disjoint<'a, u8>>,
}

impl Sink for Pool<'_> {
    fn wanted(&self) -> ([usize; 2], usize) {
        (self.plan.out.map(|size| size / 2 * 2), 2)
    }

    fn store(&self, isa: Isa, strip: Strip, tile: &[f32]) {
        let [height, width] = self.plan.out.map(|size| size / 2);
        let (area, lanes) = (height * width, strip.lanes);
        let windows = strip.rows / 2 * width;
        let first = (strip.image * self.plan.groups * self.plan.outputs + strip.plane) * area;
        let planes = first..first + strip.planes * area;
        // SAFETY: each task writes its own planes.
        let y = unsafe { self.y.range(planes.clone()) };
        let from_row = strip.row / 2 * width;

        let mut bias = take::<f32>(lanes);
        bias.fill(0.0);
        if let Some(all) = self.bias {
            bias[..strip.planes].copy_from_slice(&all[strip.plane..][..strip.planes]);
        }
        let mut best = take::<f32>(windows * lanes);
        let Some(winner) = &self.winner else {
            isa.run(PoolStrip::<false> { tile, lanes, width, bias: &bias, best: &mut best, place: &mut [] });
            return transpose(isa, [windows, strip.planes], (&best, lanes), (&mut y[from_row..], area));
        };
        let mut place = take::<f32>(windows * lanes);
        isa.run(PoolStrip::<true> { tile, lanes, width, bias: &bias, best: &mut best, place: &mut place });
        transpose(isa, [windows, strip.planes], (&best, lanes), (&mut y[from_row..], area));
        let mut places = take::<f32>(strip.planes * windows);
        transpose(isa, [windows, strip.planes], (&place, lanes), (&mut places, windows));
        // SAFETY: as above.
        let winner = unsafe { winner.range(planes) };
        isa.vectorise(|| {
            for (winner, places) in winner.chunks_exact_mut(area).zip(places.chunks_exact(windows)) {
                winner[from_row..].iter_mut().zip(places).for_each(|(winner, &place)| *winner = place as u8);
            }
        });
    }
}

/// Pools `tile`, `[2·rows, 2·width, lanes]`, into the best values and, if `WINNERS`, their places, `[rows, width, lanes]`.
struct PoolStrip<'a, const WINNERS: bool> {
    tile: &'a [f32],
    lanes: usize,
    width: usize,
    bias: &'a [f32],
    best: &'a mut [f32],
    place: &'a mut [f32],
}

impl<const WINNERS: bool> Kernel for PoolStrip<'_, WINNERS> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (lanes, width) = (self.lanes, self.width);
        for window in 0..self.best.len() / lanes {
            let corner = self.tile.as_ptr().add((window / width * 4 * width + window % width * 2) * lanes);
            let pixels =
                [corner, corner.add(lanes), corner.add(2 * width * lanes), corner.add((2 * width + 1) * lanes)];
            for lane in (0..lanes).step_by(S::LANES) {
                let bias = S::load(self.bias.as_ptr().add(lane));
                let pixels = std::array::from_fn(|i| S::add(S::load(pixels[i].add(lane)), bias));
                let (best, place) = vector::best_of_window::<S, WINNERS>(pixels);
                S::store(self.best.as_mut_ptr().add(window * lanes + lane), best);
                if WINNERS {
                    S::store(self.place.as_mut_ptr().add(window * lanes + lane), place);
                }
            }
        }
    }
}
