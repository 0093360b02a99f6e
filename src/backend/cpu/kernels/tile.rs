//! The register-tiled micro-kernel under every matrix product and convolution.
//!
//! It multiplies scalars picked from anywhere with packed rows of one or two vectors:
//!
//! `out[j][·] = Σ_k x[columns[j] + steps[k]] · panel[k][·]`
//!
//! A matrix row, a pixel under a filter tap, or a transposed matrix are only different tables of offsets, so neither
//! operand `x` is ever copied into patches. Up to `ROWS` columns × two vectors are accumulated in registers (14 × 32 with
//! AVX-512: 28 multiply-adds for 16 loads a step, so the multiply-add units are the limit, not the load ports).

use std::ops::Range;

use super::isa::{Isa, Kernel};
use super::simd::Simd;

/// Columns of a tile that are not adjacent, each with an address in a general register: more would not fit.
const SCATTERED_ROWS: usize = 9;

/// Scalars to pick: element `j` of step `k` is `x[columns[j] + steps[k]]`.
#[derive(Clone, Copy)]
pub(crate) struct Picked<'a> {
    pub x: &'a [f32],
    pub columns: &'a [usize],
    pub steps: &'a [usize],
}

/// Lanes in a panel row for `width` outputs: one vector if they fit in it, else two.
pub(crate) fn panel_lanes(isa: Isa, width: usize) -> usize {
    if width <= isa.lanes() {
        isa.lanes()
    } else {
        2 * isa.lanes()
    }
}

/// Writes `out`, `[columns, lanes]`, from `panel`, `[steps, lanes]`; `lanes` is one of [`panel_lanes`].
///
/// # Safety
/// Every `columns[j] + steps[k]` must be inside `x`.
pub(crate) unsafe fn multiply(isa: Isa, picked: Picked, panel: &[f32], lanes: usize, out: &mut [f32]) {
    assert!(panel.len() >= picked.steps.len() * lanes && out.len() >= picked.columns.len() * lanes);
    isa.run(Multiply { picked, panel, lanes, out });
}

struct Multiply<'a> {
    picked: Picked<'a>,
    panel: &'a [f32],
    lanes: usize,
    out: &'a mut [f32],
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let columns = self.picked.columns;
        let even_tiles = |height: usize| {
            let tiles = columns.len().div_ceil(height);
            // Tiles of even height: 16 columns run as 8 + 8, not as 14 + 2.
            (0..tiles).map(move |tile| columns.len() * tile / tiles..columns.len() * (tile + 1) / tiles)
        };
        let tall = even_tiles(S::ROWS).all(|tile| adjacent(&columns[tile]));
        let height = if tall { S::ROWS } else { S::ROWS.min(SCATTERED_ROWS) };
        for tile in even_tiles(height) {
            let Range { start, end } = tile;
            let picked = Picked { columns: &columns[start..end], ..self.picked };
            let out = self.out.as_mut_ptr().add(start * self.lanes);
            if self.lanes == S::LANES {
                by_height::<S, 1>(picked, self.panel.as_ptr(), out);
            } else {
                by_height::<S, 2>(picked, self.panel.as_ptr(), out);
            }
        }
    }
}

fn adjacent(columns: &[usize]) -> bool {
    columns.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

/// Chooses the tile compiled for this many columns.
#[inline(always)]
unsafe fn by_height<S: Simd, const NV: usize>(picked: Picked, panel: *const f32, out: *mut f32) {
    let adjacent = adjacent(picked.columns);
    macro_rules! heights {
        ($($height:literal)*) => {
            match picked.columns.len() {
                $($height if $height <= S::ROWS && adjacent => tile::<S, $height, NV, true>(picked, panel, out),)*
                $($height if $height <= S::ROWS && $height <= SCATTERED_ROWS => {
                    tile::<S, $height, NV, false>(picked, panel, out)
                })*
                _ => unreachable!("a tile has 1 to {} columns", S::ROWS),
            }
        };
    }
    heights!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// One tile of `J` columns by `NV` vectors. `ADJACENT` columns need one address instead of `J`.
#[inline(always)]
unsafe fn tile<S: Simd, const J: usize, const NV: usize, const ADJACENT: bool>(
    picked: Picked,
    panel: *const f32,
    out: *mut f32,
) {
    let base: [*const f32; J] = std::array::from_fn(|j| picked.x.as_ptr().add(picked.columns[j]));
    let mut acc = [[S::zero(); NV]; J];
    let mut row = panel;
    for &step in picked.steps {
        let mut b = [S::zero(); NV];
        for v in 0..NV {
            b[v] = S::load(row.add(v * S::LANES));
        }
        for j in 0..J {
            let a = S::splat(if ADJACENT { *base[0].add(step + j) } else { *base[j].add(step) });
            for v in 0..NV {
                acc[j][v] = S::fma(a, b[v], acc[j][v]);
            }
        }
        row = row.add(NV * S::LANES);
    }
    for j in 0..J {
        for v in 0..NV {
            S::store(out.add((j * NV + v) * S::LANES), acc[j][v]);
        }
    }
}
