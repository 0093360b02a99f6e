//! Inner products of rows with rows, both read as they lie in memory: where the sums are long, or the rows come in pieces, nothing has
//! to be packed.
//!
//! A tile is 4 × 4 pairs of rows (4 × 2 with 16 registers): each step of a vector's width loads 8 vectors for 16 multiply-adds, so that
//! the multiply-add units are the limit. At the end, all sums of a tile are added up across their lanes by one transposition.

use super::isa::{Isa, Kernel};
use super::parallel::{flops_ns, for_each, Disjoint};
use super::simd::{for_each_vector, Simd, MAX_LANES};

/// Rows of the first operand in a tile.
const HEIGHT: usize = 4;
/// Rows of the second operand that stay in the first level of cache while the first operand passes by.
const PARTNERS: usize = 8;
/// Rows of the first operand in a task of [`gram`].
const BAND: usize = 4 * HEIGHT;
/// Elements of the rows that one pass takes, about: so long that adding up lanes is little work, so short that rows stay in cache.
pub(super) const STRETCH: usize = 512;

/// Rows of a matrix, in pieces: piece `s` of row `i` starts at `values[first + i · row_step + s · piece_step]`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub values: &'a [f32],
    pub first: usize,
    pub count: usize,
    pub row_step: usize,
    pub piece_step: usize,
}

/// `out[i · stride + j] += Σ a_i · b_j` over `pieces` of `length` elements; with `upper`, only where `j ≥ i`, and anything below.
pub(super) struct Products<'a> {
    pub a: Rows<'a>,
    pub b: Rows<'a>,
    pub pieces: usize,
    pub length: usize,
    pub upper: bool,
    pub out: &'a mut [f32],
    pub stride: usize,
}

impl Products<'_> {
    /// # Panics
    /// There are no rows or no pieces, or something lies outside its slice.
    pub fn add(self, isa: Isa) {
        for rows in [self.a, self.b] {
            let last = rows.first + (rows.count - 1) * rows.row_step + (self.pieces - 1) * rows.piece_step;
            assert!(last + self.length <= rows.values.len(), "products: rows out of bounds");
        }
        assert!((self.a.count - 1) * self.stride + self.b.count <= self.out.len(), "products: results out of bounds");
        isa.run(self);
    }
}

impl Kernel for Products<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let width = if S::MANY_REGISTERS { 4 } else { 2 };
        for first in (0..self.b.count).step_by(PARTNERS) {
            let partners = first..self.b.count.min(first + PARTNERS);
            for i in (0..self.a.count).step_by(HEIGHT) {
                for j in partners.clone().step_by(width) {
                    if self.upper && j + width <= i {
                        continue;
                    }
                    if S::MANY_REGISTERS {
                        self.tile::<S, 4>(i, j);
                    } else {
                        self.tile::<S, 2>(i, j);
                    }
                }
            }
        }
    }
}

impl Products<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const WIDTH: usize>(&mut self, i: usize, j: usize) {
        // Beyond the last row, the last row stands in.
        let row = |rows: &Rows, i: usize| rows.values.as_ptr().add(rows.first + i.min(rows.count - 1) * rows.row_step);
        let mut a: [*const f32; HEIGHT] = std::array::from_fn(|k| row(&self.a, i + k));
        let mut b: [*const f32; WIDTH] = std::array::from_fn(|k| row(&self.b, j + k));
        let mut sums = [[S::zero(); WIDTH]; HEIGHT];
        for _ in 0..self.pieces {
            for_each_vector!(S, self.length, |at, n| {
                let mut vb = [S::zero(); WIDTH];
                for k in 0..WIDTH {
                    vb[k] = S::load_first(b[k].add(at), n, 0.0);
                }
                for h in 0..HEIGHT {
                    let va = S::load_first(a[h].add(at), n, 0.0);
                    for k in 0..WIDTH {
                        sums[h][k] = S::fma(va, vb[k], sums[h][k]);
                    }
                }
            });
            a = a.map(|p| p.wrapping_add(self.a.piece_step));
            b = b.map(|p| p.wrapping_add(self.b.piece_step));
        }
        let mut totals = [0.0; HEIGHT * 4];
        totals_of::<S>(sums.as_flattened(), &mut totals);
        for (k, totals) in totals.chunks_exact(WIDTH).take(HEIGHT.min(self.a.count - i)).enumerate() {
            let out = &mut self.out[(i + k) * self.stride + j..][..WIDTH.min(self.b.count - j)];
            out.iter_mut().zip(totals).for_each(|(out, total)| *out += total);
        }
    }
}

/// The sum of each vector's lanes.
#[inline(always)]
unsafe fn totals_of<S: Simd>(vectors: &[S::V], totals: &mut [f32]) {
    for (vectors, totals) in vectors.chunks(S::LANES).zip(totals.chunks_mut(S::LANES)) {
        let mut square = [S::zero(); MAX_LANES];
        square[..vectors.len()].copy_from_slice(vectors);
        S::transpose(&mut square);
        let mut half = S::LANES / 2;
        while half > 0 {
            for k in 0..half {
                square[k] = S::add(square[k], square[k + half]);
            }
            half /= 2;
        }
        S::store_first(totals.as_mut_ptr(), square[0], S::LANES.min(totals.len()));
    }
}

/// `y` `[n, n]`: the inner products of all pairs of rows of `x`, `[n, features]`. Symmetric to the bit.
///
/// # Panics
/// When `y` is not one for each two rows.
pub fn gram(x: &[f32], features: usize, y: &mut [f32]) {
    let n = y.len().isqrt();
    assert!(y.len() == n * n && x.len() == n * features, "gram: [n, n] of [n, {features}]");
    let isa = super::isa::active();
    y.fill(0.0);
    let bands = Disjoint::new(y);
    for_each(n.div_ceil(BAND), flops_ns(n * n * features), |band| {
        let first = band * BAND;
        let count = BAND.min(n - first);
        // SAFETY: each task has its own rows.
        let out = unsafe { bands.range(first * n..(first + count) * n) };
        for start in (0..features).step_by(STRETCH) {
            let rows =
                |count| Rows { values: x, first: first * features + start, count, row_step: features, piece_step: 0 };
            let (a, b) = (rows(count), rows(n - first));
            let length = STRETCH.min(features - start);
            Products { a, b, pieces: 1, length, upper: true, out: &mut out[first..], stride: n }.add(isa);
        }
    });
    for i in 1..n {
        for j in 0..i {
            y[i * n + j] = y[j * n + i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::{with, Isa};
    use super::gram;

    #[test]
    fn all_pairs_of_rows_are_multiplied() {
        for (n, features) in [(1, 1), (2, 3), (5, 16), (7, 33), (33, 100), (40, 1100)] {
            let x: Vec<f32> = (0..n * features).map(|i| ((i * 7919) % 13) as f32 - 6.0).collect();
            for isa in Isa::available() {
                let mut y = vec![f32::NAN; n * n];
                with(isa, || gram(&x, features, &mut y));
                for (i, j) in (0..n * n).map(|at| (at / n, at % n)) {
                    let pairs = x[i * features..][..features].iter().zip(&x[j * features..][..features]);
                    // Small whole numbers: every order of additions gives the same.
                    assert_eq!(
                        y[i * n + j],
                        pairs.map(|(a, b)| a * b).sum::<f32>(),
                        "{isa:?} [{n}, {features}] {i} {j}"
                    );
                }
            }
        }
    }
}
