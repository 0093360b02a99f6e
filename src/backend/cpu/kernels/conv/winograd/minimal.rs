//! The one-dimensional transforms of minimal filtering F(m, 3) for m = 2, 3 and 4 (Winograd 1980; Lavin & Gray 2016).
//!
//! `y = Aᵀ·((G·g) ⊙ (Bᵀ·d))` computes m outputs of a filter `g` of 3 taps over m + 2 inputs `d` with m + 2 multiplications. The
//! matrices are those of Toom–Cook interpolation at the points below and ∞; each function is one of them, written out. Rows and
//! columns of a square are transformed one after the other.

use super::super::super::simd::Simd;

/// Components of one dimension, at most.
pub(super) const MAX_SIDE: usize = 6;
/// Outputs of one dimension, at most.
pub(super) const MAX_OUT: usize = 4;

/// F(m, 3). Vectors have the lengths of the largest m; what lies beyond `SIDE` or `OUT` is neither read nor meaningful.
pub(super) trait Minimal: Copy + Send + Sync {
    /// m, the outputs.
    const OUT: usize;
    /// m + 2, the inputs and the components.
    const SIDE: usize = Self::OUT + 2;

    /// `G·g`.
    unsafe fn filter<S: Simd>(g: [S::V; 3]) -> [S::V; MAX_SIDE];
    /// `Bᵀ·d`.
    unsafe fn input<S: Simd>(d: [S::V; MAX_SIDE]) -> [S::V; MAX_SIDE];
    /// `Aᵀ·p`.
    unsafe fn output<S: Simd>(p: [S::V; MAX_SIDE]) -> [S::V; MAX_OUT];
    /// `A·y`, the adjoint of `output`.
    unsafe fn output_adjoint<S: Simd>(y: [S::V; MAX_OUT]) -> [S::V; MAX_SIDE];
    /// `Gᵀ·u`, the adjoint of `filter`.
    unsafe fn filter_adjoint<S: Simd>(u: [S::V; MAX_SIDE]) -> [S::V; 3];
}

/// F(2, 3) at the points 0, 1, −1.
#[derive(Clone, Copy)]
pub(super) struct F2;

/// F(3, 3) at the points 0, 1, −1, 2.
#[derive(Clone, Copy)]
pub(super) struct F3;

/// F(4, 3) at the points 0, 1, −1, 2, −2.
#[derive(Clone, Copy)]
pub(super) struct F4;

#[inline(always)]
unsafe fn times<S: Simd>(factor: f32, x: S::V) -> S::V {
    S::mul(S::splat(factor), x)
}

/// `factor·x + y`.
#[inline(always)]
unsafe fn plus<S: Simd>(factor: f32, x: S::V, y: S::V) -> S::V {
    S::fma(S::splat(factor), x, y)
}

impl Minimal for F2 {
    const OUT: usize = 2;

    #[inline(always)]
    unsafe fn filter<S: Simd>([a, b, c]: [S::V; 3]) -> [S::V; MAX_SIDE] {
        let (ends, middle) = (times::<S>(0.5, S::add(a, c)), times::<S>(0.5, b));
        [a, S::add(ends, middle), S::sub(ends, middle), c, S::zero(), S::zero()]
    }

    #[inline(always)]
    unsafe fn input<S: Simd>([a, b, c, d, ..]: [S::V; MAX_SIDE]) -> [S::V; MAX_SIDE] {
        [S::sub(a, c), S::add(b, c), S::sub(c, b), S::sub(b, d), S::zero(), S::zero()]
    }

    #[inline(always)]
    unsafe fn output<S: Simd>([a, b, c, d, ..]: [S::V; MAX_SIDE]) -> [S::V; MAX_OUT] {
        [S::add(S::add(a, b), c), S::sub(S::sub(b, c), d), S::zero(), S::zero()]
    }

    #[inline(always)]
    unsafe fn output_adjoint<S: Simd>([a, b, ..]: [S::V; MAX_OUT]) -> [S::V; MAX_SIDE] {
        [a, S::add(a, b), S::sub(a, b), S::sub(S::zero(), b), S::zero(), S::zero()]
    }

    #[inline(always)]
    unsafe fn filter_adjoint<S: Simd>([a, b, c, d, ..]: [S::V; MAX_SIDE]) -> [S::V; 3] {
        let sum = S::add(b, c);
        [plus::<S>(0.5, sum, a), times::<S>(0.5, S::sub(b, c)), plus::<S>(0.5, sum, d)]
    }
}

impl Minimal for F3 {
    const OUT: usize = 3;

    #[inline(always)]
    unsafe fn filter<S: Simd>([a, b, c]: [S::V; 3]) -> [S::V; MAX_SIDE] {
        let ends = S::add(a, c);
        let at_two = plus::<S>(4.0, c, plus::<S>(2.0, b, a));
        [
            times::<S>(0.5, a),
            times::<S>(-0.5, S::add(ends, b)),
            times::<S>(-1.0 / 6.0, S::sub(ends, b)),
            times::<S>(1.0 / 6.0, at_two),
            c,
            S::zero(),
        ]
    }

