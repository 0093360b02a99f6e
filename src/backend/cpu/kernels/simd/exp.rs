//! The exponential on one vector.

use super::Simd;

/// Above this the result would overflow; arguments are clamped to it.
const LARGEST: f32 = 88.0;
/// Below this the result is subnormal and is returned as zero.
const SMALLEST: f32 = -87.0;

/// `e^x` with a relative error below 2e-7 on `[-87, 88]`; zero below, `e^88` above, NaN for NaN.
///
/// `x = n·ln 2 + r` with `|r| <= ln 2 / 2`, and a polynomial of degree 6 for `e^r` (Cephes `expf`).
///
/// # Safety
/// The machine must have the instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];

    let largest = S::splat(LARGEST);
    let clamped = S::if_greater(x, largest, largest, x);
    let clamped = S::max(S::splat(SMALLEST), clamped);
    let n = S::round(S::mul(clamped, S::splat(std::f32::consts::LOG2_E)));
    let r = S::fma(n, S::splat(-LN2_HIGH), clamped);
    let r = S::fma(n, S::splat(-LN2_LOW), r);
    let mut p = S::splat(POLYNOMIAL[0]);
    for &c in &POLYNOMIAL[1..] {
        p = S::fma(p, r, S::splat(c));
    }
    let p = S::fma(p, S::mul(r, r), S::add(r, S::splat(1.0)));
    let y = S::mul(p, S::exp2_of_integer(n));
    S::if_greater(S::splat(SMALLEST), x, S::zero(), y)
}
