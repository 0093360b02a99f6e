//! The angles of all triplets of samples, compared between two networks without ever storing one.

use super::isa::{self, Kernel};
use super::parallel::{elements_ns, for_each, Disjoint};
use super::simd::{for_each_vector, Simd};

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
    let (losses, gradients) = (Disjoint::new(losses), Disjoint::new(gradients));
    for_each(n, elements_ns(4 * n * n * n), |j| {
        let row = j * n..(j + 1) * n;
        // SAFETY: each task has its own row of both.
        let (losses, gradients) = unsafe { (losses.range(row.clone()), gradients.range(row)) };
        isa.run(Row { student, teacher, j, n, losses, gradients });
    });
}

struct Row<'a> {
    student: Triangles<'a>,
    teacher: Triangles<'a>,
    j: usize,
    n: usize,
    losses: &'a mut [f32],
    gradients: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Row { student, teacher, j, n, .. } = self;
        let half = S::splat(0.5);
        for_each_vector!(S, n, |t, lanes| {
            let own = |x: &[f32]| S::load_first(x.as_ptr().add(j * n + t), lanes, 0.0);
            let [d_s, d_t] = [own(student.squares), own(teacher.squares)];
            let [r_s, r_t] = [own(student.inverse), own(teacher.inverse)];
            let r_s_squared = S::mul(r_s, r_s);
            let (mut loss, mut gradient) = (S::zero(), S::zero());
            for m in 0..n {
                let to = |x: &[f32]| S::splat(*x.as_ptr().add(j * n + m));
                let from = |x: &[f32]| S::load_first(x.as_ptr().add(m * n + t), lanes, 0.0);
                let [a_s, a_t] = [to(student.squares), to(teacher.squares)];
                let [b_s, b_t] = [from(student.squares), from(teacher.squares)];
                let [ra_s, ra_t] = [to(student.inverse), to(teacher.inverse)];
                let [rb_s, rb_t] = [from(student.inverse), from(teacher.inverse)];
                // The angle at m: only its opposite side is (j, t).
                let w = S::mul(ra_s, rb_s);
                let cos_s = S::mul(S::mul(half, S::sub(S::add(a_s, b_s), d_s)), w);
                let cos_t = S::mul(S::mul(half, S::sub(S::add(a_t, b_t), d_t)), S::mul(ra_t, rb_t));
                let difference = S::sub(cos_s, cos_t);
                let slope = clamp::<S>(difference);
                loss = S::fma(slope, S::sub(difference, S::mul(half, slope)), loss);
                gradient = S::sub(gradient, S::mul(half, S::mul(slope, w)));
                // The angle at t: (j, t) is one of its sides, and counts for both orders of the two sides.
                let w = S::mul(r_s, rb_s);
                let cos_s = S::mul(S::mul(half, S::sub(S::add(d_s, b_s), a_s)), w);
                let cos_t = S::mul(S::mul(half, S::sub(S::add(d_t, b_t), a_t)), S::mul(r_t, rb_t));
                let slope = clamp::<S>(S::sub(cos_s, cos_t));
                gradient = S::fma(slope, S::sub(w, S::mul(cos_s, r_s_squared)), gradient);
            }
            S::store_first(self.losses.as_mut_ptr().add(t), loss, lanes);
            S::store_first(self.gradients.as_mut_ptr().add(t), gradient, lanes);
        });
    }
}

/// The slope of the Huber loss with bound 1.
#[inline(always)]
unsafe fn clamp<S: Simd>(x: S::V) -> S::V {
    S::max(S::splat(-1.0), S::min(S::splat(1.0), x))
}
