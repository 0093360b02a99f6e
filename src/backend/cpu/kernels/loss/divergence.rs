//! How far one vector of the student's probabilities q is from the teacher's p, and the derivatives.
//!
//! A sum `Σ a·ln(a / b)` of probabilities is computed as `Σ a·(e^−δ − 1 + δ)` with `δ = ln a − ln b`: the same number (`Σ a = Σ b`),
//! but without negative terms, so that it keeps its digits where every δ is tiny, as at a high temperature.

use crate::backend::cpu::kernels::simd::{log, Simd};

/// Probabilities of as many classes as there are lanes, and their logarithms.
pub(super) struct Probabilities<S: Simd> {
    pub value: S::V,
    pub log: S::V,
}

/// A divergence of q from p.
pub(super) trait Divergence: Copy + Sync {
    /// The sum over all classes of `q` times the derivative, where it is the same for all p and q.
    const CENTRE: Option<f32>;

    /// Each class's term, and `q` times the derivative of the divergence with respect to `q`. A probability of 0 gives zeros.
    ///
    /// # Safety
    /// The machine must have the instruction set of `S`.
    unsafe fn terms<S: Simd>(self, p: Probabilities<S>, q: Probabilities<S>) -> [S::V; 2];
}

/// KL(p ‖ q).
#[derive(Clone, Copy)]
pub(super) struct ForwardKl;

impl Divergence for ForwardKl {
    const CENTRE: Option<f32> = Some(-1.0);

    #[inline(always)]
    unsafe fn terms<S: Simd>(self, p: Probabilities<S>, q: Probabilities<S>) -> [S::V; 2] {
        let delta = S::sub(p.log, q.log);
        [relative_entropy::<S>(p.value, q.value, delta), S::sub(S::zero(), p.value)]
    }
}

/// KL(q ‖ p).
#[derive(Clone, Copy)]
pub(super) struct ReverseKl;

impl Divergence for ReverseKl {
    const CENTRE: Option<f32> = None;

    #[inline(always)]
    unsafe fn terms<S: Simd>(self, p: Probabilities<S>, q: Probabilities<S>) -> [S::V; 2] {
        let delta = S::sub(q.log, p.log);
        let slope = S::if_greater(q.value, S::zero(), S::mul(q.value, delta), S::zero());
        [relative_entropy::<S>(q.value, p.value, delta), slope]
    }
}

/// β · KL(p ‖ m) + (1 − β) · KL(q ‖ m) with m = β·p + (1 − β)·q.
#[derive(Clone, Copy)]
pub(super) struct JensenShannon {
    pub beta: f32,
}

impl Divergence for JensenShannon {
    const CENTRE: Option<f32> = None;

    #[inline(always)]
    unsafe fn terms<S: Simd>(self, p: Probabilities<S>, q: Probabilities<S>) -> [S::V; 2] {
        let (of_p, of_q) = (S::splat(self.beta), S::splat(1.0 - self.beta));
        let m = S::fma(of_p, p.value, S::mul(of_q, q.value));
        let (delta_p, delta_q) = (log_ratio::<S>(p.value, m), log_ratio::<S>(q.value, m));
        let from_p = relative_entropy::<S>(p.value, m, delta_p);
        let from_q = relative_entropy::<S>(q.value, m, delta_q);
        [S::fma(of_p, from_p, S::mul(of_q, from_q)), S::mul(of_q, S::mul(q.value, delta_q))]
    }
}

/// `ln(a / b)` of probabilities, of which those below all normal numbers count as the smallest of them.
#[inline(always)]
unsafe fn log_ratio<S: Simd>(a: S::V, b: S::V) -> S::V {
    let smallest = S::splat(f32::MIN_POSITIVE);
    log::<S>(S::div(S::max(a, smallest), S::max(b, smallest)))
}

/// `a·(e^−δ − 1 + δ)`: the series for small δ, else `b − a + a·δ`, where `a = 0` has no last term.
#[inline(always)]
unsafe fn relative_entropy<S: Simd>(a: S::V, b: S::V, delta: S::V) -> S::V {
    const SERIES: [f32; 7] = [1.0 / 40320.0, -1.0 / 5040.0, 1.0 / 720.0, -1.0 / 120.0, 1.0 / 24.0, -1.0 / 6.0, 0.5];
    let square = S::mul(delta, delta);
    let mut series = S::splat(SERIES[0]);
    for &c in &SERIES[1..] {
        series = S::fma(series, delta, S::splat(c));
    }
    let small = S::mul(a, S::mul(square, series));
    let large = S::add(S::sub(b, a), S::if_greater(a, S::zero(), S::mul(a, delta), S::zero()));
    S::if_greater(S::splat(0.25), square, small, large)
}
