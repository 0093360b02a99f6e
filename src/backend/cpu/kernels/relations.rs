//! Distances between samples, and attention maps.

use super::isa::{self, Kernel};
use super::parallel::{elements_ns, for_each, Disjoint};
use super::simd::{absolute, exp, for_each_vector, log, Simd};

/// `distances` `[n, n]`: `Σ (a − b)²` of each two rows of `x`, `[n, features]`. Symmetric, and exactly 0 on the diagonal.
///
/// # Panics
/// When `distances` is not one for each two rows.
pub fn pairwise_distances(x: &[f32], features: usize, distances: &mut [f32]) {
    let n = x.len().checked_div(features).unwrap_or_else(|| distances.len().isqrt());
    assert!(x.len() == n * features && distances.len() == n * n, "pairwise_distances: [n, n] of [n, {features}]");
    let isa = isa::active();
    let row = |i: usize| &x[i * features..(i + 1) * features];
    let cells = Disjoint::new(distances);
    for_each(n, elements_ns(n * n * features / 2), |i| {
        for j in i..n {
            let distance = isa.run(SquaredDistance { a: row(i), b: row(j) });
            for cell in [i * n + j, j * n + i] {
                // SAFETY: only the task of the smaller index writes a cell.
                unsafe { cells.range(cell..cell + 1)[0] = distance };
            }
        }
    });
}

struct SquaredDistance<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl Kernel for SquaredDistance<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        const CHAINS: usize = 4;
        let (a, b, len) = (self.a.as_ptr(), self.b.as_ptr(), self.a.len());
        let whole = len - len % (CHAINS * S::LANES);
        let mut sums = [S::zero(); CHAINS];
        for i in (0..whole).step_by(CHAINS * S::LANES) {
            for (chain, sum) in sums.iter_mut().enumerate() {
                let at = i + chain * S::LANES;
                let difference = S::sub(S::load(a.add(at)), S::load(b.add(at)));
                *sum = S::fma(difference, difference, *sum);
            }
        }
        let (a, b) = (a.add(whole), b.add(whole));
        for_each_vector!(S, len - whole, |i, n| {
            let difference = S::sub(S::load_first(a.add(i), n, 0.0), S::load_first(b.add(i), n, 0.0));
            sums[0] = S::fma(difference, difference, sums[0]);
        });
        S::sum(S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3])))
    }
}

/// `dx` `[n, features]` of [`pairwise_distances`] from `dy` `[n, n]`: `Σ_j 2·(dy_ij + dy_ji)·(x_i − x_j)`.
///
/// # Panics
/// When the lengths disagree.
pub fn pairwise_distances_backward(x: &[f32], features: usize, dy: &[f32], dx: &mut [f32]) {
    let n = x.len().checked_div(features).unwrap_or(0);
    assert!(x.len() == dx.len() && (dy.len() == n * n || features == 0), "pairwise_distances: gradient [{n}, {n}]");
    let isa = isa::active();
    let row = |i: usize| &x[i * features..(i + 1) * features];
    let dx = Disjoint::new(dx);
    for_each(n, elements_ns(n * n * features), |i| {
        // SAFETY: each task has its own row.
        let dx = unsafe { dx.range(i * features..(i + 1) * features) };
        dx.fill(0.0);
        isa.vectorise(|| {
            for j in 0..n {
                let weight = 2.0 * (dy[i * n + j] + dy[j * n + i]);
                let differences = row(i).iter().zip(row(j)).map(|(a, b)| a - b);
                dx.iter_mut().zip(differences).for_each(|(dx, difference)| *dx += weight * difference);
            }
        });
    });
}

/// `map` `[n, area]`: `Σ_c |x|^power` of `x`, `[n, channels, area]`.
///
/// # Panics
/// When the lengths disagree.
pub fn attention_map(x: &[f32], [channels, area]: [usize; 2], power: f32, map: &mut [f32]) {
    assert_eq!(x.len(), map.len() * channels, "attention_map: {channels} channels");
    let isa = isa::active();
    let images = map.len() / area.max(1);
    let map = Disjoint::new(map);
    for_each(images, elements_ns(4 * x.len()), |i| {
        let x = &x[i * channels * area..(i + 1) * channels * area];
        // SAFETY: each task has its own image.
        let map = unsafe { map.range(i * area..(i + 1) * area) };
        isa.run(SumOfPowers { x, power, sum: map });
    });
}

/// `sum = Σ |x|^power` over the channels, all in one call: the maps of late layers are a few vectors long.
struct SumOfPowers<'a> {
    x: &'a [f32],
    power: f32,
    sum: &'a mut [f32],
}

impl Kernel for SumOfPowers<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let area = self.sum.len();
        for_each_vector!(S, area, |i, n| {
            let mut sum = S::zero();
            for at in (i..self.x.len()).step_by(area) {
                let x = S::load_first(self.x.as_ptr().add(at), n, 0.0);
                sum = S::add(sum, power::<S>(absolute::<S>(x), self.power));
            }
            S::store_first(self.sum.as_mut_ptr().add(i), sum, n);
        });
    }
}

/// `dx` `[n, channels, area]` of [`attention_map`] from `dy` `[n, area]`: `dy·power·|x|^(power − 1)·sign x`, 0 where x is.
///
/// # Panics
/// When the lengths disagree.
pub fn attention_map_backward(x: &[f32], [channels, area]: [usize; 2], power: f32, dy: &[f32], dx: &mut [f32]) {
    assert!(x.len() == dx.len() && x.len() == dy.len() * channels, "attention_map: {channels} channels");
    let isa = isa::active();
    let images = dy.len() / area.max(1);
    let dx = Disjoint::new(dx);
    for_each(images, elements_ns(4 * x.len()), |image| {
        let range = image * channels * area..(image + 1) * channels * area;
        // SAFETY: each task has its own image.
        let dx = unsafe { dx.range(range.clone()) };
        isa.run(PowerSlope { x: &x[range], power, dy: &dy[image * area..(image + 1) * area], dx });
    });
}

/// `dx` of each channel.
struct PowerSlope<'a> {
    x: &'a [f32],
    power: f32,
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for PowerSlope<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let area = self.dy.len();
        for (x, dx) in self.x.chunks_exact(area).zip(self.dx.chunks_exact_mut(area)) {
            for_each_vector!(S, area, |i, n| {
                let x = S::load_first(x.as_ptr().add(i), n, 0.0);
                let dy = S::mul(S::load_first(self.dy.as_ptr().add(i), n, 0.0), S::splat(self.power));
                let slope = S::mul(dy, power::<S>(absolute::<S>(x), self.power - 1.0));
                let below = S::if_greater(S::zero(), x, S::sub(S::zero(), slope), S::zero());
                S::store_first(dx.as_mut_ptr().add(i), S::if_greater(x, S::zero(), slope, below), n);
            });
        }
    }
}

/// `x^power` for `x >= 0`: products for the powers that attention maps have, else by the logarithm.
#[inline(always)]
unsafe fn power<S: Simd>(x: S::V, power: f32) -> S::V {
    match power {
        0.0 => S::splat(1.0),
        1.0 => x,
        2.0 => S::mul(x, x),
        3.0 => S::mul(x, S::mul(x, x)),
        4.0 => S::mul(S::mul(x, x), S::mul(x, x)),
        _ => exp::<S>(S::mul(S::splat(power), log::<S>(x))),
    }
}
