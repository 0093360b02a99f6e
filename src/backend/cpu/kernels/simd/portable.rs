//! Plain Rust on arrays of eight: runs anywhere, and the compiler vectorises it with what the target guarantees.

use super::{Simd, MAX_LANES, SQRT_HALF_BITS};

const N: usize = 8;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn zip(a: [f32; N], b: [f32; N], f: impl Fn(f32, f32) -> f32) -> [f32; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// `2^n` for integers `-126 <= n <= 127`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// The exponent of `split_exponent`.
#[inline(always)]
fn exponent(a: f32) -> i32 {
    (a.to_bits() as i32).wrapping_sub(SQRT_HALF_BITS) >> 23
}

impl Simd for Portable {
    type V = [f32; N];
    type Bits = [u32; N];
    const LANES: usize = N;
    const ROWS: usize = 3;
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; N] {
        p.cast::<[f32; N]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; N]) {
        p.cast::<[f32; N]>().write_unaligned(v)
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize, fill: f32) -> [f32; N] {
        let mut lanes = [fill; N];
        std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
        lanes
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: [f32; N], n: usize) {
        std::ptr::copy_nonoverlapping(v.as_ptr(), p, n);
    }
    #[inline(always)]
    unsafe fn add(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a * b)
    }
    /// Rounds twice: without the instruction, a fused multiply-add is a slow library call.
    #[inline(always)]
    unsafe fn div(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn min(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn max(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn if_greater(a: [f32; N], b: [f32; N], yes: [f32; N], no: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if a[i] > b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    unsafe fn if_equal(a: [f32; N], b: [f32; N], yes: [f32; N], no: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if a[i] == b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    unsafe fn round(a: [f32; N]) -> [f32; N] {
        // Adding 1.5·2²³ leaves no bits for a fraction; exact for |a| < 2²².
        const SHIFT: f32 = 12_582_912.0;
        a.map(|a| (a + SHIFT) - SHIFT)
    }
    #[inline(always)]
    unsafe fn scale_by_power_of_two(a: [f32; N], n: [f32; N]) -> [f32; N] {
        // In two steps, each a normal number.
        zip(a, n, |a, n| {
            let n = n as i32;
            a * power_of_two(n >> 1) * power_of_two(n - (n >> 1))
        })
    }
    #[inline(always)]
    unsafe fn split_exponent(a: [f32; N]) -> [[f32; N]; 2] {
        let m = a.map(|a| f32::from_bits((a.to_bits() as i32).wrapping_sub(exponent(a) << 23) as u32));
        [m, a.map(|a| exponent(a) as f32)]
    }
    #[inline(always)]
    unsafe fn splat_bits(x: u32) -> [u32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load_bits(p: *const u32) -> [u32; N] {
        p.cast::<[u32; N]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store_bits(p: *mut u32, v: [u32; N]) {
        p.cast::<[u32; N]>().write_unaligned(v)
    }
    #[inline(always)]
    unsafe fn xor(a: [u32; N], b: [u32; N]) -> [u32; N] {
        std::array::from_fn(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    unsafe fn mul_wide(a: [u32; N], b: u32) -> [[u32; N]; 2] {
        let product = |a: u32| u64::from(a) * u64::from(b);
        [a.map(|a| product(a) as u32), a.map(|a| (product(a) >> 32) as u32)]
    }
    #[inline(always)]
    unsafe fn interleave(a: [u32; N], b: [u32; N]) -> [[u32; N]; 2] {
        let at = |i: usize| if i.is_multiple_of(2) { a[i / 2] } else { b[i / 2] };
        [std::array::from_fn(at), std::array::from_fn(|i| at(N + i))]
    }
    #[inline(always)]
    unsafe fn even(a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if i < N / 2 { a[2 * i] } else { b[2 * i - N] })
    }
    #[inline(always)]
    unsafe fn transpose(square: &mut [[f32; N]; MAX_LANES]) {
        let rows = *square;
        for (c, column) in square[..N].iter_mut().enumerate() {
            *column = std::array::from_fn(|r| rows[r][c]);
        }
    }
}
