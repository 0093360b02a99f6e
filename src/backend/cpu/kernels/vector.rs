//! Reductions and scalar functions shared by the kernels. Sums have a fixed shape: lanes, then pairs of lanes.

use super::isa::{Isa, Kernel};
use super::simd::Simd;

/// `max(x, 0)` that keeps NaN, so that a diverging run is noticed.
#[inline(always)]
pub(crate) fn relu(x: f32) -> f32 {
    if 0.0 > x {
        0.0
    } else {
        x
    }
}

/// The winner of a window that ReLU clipped.
pub(crate) const CLIPPED: u8 = 4;

/// ReLU of the largest of four pixels, and if `WINNERS`, which one it was (0–3, the first of equals) or [`CLIPPED`].
///
/// # Safety
/// The machine must have the instruction set of `S`.
#[inline(always)]
pub(crate) unsafe fn best_of_window<S: Simd, const WINNERS: bool>(pixels: [S::V; 4]) -> (S::V, S::V) {
    let (mut best, mut place) = (pixels[0], S::zero());
    for (i, &pixel) in pixels.iter().enumerate().skip(1) {
        if WINNERS {
            place = S::if_greater(pixel, best, S::splat(i as f32), place);
        }
        best = S::max(pixel, best);
    }
    if WINNERS {
        place = S::if_greater(best, S::zero(), place, S::splat(f32::from(CLIPPED)));
    }
    (S::max(S::zero(), best), place)
}

/// `Σ a[i]·b[i]`, in four vectors of partial sums.
pub(crate) fn dot(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    isa.run(Dot { a, b })
}

struct Dot<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        const CHAINS: usize = 4;
        let (a, b, len) = (self.a.as_ptr(), self.b.as_ptr(), self.a.len());
        let mut acc = [S::zero(); CHAINS];
        let mut i = 0;
        while i + CHAINS * S::LANES <= len {
            for (chain, acc) in acc.iter_mut().enumerate() {
                let at = i + chain * S::LANES;
                *acc = S::fma(S::load(a.add(at)), S::load(b.add(at)), *acc);
            }
            i += CHAINS * S::LANES;
        }
        while i < len {
            let n = S::LANES.min(len - i);
            acc[0] = S::fma(S::load_first(a.add(i), n, 0.0), S::load_first(b.add(i), n, 0.0), acc[0]);
            i += n;
        }
        S::sum(S::add(S::add(acc[0], acc[1]), S::add(acc[2], acc[3])))
    }
}

/// `Σ x[i]`, in four vectors of partial sums.
pub(crate) fn sum(isa: Isa, x: &[f32]) -> f32 {
    isa.run(Sum(x))
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        const CHAINS: usize = 4;
        let (x, len) = (self.0.as_ptr(), self.0.len());
        let mut acc = [S::zero(); CHAINS];
        let mut i = 0;
        while i + CHAINS * S::LANES <= len {
            for (chain, acc) in acc.iter_mut().enumerate() {
                *acc = S::add(S::load(x.add(i + chain * S::LANES)), *acc);
            }
            i += CHAINS * S::LANES;
        }
        while i < len {
            let n = S::LANES.min(len - i);
            acc[0] = S::add(S::load_first(x.add(i), n, 0.0), acc[0]);
            i += n;
        }
        S::sum(S::add(S::add(acc[0], acc[1]), S::add(acc[2], acc[3])))
    }
}
