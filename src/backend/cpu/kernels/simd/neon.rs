//! AArch64 NEON: 4 lanes, tails through a small array.

use std::arch::aarch64::*;

use super::{Simd, MAX_LANES, SQRT_HALF_BITS};

#[derive(Clone, Copy)]
pub(crate) struct Neon;

/// `2^n` for integers `-126 <= n <= 127`.
#[inline(always)]
unsafe fn power_of_two(n: int32x4_t) -> float32x4_t {
    vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))))
}

impl Simd for Neon {
    type V = float32x4_t;
    type Bits = uint32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 14;
    const MANY_REGISTERS: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        vdupq_n_f32(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        vld1q_f32(p)
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: float32x4_t) {
        vst1q_f32(p, v)
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize, fill: f32) -> float32x4_t {
        let mut lanes = [fill; 4];
        std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
        vld1q_f32(lanes.as_ptr())
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: float32x4_t, n: usize) {
        let mut lanes = [0.0; 4];
        vst1q_f32(lanes.as_mut_ptr(), v);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vaddq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vsubq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vmulq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vdivq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        vfmaq_f32(c, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vbslq_f32(vcgtq_f32(a, b), a, b)
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vbslq_f32(vcltq_f32(a, b), a, b)
    }
    #[inline(always)]
    unsafe fn if_greater(a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        vbslq_f32(vcgtq_f32(a, b), yes, no)
    }
    #[inline(always)]
    unsafe fn if_equal(a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        vbslq_f32(vceqq_f32(a, b), yes, no)
    }
    #[inline(always)]
    unsafe fn round(a: float32x4_t) -> float32x4_t {
        vrndnq_f32(a)
    }
    #[inline(always)]
    unsafe fn scale_by_power_of_two(a: float32x4_t, n: float32x4_t) -> float32x4_t {
        // In two steps, each a normal number.
        let n = vcvtq_s32_f32(n);
        let half = vshrq_n_s32::<1>(n);
        vmulq_f32(vmulq_f32(a, power_of_two(half)), power_of_two(vsubq_s32(n, half)))
    }
    #[inline(always)]
    unsafe fn split_exponent(a: float32x4_t) -> [float32x4_t; 2] {
        let bits = vreinterpretq_s32_f32(a);
        let n = vshrq_n_s32::<23>(vsubq_s32(bits, vdupq_n_s32(SQRT_HALF_BITS)));
        let m = vsubq_s32(bits, vshlq_n_s32::<23>(n));
        [vreinterpretq_f32_s32(m), vcvtq_f32_s32(n)]
    }
    #[inline(always)]
    unsafe fn splat_bits(x: u32) -> uint32x4_t {
        vdupq_n_u32(x)
    }
    #[inline(always)]
    unsafe fn load_bits(p: *const u32) -> uint32x4_t {
        vld1q_u32(p)
    }
    #[inline(always)]
    unsafe fn store_bits(p: *mut u32, v: uint32x4_t) {
        vst1q_u32(p, v)
    }
    #[inline(always)]
    unsafe fn xor(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        veorq_u32(a, b)
    }
    #[inline(always)]
    unsafe fn mul_wide(a: uint32x4_t, b: u32) -> [uint32x4_t; 2] {
        let b = vdup_n_u32(b);
        let (first, last) = (vmull_u32(vget_low_u32(a), b), vmull_u32(vget_high_u32(a), b));
        let (first, last) = (vreinterpretq_u32_u64(first), vreinterpretq_u32_u64(last));
        [vuzp1q_u32(first, last), vuzp2q_u32(first, last)]
    }
    #[inline(always)]
    unsafe fn interleave(a: uint32x4_t, b: uint32x4_t) -> [uint32x4_t; 2] {
        [vzip1q_u32(a, b), vzip2q_u32(a, b)]
    }
    #[inline(always)]
    unsafe fn even(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vuzp1q_f32(a, b)
    }
    #[inline(always)]
    unsafe fn transpose(square: &mut [float32x4_t; MAX_LANES]) {
        let pairs = |a: float32x4_t, b: float32x4_t| {
            let (even, odd) = (vtrn1q_f32(a, b), vtrn2q_f32(a, b));
            [vreinterpretq_f64_f32(even), vreinterpretq_f64_f32(odd)]
        };
        let (top, bottom) = (pairs(square[0], square[1]), pairs(square[2], square[3]));
        for i in 0..2 {
            square[i] = vreinterpretq_f32_f64(vtrn1q_f64(top[i], bottom[i]));
            square[i + 2] = vreinterpretq_f32_f64(vtrn2q_f64(top[i], bottom[i]));
        }
    }
}