    #[inline(always)]
    unsafe fn input<S: Simd>([a, b, c, d, e, _]: [S::V; MAX_SIDE]) -> [S::V; MAX_SIDE] {
        let (c_from_a, d_from_b) = (S::sub(a, c), S::sub(d, b));
        [
            plus::<S>(2.0, c_from_a, d_from_b),
            plus::<S>(-2.0, b, S::sub(d, c)),
            plus::<S>(2.0, b, plus::<S>(-3.0, c, d)),
            d_from_b,
            plus::<S>(-2.0, d_from_b, S::sub(e, c)),
            S::zero(),
        ]
    }

    #[inline(always)]
    unsafe fn output<S: Simd>([a, b, c, d, e, _]: [S::V; MAX_SIDE]) -> [S::V; MAX_OUT] {
        let sum = S::add(b, c);
        let last = plus::<S>(4.0, d, S::add(sum, e));
        [S::add(S::add(a, sum), d), plus::<S>(2.0, d, S::sub(b, c)), last, S::zero()]
    }

    #[inline(always)]
    unsafe fn output_adjoint<S: Simd>([a, b, c, _]: [S::V; MAX_OUT]) -> [S::V; MAX_SIDE] {
        let ends = S::add(a, c);
        let at_two = plus::<S>(4.0, c, plus::<S>(2.0, b, a));
        [a, S::add(ends, b), S::sub(ends, b), at_two, c, S::zero()]
    }

    #[inline(always)]
    unsafe fn filter_adjoint<S: Simd>([a, b, c, d, e, _]: [S::V; MAX_SIDE]) -> [S::V; 3] {
        let half = times::<S>(-0.5, b);
        let sixths = times::<S>(1.0 / 6.0, S::sub(d, c));
        let first = plus::<S>(0.5, a, S::add(half, sixths));
        let second = S::add(half, times::<S>(1.0 / 6.0, plus::<S>(2.0, d, c)));
        let third = S::add(half, plus::<S>(1.0 / 6.0, plus::<S>(4.0, d, S::sub(S::zero(), c)), e));
        [first, second, third]
    }
}

impl Minimal for F4 {
    const OUT: usize = 4;

    #[inline(always)]
    unsafe fn filter<S: Simd>([a, b, c]: [S::V; 3]) -> [S::V; MAX_SIDE] {
        let (ends, middle) = (times::<S>(-1.0 / 6.0, S::add(a, c)), times::<S>(1.0 / 6.0, b));
        let (far_ends, far_middle) = (plus::<S>(1.0 / 24.0, a, times::<S>(1.0 / 6.0, c)), times::<S>(1.0 / 12.0, b));
        [
            times::<S>(0.25, a),
            S::sub(ends, middle),
            S::add(ends, middle),
            S::add(far_ends, far_middle),
            S::sub(far_ends, far_middle),
            c,
        ]
    }

    #[inline(always)]
    unsafe fn input<S: Simd>([a, b, c, d, e, f]: [S::V; MAX_SIDE]) -> [S::V; MAX_SIDE] {
        let (even, odd) = (plus::<S>(-4.0, c, e), plus::<S>(-4.0, b, d));
        let (far_even, far_odd) = (S::sub(e, c), times::<S>(2.0, S::sub(d, b)));
        [
            plus::<S>(4.0, a, plus::<S>(-5.0, c, e)),
            S::add(even, odd),
            S::sub(even, odd),
            S::add(far_even, far_odd),
            S::sub(far_even, far_odd),
            plus::<S>(4.0, b, plus::<S>(-5.0, d, f)),
        ]
    }

    #[inline(always)]
    unsafe fn output<S: Simd>([a, b, c, d, e, f]: [S::V; MAX_SIDE]) -> [S::V; MAX_OUT] {
        let (even, odd) = (S::add(b, c), S::sub(b, c));
        let (far_even, far_odd) = (S::add(d, e), S::sub(d, e));
        [
            S::add(a, S::add(even, far_even)),
            plus::<S>(2.0, far_odd, odd),
            plus::<S>(4.0, far_even, even),
            plus::<S>(8.0, far_odd, S::add(odd, f)),
        ]
    }

    #[inline(always)]
    unsafe fn output_adjoint<S: Simd>([a, b, c, d]: [S::V; MAX_OUT]) -> [S::V; MAX_SIDE] {
        let (even, odd) = (S::add(a, c), S::add(b, d));
        let (far_even, far_odd) = (plus::<S>(4.0, c, a), plus::<S>(8.0, d, times::<S>(2.0, b)));
        [a, S::add(even, odd), S::sub(even, odd), S::add(far_even, far_odd), S::sub(far_even, far_odd), d]
    }

    #[inline(always)]
    unsafe fn filter_adjoint<S: Simd>([a, b, c, d, e, f]: [S::V; MAX_SIDE]) -> [S::V; 3] {
        let (even, far_even) = (times::<S>(-1.0 / 6.0, S::add(b, c)), times::<S>(1.0 / 24.0, S::add(d, e)));
        let first = plus::<S>(0.25, a, S::add(even, far_even));
        let second = plus::<S>(1.0 / 6.0, S::sub(c, b), times::<S>(1.0 / 12.0, S::sub(d, e)));
        let third = plus::<S>(4.0, far_even, S::add(even, f));
        [first, second, third]
    }
}
