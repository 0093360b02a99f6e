//! The exponential on one vector.

use super::Simd;

/// Beyond these the result is infinite or zero; arguments are clamped to them.
const LARGEST: f32 = 89.0;
const SMALLEST: f32 = -104.0;

/// `e^x` with a relative error below 2e-7 where that is a normal number; subnormal numbers lose digits, NaN stays NaN.
///
/// `x = n·ln 2 + r` with `|r| <= ln 2 / 2`, and a polynomial of degree 7 for `e^r` (Cephes `expf`).
///
/// # Safety
/// The machine must have the instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];

    let x = S::max(S::splat(SMALLEST), S::min(S::splat(LARGEST), x));
    let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
    let r = S::fma(n, S::splat(-LN2_HIGH), x);
    let r = S::fma(n, S::splat(-LN2_LOW), r);
    let mut p = S::splat(POLYNOMIAL[0]);
    for &c in &POLYNOMIAL[1..] {
        p = S::fma(p, r, S::splat(c));
    }
    let p = S::fma(p, S::mul(r, r), S::add(r, S::splat(1.0)));
    S::scale_by_power_of_two(p, n)
}
