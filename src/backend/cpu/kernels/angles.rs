//! The angles of all triplets of samples, compared between two networks without ever storing one.

use super::isa::{self, Kernel};
use super::parallel::{elements_ns, for_each, Disjoint};
use super::scratch::zeroed;
use super::simd::{for_each_vector, Simd, MAX_LANES};

/// Squared lengths up to this count as 0: a direction that does not exist has no angle.
const SHORTEST: f32 = 1e-24;

/// One network's squared distances `[n, n]`, and `1 / √` of them, 0 where there is no direction.
#[derive(Clone, Copy)]
pub struct Triangles<'a> {
    /// `[n, n]`, symmetric.
    pub squares: &'a [f32],
    /// `[n, n]`, as [`inverse_lengths`] computes them.
    pub inverse: &'a [f32],
}

/// `1 / √square`, 0 for lengths that count as 0.
pub fn inverse_lengths(squares: &[f32], inverse: &mut [f32]) {
    isa::active().vectorise(|| {
        for (inverse, &square) in inverse.iter_mut().zip(squares) {
            *inverse = if square > SHORTEST { 1.0 / square.sqrt() } else { 0.0 };
        }
    });
}

/// With `cos_ijk = ½ (d_ij + d_ik − d_jk) / √(d_ij · d_ik)` of squared distances d, H the Huber loss with bound 1:
/// `losses[j, k] = Σ_i H(cos_s − cos_t)`, and `gradients`, whose `[i, j]` and `[j, i]` together are the derivative of the sum of all
/// losses by the student's `d_ij`.
///
/// For a pair (j, t) and every m, both angles that it is a part of come from the same three distances: the one at m between j and t,
/// and the one at t between j and m.
///
/// Where two samples are much closer to each other than to the others, the gradient loses digits: its error grows with the square of the
/// ratio of the longest to the shortest distance, times the rounding of `f32`.
///
/// # Panics
/// When the lengths disagree.
pub fn angle_losses(student: Triangles, teacher: Triangles, losses: &mut [f32], gradients: &mut [f32]) {
    let n = losses.len().isqrt();
    let all = [student.squares, student.inverse, teacher.squares, teacher.inverse];
    assert!(all.iter().all(|x| x.len() == n * n) && gradients.len() == n * n, "angle_losses: [{n}, {n}] each");
    let isa = isa::active();
    let bands = n.div_ceil(BAND);
    let (losses, gradients) = (Disjoint::new(losses), Disjoint::new(gradients));
    for_each(n.div_ceil(COLUMNS) * bands, elements_ns(4 * n * n * n), |task| {
        let (panel, band) = (task / bands, task % bands);
        let columns = panel * COLUMNS..n.min((panel + 1) * COLUMNS);
        // What every row reads again, without the gaps of whole rows between; zeros beyond the last column count as no direction. The
        // halves of the cosines are taken of the inverse lengths here, which is exact.
        let mut packed = zeroed(n * all.len() * COLUMNS);
        for (m, block) in packed.chunks_exact_mut(all.len() * COLUMNS).enumerate() {
            for (to, x) in block.chunks_exact_mut(COLUMNS).zip(all) {
                to[..columns.len()].copy_from_slice(&x[m * n + columns.start..m * n + columns.end]);
            }
            for inverse in block.chunks_exact_mut(COLUMNS).skip(1).step_by(2) {
                inverse.iter_mut().for_each(|inverse| *inverse *= 0.5);
            }
        }
        for j in band * BAND..n.min((band + 1) * BAND) {
            let cells = j * n + columns.start..j * n + columns.end;
            // SAFETY: each task has its own columns of its own rows.
            let (losses, gradients) = unsafe { (losses.range(cells.clone()), gradients.range(cells)) };
            isa.run(Pairs { j, rows: all.map(|x| &x[j * n..(j + 1) * n]), packed: &packed, losses, gradients });
        }
    });
}

/// Columns of a task: a multiple of the lanes of every instruction set.
const COLUMNS: usize = MAX_LANES;
/// Rows of a task.
const BAND: usize = 32;

/// The pairs of sample j with the samples of a panel.
struct Pairs<'a> {
    j: usize,
    /// Row j of the student's squares and inverse lengths, and of the teacher's.
    rows: [&'a [f32]; 4],
    /// The panel's columns of the same four, `[n][4][COLUMNS]`, of the inverse lengths the halves.
    packed: &'a [f32],
    losses: &'a mut [f32],
    gradients: &'a mut [f32],
}

impl Kernel for Pairs<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Pairs { j, rows: [squares_s, inverse_s, squares_t, inverse_t], packed, losses, gradients } = self;
        let n = squares_s.len();
        let minus_half = S::splat(-0.5);
        for_each_vector!(S, losses.len(), |t, lanes| {
            let panel = packed.as_ptr().add(t);
            let own = panel.add(j * 4 * COLUMNS);
            let (d_s, r_s) = (S::load(own), S::mul(S::splat(2.0), S::load(own.add(COLUMNS))));
            let (d_t, r_t) = (S::load(own.add(2 * COLUMNS)), S::mul(S::splat(2.0), S::load(own.add(3 * COLUMNS))));
            let shrink = S::mul(minus_half, S::mul(r_s, r_s));
            let (mut loss, mut across, mut along) = (S::zero(), S::zero(), S::zero());
            for m in 0..n {
                let from = panel.add(m * 4 * COLUMNS);
                let (b_s, rb_s) = (S::load(from), S::load(from.add(COLUMNS)));
                let (b_t, rb_t) = (S::load(from.add(2 * COLUMNS)), S::load(from.add(3 * COLUMNS)));
                let (a_s, ra_s) = (S::splat(*squares_s.as_ptr().add(m)), S::splat(*inverse_s.as_ptr().add(m)));
                let (a_t, ra_t) = (S::splat(*squares_t.as_ptr().add(m)), S::splat(*inverse_t.as_ptr().add(m)));
                // The angle at m: only its opposite side is (j, t).
                let w = S::mul(ra_s, rb_s);
                let cos_s = S::mul(S::sub(S::add(a_s, b_s), d_s), w);
                let cos_t = S::mul(S::sub(S::add(a_t, b_t), d_t), S::mul(ra_t, rb_t));
                let difference = S::sub(cos_s, cos_t);
                let slope = clamp::<S>(difference);
                loss = S::fma(slope, S::fma(minus_half, slope, difference), loss);
                across = S::fma(slope, w, across);
                // The angle at t: (j, t) is one of its sides, and counts for both orders of the two sides.
                let w = S::mul(r_s, rb_s);
                let cos_s = S::mul(S::sub(S::add(d_s, b_s), a_s), w);
                let cos_t = S::mul(S::sub(S::add(d_t, b_t), a_t), S::mul(r_t, rb_t));
                let slope = clamp::<S>(S::sub(cos_s, cos_t));
                along = S::fma(slope, S::fma(cos_s, shrink, w), along);
            }
            S::store_first(losses.as_mut_ptr().add(t), loss, lanes);
            S::store_first(gradients.as_mut_ptr().add(t), S::sub(S::add(along, along), across), lanes);
        });
    }
}

/// The slope of the Huber loss with bound 1.
#[inline(always)]
unsafe fn clamp<S: Simd>(x: S::V) -> S::V {
    S::max(S::splat(-1.0), S::min(S::splat(1.0), x))
}
