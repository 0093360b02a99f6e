//! AVX-512: 16 lanes, masked tails.

use std::arch::x86_64::*;

use super::{Simd, MAX_LANES, SQRT_HALF_BITS};

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

impl Simd for Avx512 {
    type V = __m512;
    type Bits = __m512i;
    const LANES: usize = 16;
    const ROWS: usize = 14;
    const MANY_REGISTERS: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        _mm512_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        _mm512_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        _mm512_storeu_ps(p, v)
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize, fill: f32) -> __m512 {
        _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(n), p)
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: __m512, n: usize) {
        _mm512_mask_storeu_ps(p, first(n), v)
    }
    #[inline(always)]
    unsafe fn load_first_bytes(p: *const u8, n: usize, fill: u8) -> __m512 {
        let bytes = _mm_mask_loadu_epi8(_mm_set1_epi8(fill as i8), first(n), p.cast());
        _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
    }
    #[inline(always)]
    unsafe fn store_first_bytes(p: *mut u8, v: __m512, n: usize) {
        _mm512_mask_cvtepi32_storeu_epi8(p.cast(), first(n), _mm512_cvtps_epi32(v));
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        _mm512_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        _mm512_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        _mm512_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn if_greater(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes)
    }
    #[inline(always)]
    unsafe fn if_equal(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), no, yes)
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }
    #[inline(always)]
    unsafe fn scale_by_power_of_two(a: __m512, n: __m512) -> __m512 {
        _mm512_scalef_ps(a, n)
    }
    #[inline(always)]
    unsafe fn split_exponent(a: __m512) -> [__m512; 2] {
        let bits = _mm512_castps_si512(a);
        let n = _mm512_srai_epi32::<23>(_mm512_sub_epi32(bits, _mm512_set1_epi32(SQRT_HALF_BITS)));
        let m = _mm512_sub_epi32(bits, _mm512_slli_epi32::<23>(n));
        [_mm512_castsi512_ps(m), _mm512_cvtepi32_ps(n)]
    }
    #[inline(always)]
    unsafe fn splat_bits(x: u32) -> __m512i {
        _mm512_set1_epi32(x as i32)
    }
    #[inline(always)]
    unsafe fn load_bits(p: *const u32) -> __m512i {
        _mm512_loadu_si512(p.cast())
    }
    #[inline(always)]
    unsafe fn store_bits(p: *mut u32, v: __m512i) {
        _mm512_storeu_si512(p.cast(), v)
    }
    #[inline(always)]
    unsafe fn xor(a: __m512i, b: __m512i) -> __m512i {
        _mm512_xor_si512(a, b)
    }
    #[inline(always)]
    unsafe fn mul_wide(a: __m512i, b: u32) -> [__m512i; 2] {
        const ODD: __mmask16 = 0xAAAA;
        let b = _mm512_set1_epi32(b as i32);
        let (even, odd) = (_mm512_mul_epu32(a, b), _mm512_mul_epu32(_mm512_srli_epi64::<32>(a), b));
        [
            _mm512_mask_blend_epi32(ODD, even, _mm512_slli_epi64::<32>(odd)),
            _mm512_mask_blend_epi32(ODD, _mm512_srli_epi64::<32>(even), odd),
        ]
    }
    #[inline(always)]
    unsafe fn interleave(a: __m512i, b: __m512i) -> [__m512i; 2] {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
        [_mm512_permutex2var_epi32(a, low, b), _mm512_permutex2var_epi32(a, high, b)]
    }
    #[inline(always)]
    unsafe fn even(a: __m512, b: __m512) -> __m512 {
        let order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        _mm512_permutex2var_ps(a, order, b)
    }
    #[inline(always)]
    unsafe fn transpose(square: &mut [__m512; MAX_LANES]) {
        // Columns of four rows, in quarters of the register …
        for four in square.chunks_exact_mut(4) {
            let low = [_mm512_unpacklo_ps(four[0], four[1]), _mm512_unpacklo_ps(four[2], four[3])];
            let high = [_mm512_unpackhi_ps(four[0], four[1]), _mm512_unpackhi_ps(four[2], four[3])];
            for (i, [a, b]) in [low, high].into_iter().enumerate() {
                let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
                four[2 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                four[2 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
        }
        // … then quarter `q` of vectors `i`, `i + 4`, `i + 8`, `i + 12` is column `4·q + i`.
        let quarters = *square;
        for i in 0..4 {
            let [a, b, c, d] = [quarters[i], quarters[i + 4], quarters[i + 8], quarters[i + 12]];
            let (low_ab, high_ab) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
            let (low_cd, high_cd) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xEE>(c, d));
            square[i] = _mm512_shuffle_f32x4::<0x88>(low_ab, low_cd);
            square[i + 4] = _mm512_shuffle_f32x4::<0xDD>(low_ab, low_cd);
            square[i + 8] = _mm512_shuffle_f32x4::<0x88>(high_ab, high_cd);
            square[i + 12] = _mm512_shuffle_f32x4::<0xDD>(high_ab, high_cd);
        }
    }
}
