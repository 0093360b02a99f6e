//! Transposed copies: how every packed layout is made and unmade.

use super::isa::{Isa, Kernel};
use super::simd::{Simd, MAX_LANES};

/// `to[c·to_stride + r] = from[r·from_stride + c]` for `rows × columns` elements.
pub(crate) fn transpose(
    isa: Isa,
    [rows, columns]: [usize; 2],
    (from, from_stride): (&[f32], usize),
    (to, to_stride): (&mut [f32], usize),
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(from.len() >= (rows - 1) * from_stride + columns && to.len() >= (columns - 1) * to_stride + rows);
    isa.run(Transpose { rows, columns, from: from.as_ptr(), from_stride, to: to.as_mut_ptr(), to_stride });
}

struct Transpose {
    rows: usize,
    columns: usize,
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
}

impl Kernel for Transpose {
    type Output = ();

    /// Squares of `LANES × LANES` in registers; at the edges, fewer vectors and lanes of them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for r in (0..self.rows).step_by(S::LANES) {
            let height = S::LANES.min(self.rows - r);
            for c in (0..self.columns).step_by(S::LANES) {
                let width = S::LANES.min(self.columns - c);
                let from = self.from.add(r * self.from_stride + c);
                let to = self.to.add(c * self.to_stride + r);
                let mut square = [S::zero(); MAX_LANES];
                if height == S::LANES && width == S::LANES {
                    for (i, row) in square[..S::LANES].iter_mut().enumerate() {
                        *row = S::load(from.add(i * self.from_stride));
                    }
                    S::transpose(&mut square);
                    for (i, &column) in square[..S::LANES].iter().enumerate() {
                        S::store(to.add(i * self.to_stride), column);
                    }
                } else {
                    for (i, row) in square[..height].iter_mut().enumerate() {
                        *row = S::load_first(from.add(i * self.from_stride), width, 0.0);
                    }
                    S::transpose(&mut square);
                    for (i, &column) in square[..width].iter().enumerate() {
                        S::store_first(to.add(i * self.to_stride), column, height);
                    }
                }
            }
        }
    }
}
