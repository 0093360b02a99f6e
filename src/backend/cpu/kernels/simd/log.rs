//! The natural logarithm on one vector.

use super::Simd;

/// `ln x` with an error below 2e-7 of the larger of 1e-7 and itself; −∞ for 0, NaN below 0, and NaN for NaN.
///
/// `x = m·2^n` with `m` in `[√½, √2)`, and a polynomial of degree 11 for `ln m` (Cephes `logf`).
///
/// # Safety
/// The machine must have the instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn log<S: Simd>(x: S::V) -> S::V {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 9] = [
        7.037_683_6e-2,
        -0.115_146_1,
        0.116_769_99,
        -0.124_201_41,
        0.142_493_23,
        -0.166_680_58,
        0.200_007_15,
        -0.249_999_94,
        0.333_333_3,
    ];
    // Subnormal numbers are made normal first.
    const LIFT: f32 = 23.0;
    const TWO_TO_LIFT: f32 = 8_388_608.0;
    let smallest = S::splat(f32::MIN_POSITIVE);
    let lifted = S::mul(x, S::splat(TWO_TO_LIFT));
    let [m, n] = S::split_exponent(S::if_greater(smallest, x, lifted, x));
    let n = S::if_greater(smallest, x, S::sub(n, S::splat(LIFT)), n);

    let f = S::sub(m, S::splat(1.0));
    let square = S::mul(f, f);
    let mut p = S::splat(POLYNOMIAL[0]);
    for &c in &POLYNOMIAL[1..] {
        p = S::fma(p, f, S::splat(c));
    }
    let p = S::fma(n, S::splat(LN2_LOW), S::mul(p, S::mul(f, square)));
    let p = S::fma(square, S::splat(-0.5), p);
    let y = S::fma(n, S::splat(LN2_HIGH), S::add(f, p));

    // ∞ is its own logarithm; 0 − ∞ is right for 0 and keeps NaN.
    let y = S::if_greater(x, S::splat(f32::MAX), x, y);
    let below = S::if_greater(S::zero(), x, S::splat(f32::NAN), S::sub(x, S::splat(f32::INFINITY)));
    S::if_greater(x, S::zero(), y, below)
}
