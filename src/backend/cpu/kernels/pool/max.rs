//! Max pooling. Where each maximum came from is carried along as a number in a second vector.

use super::sliding::Padded;
use super::Pool2d;
use crate::backend::cpu::kernels::isa::{self, Kernel};
use crate::backend::cpu::kernels::parallel::{for_each, Disjoint};
use crate::backend::cpu::kernels::simd::{for_each_vector, Simd, MAX_LANES};

/// Up to here `f32` counts pixels exactly.
const EXACT_INTEGERS: usize = 1 << 24;

/// `y` `[planes, out_h, out_w]` and, for each element, the index in its input plane of the maximum it came from (the first
/// of equals). Padding counts as −∞; a NaN wins over everything.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn max_pool(pool: &Pool2d, x: &[f32], y: &mut [f32], index: &mut [u32]) {
    pool.check(x.len(), y.len());
    assert_eq!(index.len(), y.len(), "max_pool: one index per output");
    let isa = isa::active();
    let (area_in, area) = (pool.h * pool.w, pool.out_h() * pool.out_w());
    let (y, index) = (Disjoint::new(y), Disjoint::new(index));
    for_each(pool.planes, pool.work(), |plane| {
        let x = &x[plane * area_in..(plane + 1) * area_in];
        let range = plane * area..(plane + 1) * area;
        // SAFETY: each task has its own plane.
        let (y, index) = unsafe { (y.range(range.clone()), index.range(range)) };
        // Comparisons of vectors do not notice a NaN.
        if area_in > EXACT_INTEGERS || isa.vectorise(|| x.iter().fold(false, |any, x| any | x.is_nan())) {
            one_by_one(pool, x, y, index);
        } else {
            let mut padded = Padded::new(pool, f32::NEG_INFINITY);
            padded.copy(pool, x);
            isa.run(Plane { pool, padded, y, index });
        }
    });
}

fn one_by_one(pool: &Pool2d, x: &[f32], y: &mut [f32], index: &mut [u32]) {
    let outputs = y.iter_mut().zip(index).enumerate();
    for (at, (y, index)) in outputs {
        let (rows, columns) = (pool.window(0, at / pool.out_w()), pool.window(1, at % pool.out_w()));
        (*y, *index) = (f32::NEG_INFINITY, (rows.start * pool.w + columns.start) as u32);
        for row in rows {
            for i in row * pool.w + columns.start..row * pool.w + columns.end {
                if x[i] > *y || (x[i].is_nan() && !y.is_nan()) {
                    (*y, *index) = (x[i], i as u32);
                }
            }
        }
    }
}

struct Plane<'a> {
    pool: &'a Pool2d,
    padded: Padded,
    y: &'a mut [f32],
    index: &'a mut [u32],
}

impl Kernel for Plane<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Plane { pool, padded, y, index } = self;
        let [stride, padding, columns] = [pool.stride[1], pool.padding[1], pool.out_w()];
        let lefts: [f32; MAX_LANES] = std::array::from_fn(|lane| (lane * stride) as f32);
        let lefts = S::load(lefts.as_ptr());
        for row in 0..pool.out_h() {
            let rows = pool.window(0, row);
            let (y, index) = (&mut y[row * columns..][..columns], &mut index[row * columns..][..columns]);
            for_each_vector!(S, columns, |window, n| {
                // Where the left edges are, counted from the plane's first pixel; in the padding that is left of the first.
                let left = S::add(lefts, S::splat((window * stride) as f32 - padding as f32));
                let first = S::add(S::max(left, S::zero()), S::splat((rows.start * pool.w) as f32));
                let (mut best, mut place) = (S::splat(f32::NEG_INFINITY), first);
                for row in rows.clone() {
                    for at in 0..pool.kernel[1] {
                        let x = padded.load::<S>(pool, row, window, at);
                        let here = S::add(left, S::splat((row * pool.w + at) as f32));
                        place = S::if_greater(x, best, here, place);
                        best = S::max(x, best);
                    }
                }
                S::store_first(y.as_mut_ptr().add(window), best, n);
                let mut places = [0.0; MAX_LANES];
                S::store(places.as_mut_ptr(), place);
                index[window..window + n].iter_mut().zip(places).for_each(|(index, place)| *index = place as u32);
            });
        }
    }
}

/// `dx` `[planes, h, w]` from `dy` and the indices of [`max_pool`]; overlapping windows add up.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn max_pool_backward(pool: &Pool2d, dy: &[f32], index: &[u32], dx: &mut [f32]) {
    pool.check(dx.len(), dy.len());
    assert_eq!(index.len(), dy.len(), "max_pool_backward: one index per output");
    let (area_in, area) = (pool.h * pool.w, pool.out_h() * pool.out_w());
    let dx = Disjoint::new(dx);
    for_each(pool.planes, pool.work(), |plane| {
        // SAFETY: each task has its own plane.
        let dx = unsafe { dx.range(plane * area_in..(plane + 1) * area_in) };
        dx.fill(0.0);
        let outputs = plane * area..(plane + 1) * area;
        dy[outputs.clone()].iter().zip(&index[outputs]).for_each(|(dy, &i)| dx[i as usize] += dy);
    });
}
