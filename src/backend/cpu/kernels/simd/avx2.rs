//! AVX2 with FMA: 8 lanes, masked tails.

use std::arch::x86_64::*;

use super::{Simd, MAX_LANES, SQRT_HALF_BITS};

#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// `2^n` for integers `-126 <= n <= 127`.
#[inline(always)]
unsafe fn power_of_two(n: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))))
}

#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

impl Simd for Avx2 {
    type V = __m256;
    type Bits = __m256i;
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        _mm256_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        _mm256_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        _mm256_storeu_ps(p, v)
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize, fill: f32) -> __m256 {
        let mask = first(n);
        _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask))
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: __m256, n: usize) {
        _mm256_maskstore_ps(p, first(n), v)
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        _mm256_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        _mm256_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        _mm256_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        _mm256_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn if_greater(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b))
    }
    #[inline(always)]
    unsafe fn if_equal(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b))
    }
    #[inline(always)]
    unsafe fn round(a: __m256) -> __m256 {
        _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }
    #[inline(always)]
    unsafe fn scale_by_power_of_two(a: __m256, n: __m256) -> __m256 {
        // In two steps, each a normal number.
        let n = _mm256_cvtps_epi32(n);
        let half = _mm256_srai_epi32::<1>(n);
        _mm256_mul_ps(_mm256_mul_ps(a, power_of_two(half)), power_of_two(_mm256_sub_epi32(n, half)))
    }
    #[inline(always)]
    unsafe fn split_exponent(a: __m256) -> [__m256; 2] {
        let bits = _mm256_castps_si256(a);
        let n = _mm256_srai_epi32::<23>(_mm256_sub_epi32(bits, _mm256_set1_epi32(SQRT_HALF_BITS)));
        let m = _mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(n));
        [_mm256_castsi256_ps(m), _mm256_cvtepi32_ps(n)]
    }
    #[inline(always)]
    unsafe fn splat_bits(x: u32) -> __m256i {
        _mm256_set1_epi32(x as i32)
    }
    #[inline(always)]
    unsafe fn load_bits(p: *const u32) -> __m256i {
        _mm256_loadu_si256(p.cast())
    }
    #[inline(always)]
    unsafe fn store_bits(p: *mut u32, v: __m256i) {
        _mm256_storeu_si256(p.cast(), v)
    }
    #[inline(always)]
    unsafe fn xor(a: __m256i, b: __m256i) -> __m256i {
        _mm256_xor_si256(a, b)
    }
    #[inline(always)]
    unsafe fn mul_wide(a: __m256i, b: u32) -> [__m256i; 2] {
        const ODD: i32 = 0b10_10_10_10;
        let b = _mm256_set1_epi32(b as i32);
        let (even, odd) = (_mm256_mul_epu32(a, b), _mm256_mul_epu32(_mm256_srli_epi64::<32>(a), b));
        [
            _mm256_blend_epi32::<ODD>(even, _mm256_slli_epi64::<32>(odd)),
            _mm256_blend_epi32::<ODD>(_mm256_srli_epi64::<32>(even), odd),
        ]
    }
    #[inline(always)]
    unsafe fn interleave(a: __m256i, b: __m256i) -> [__m256i; 2] {
        // Within halves first.
        let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        [_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high)]
    }
    #[inline(always)]
    unsafe fn even(a: __m256, b: __m256) -> __m256 {
        // Within halves first; then the middle two of the four pairs change places.
        let pairs = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
        _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(pairs))
    }
    #[inline(always)]
    unsafe fn transpose(square: &mut [__m256; MAX_LANES]) {
        // Columns of four rows, in halves of the register …
        for four in square[..8].chunks_exact_mut(4) {
            let low = [_mm256_unpacklo_ps(four[0], four[1]), _mm256_unpacklo_ps(four[2], four[3])];
            let high = [_mm256_unpackhi_ps(four[0], four[1]), _mm256_unpackhi_ps(four[2], four[3])];
            for (i, [a, b]) in [low, high].into_iter().enumerate() {
                let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
                four[2 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
                four[2 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
            }
        }
        // … then half `h` of vectors `i` and `i + 4` is column `4·h + i`.
        for i in 0..4 {
            let (a, b) = (square[i], square[i + 4]);
            square[i] = _mm256_permute2f128_ps::<0x20>(a, b);
            square[i + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
        }
    }
}
