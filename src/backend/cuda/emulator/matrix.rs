//! What a warp does with matrices on tensor cores: `ldmatrix` and `mma`, with the layouts of the PTX manual ("Warp-level matrix
//! instructions"), lane by lane.

use super::block::WARP;
use crate::backend::cuda::format::Format;
use half::f16;
use std::fmt;

/// What the lanes of a warp do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatrixOp {
    /// `ldmatrix.x4`: four matrices of 8 × 8 elements of 16 bits.
    Load { transposed: bool },
    /// `mma.m16n8k8` of TF32 or `mma.m16n8k16` of shorter numbers, sums in `f32`.
    Multiply(Format),
}

impl fmt::Display for MatrixOp {
    /// As PTX calls it.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            MatrixOp::Load { transposed: false } => "ldmatrix.x4",
            MatrixOp::Load { transposed: true } => "ldmatrix.x4.trans",
            MatrixOp::Multiply(Format::Tf32) => "mma.m16n8k8",
            MatrixOp::Multiply(Format::Bf16 | Format::F16) => "mma.m16n8k16",
        })
    }
}

/// One lane's part.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lane {
    /// To load: the 16 bytes of the lane's row. To multiply: four registers of a, two of b.
    pub operands: [u32; 6],
    /// The registers of the result; of sums, what they are added to.
    pub result: [u32; 4],
}

/// Carries out what all lanes have come for.
pub(super) fn carry_out(op: MatrixOp, lanes: &mut [Lane; WARP]) {
    match op {
        MatrixOp::Load { transposed } => load(transposed, lanes),
        MatrixOp::Multiply(format) if format.in_a_word() == 1 => multiply::<8>(lanes, format),
        MatrixOp::Multiply(format) => multiply::<16>(lanes, format),
    }
}

/// The number in a part of a register, the lowest first.
pub(super) fn number(format: Format, word: u32, part: usize) -> f32 {
    match format {
        Format::Tf32 => f32::from_bits(word & !0x1fff),
        Format::Bf16 => f32::from_bits(word >> (16 * part) << 16),
        Format::F16 => f16::from_bits((word >> (16 * part)) as u16).to_f32(),
    }
}

/// Lane 8·i + r brings row r of matrix i.
fn load(transposed: bool, lanes: &mut [Lane; WARP]) {
    let rows = lanes.map(|lane| lane.operands);
    let element =
        |matrix: usize, row: usize, column: usize| rows[8 * matrix + row][column / 2] >> (column % 2 * 16) & 0xffff;
    for (l, lane) in lanes.iter_mut().enumerate() {
        let (group, pair) = (l / 4, 2 * (l % 4));
        for (matrix, word) in lane.result.iter_mut().enumerate() {
            let part = |i: usize| match transposed {
                false => element(matrix, group, pair + i),
                true => element(matrix, pair + i, group),
            };
            *word = part(0) | part(1) << 16;
        }
    }
}

/// 16 × 8 sums over K products. Products are exact in `f32`; they are added one by one,
/// in the order of k (the hardware may add in another one, with at least this precision).
fn multiply<const K: usize>(lanes: &mut [Lane; WARP], format: Format) {
    let packed = format.in_a_word();
    let (mut a, mut b) = ([[0.0f32; K]; 16], [[0.0f32; K]; 8]);
    for (l, lane) in lanes.iter().enumerate() {
        let (group, t) = (l / 4, l % 4);
        for part in 0..packed {
            for half in 0..2 {
                let k = half * K / 2 + packed * t + part;
                a[group][k] = number(format, lane.operands[2 * half], part);
                a[group + 8][k] = number(format, lane.operands[2 * half + 1], part);
                b[group][k] = number(format, lane.operands[4 + half], part);
            }
        }
    }
    for (l, lane) in lanes.iter_mut().enumerate() {
        for (i, sum) in lane.result.iter_mut().enumerate() {
            let (row, column) = (l / 4 + i / 2 * 8, l % 4 * 2 + i % 2);
            let products = a[row].iter().zip(&b[column]).map(|(a, b)| a * b);
            *sum = products.fold(f32::from_bits(*sum), |sum, product| sum + product).to_bits();
        }
    }
}
