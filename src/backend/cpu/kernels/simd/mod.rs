//! One vector register as a trait, so that a kernel is written once and compiled for every instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod exp;
mod log;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use exp::exp;
pub(crate) use log::log;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

/// The widest vector of any instruction set, in lanes.
pub(crate) const MAX_LANES: usize = 16;

/// The bits of √½.
const SQRT_HALF_BITS: i32 = 0x3F35_04F3;

/// Runs `$body` for every vector of `0..$len`, which starts at `$i` and has `$n` elements: `LANES`, a constant, but for the last.
/// A macro because a closure over vectors is not always inlined.
macro_rules! for_each_vector {
    ($S:ident, $len:expr, |$i:ident, $n:ident| $body:block) => {{
        let len: usize = $len;
        let mut $i = 0;
        while $i + $S::LANES <= len {
            let $n = $S::LANES;
            $body
            $i += $S::LANES;
        }
        if $i < len {
            let $n = len - $i;
            $body
        }
    }};
}
pub(crate) use for_each_vector;

/// f32 vector arithmetic of one instruction set, and what random bits need of 32-bit integers.
///
/// # Safety
/// Every function needs the instruction set it belongs to; pointers must be valid for the lanes they touch.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// One vector register.
    type V: Copy;
    /// The same register as 32-bit integers.
    type Bits: Copy;
    /// Lanes in a register.
    const LANES: usize;
    /// Rows of the register tile: `ROWS × 2` accumulators, two operands and a broadcast fit the register file.
    const ROWS: usize;
    /// Whether there are registers for 18 accumulators and their operands (32 registers).
    const MANY_REGISTERS: bool;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Loads the first `n <= LANES` lanes, and `fill` in the others.
    unsafe fn load_first(p: *const f32, n: usize, fill: f32) -> Self::V;
    /// Stores the first `n <= LANES` lanes.
    unsafe fn store_first(p: *mut f32, v: Self::V, n: usize);
    /// Loads the first `n <= LANES` bytes as numbers, and `fill` in the other lanes.
    #[inline(always)]
    unsafe fn load_first_bytes(p: *const u8, n: usize, fill: u8) -> Self::V {
        let mut lanes = [f32::from(fill); MAX_LANES];
        for (i, lane) in lanes[..n].iter_mut().enumerate() {
            *lane = f32::from(*p.add(i));
        }
        Self::load(lanes.as_ptr())
    }
    /// Stores the first `n <= LANES` lanes, whole numbers from 0 to 255, as bytes.
    #[inline(always)]
    unsafe fn store_first_bytes(p: *mut u8, v: Self::V, n: usize) {
        let mut lanes = [0.0; MAX_LANES];
        Self::store(lanes.as_mut_ptr(), v);
        for (i, &lane) in lanes[..n].iter().enumerate() {
            *p.add(i) = lane as u8;
        }
    }
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a·b + c`, rounded once where the hardware can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger lane; `b` where either is NaN, so `max(0, x)` is a ReLU that lets NaN through.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller lane; `b` where either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `yes` where `a > b`, else `no`.
    unsafe fn if_greater(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `yes` where `a == b`, else `no`.
    unsafe fn if_equal(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// The nearest integer, ties to even.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `a·2^n` for integers `-252 <= n <= 254`, infinite or subnormal where that is out of the normal range.
    unsafe fn scale_by_power_of_two(a: Self::V, n: Self::V) -> Self::V;
    /// `m` in `[√½, √2)` and the integer `n` with `a = m·2^n`, for normal `a > 0`.
    unsafe fn split_exponent(a: Self::V) -> [Self::V; 2];

    unsafe fn splat_bits(x: u32) -> Self::Bits;
    unsafe fn load_bits(p: *const u32) -> Self::Bits;
    unsafe fn store_bits(p: *mut u32, v: Self::Bits);
    unsafe fn xor(a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// The low and the high halves of the products `a·b`.
    unsafe fn mul_wide(a: Self::Bits, b: u32) -> [Self::Bits; 2];
    /// The elements of `a` and `b` in turn: `a[0], b[0], a[1], …`, in two vectors.
    unsafe fn interleave(a: Self::Bits, b: Self::Bits) -> [Self::Bits; 2];

    /// The even elements of `a` followed by `b`.
    unsafe fn even(a: Self::V, b: Self::V) -> Self::V;
    /// Transposes the square of the first `LANES` vectors.
    unsafe fn transpose(square: &mut [Self::V; MAX_LANES]);

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        Self::splat(0.0)
    }

    /// The sum of the lanes, pairing halves: the same order every time.
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        let mut lanes = [0.0; MAX_LANES];
        Self::store(lanes.as_mut_ptr(), v);
        let mut half = Self::LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
            half /= 2;
        }
        lanes[0]
    }

    /// The largest lane.
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; MAX_LANES];
        Self::store(lanes.as_mut_ptr(), v);
        let mut half = Self::LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] = if lanes[i] > lanes[i + half] { lanes[i] } else { lanes[i + half] };
            }
            half /= 2;
        }
        lanes[0]
    }
}

/// |x|; NaN for NaN.
///
/// # Safety
/// The machine must have the instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn absolute<S: Simd>(x: S::V) -> S::V {
    S::max(x, S::sub(S::zero(), x))
}

#[cfg(test)]
mod tests;
