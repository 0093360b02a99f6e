//! Matrix products `C = A·B`, with transposed operands, accumulation, bias and ReLU.
//!
//! `B` is packed once into panels of 16 or 32 columns; `A` is read in place through the tables of `super::tile`. A task
//! is one panel times a band of rows, its result passes through a buffer in L1 where bias and ReLU are applied. A single
//! row (batch-1 inference) would not repay the packing and goes to a matrix-vector kernel bound by memory.

use super::isa::{self, Isa};
use super::parallel::{flops_ns, for_each, Disjoint};
use super::scratch::take;
use super::tile::{multiply, panel_lanes, Picked};
use super::transpose::transpose;
use super::vector;
use super::weights::{Kind, Weights};

/// Rows of `C` in one task.
const BAND: usize = 56;
/// Outputs of a matrix-vector task.
const SEGMENT: usize = 32;

/// A bias added to every element of `C`.
#[derive(Clone, Copy, Debug, Default)]
pub enum Bias<'a> {
    /// No bias.
    #[default]
    None,
    /// `bias[n]`, one per column: the bias of a linear layer.
    PerColumn(&'a [f32]),
    /// `bias[m]`, one per row.
    PerRow(&'a [f32]),
}

/// The shape of a product and what happens to its result.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gemm<'a> {
    /// Rows of `C`.
    pub m: usize,
    /// Columns of `C`.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// `A` is stored `[k, m]` instead of `[m, k]`.
    pub trans_a: bool,
    /// `B` is stored `[n, k]` instead of `[k, n]`.
    pub trans_b: bool,
    /// Add to `C` instead of overwriting it.
    pub accumulate: bool,
    /// Added after the product.
    pub bias: Bias<'a>,
    /// Clip the result at zero, last.
    pub relu: bool,
}

/// `C[m, n] = relu(A·B + C if accumulate + bias)`, each part as [`Gemm`] says.
///
/// # Panics
/// When a slice does not have the length its shape implies.
pub fn gemm<'a>(shape: &Gemm, a: &[f32], b: impl Into<Weights<'a>>, c: &mut [f32]) {
    let &Gemm { m, n, k, bias, .. } = shape;
    let b = b.into();
    assert_eq!(a.len(), m * k, "gemm: a must hold m·k = {m}·{k} elements");
    assert_eq!(b.values.len(), k * n, "gemm: b must hold k·n = {k}·{n} elements");
    assert_eq!(c.len(), m * n, "gemm: c must hold m·n = {m}·{n} elements");
    match bias {
        Bias::None => {}
        Bias::PerColumn(bias) => assert_eq!(bias.len(), n, "gemm: one bias per column, n = {n}"),
        Bias::PerRow(bias) => assert_eq!(bias.len(), m, "gemm: one bias per row, m = {m}"),
    }
    match m {
        0 => {}
        1 => matrix_vector(isa::active(), shape, a, b.values, c),
        _ => tiled(isa::active(), shape, a, b, c),
    }
}

/// `batch` independent products: `a` is `[batch, m, k]`, `b` `[batch, k, n]`, `c` `[batch, m, n]`; the bias is shared.
///
/// # Panics
/// When a slice does not have the length its shape implies.
pub fn gemm_batched(shape: &Gemm, batch: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    let &Gemm { m, n, k, .. } = shape;
    assert_eq!(a.len(), batch * m * k, "gemm_batched: a must hold batch·m·k = {batch}·{m}·{k} elements");
    assert_eq!(b.len(), batch * k * n, "gemm_batched: b must hold batch·k·n = {batch}·{k}·{n} elements");
    assert_eq!(c.len(), batch * m * n, "gemm_batched: c must hold batch·m·n = {batch}·{m}·{n} elements");
    let isa = isa::active();
    let c = Disjoint::new(c);
    for_each(batch, flops_ns(2 * batch * m * n * k), |i| {
        // SAFETY: each task has its own matrix.
        let c = unsafe { c.range(i * m * n..(i + 1) * m * n) };
        isa::with(isa, || gemm(shape, &a[i * m * k..][..m * k], &b[i * k * n..][..k * n], c));
    });
}

fn tiled(isa: Isa, shape: &Gemm, a: &[f32], b: Weights, c: &mut [f32]) {
    let &Gemm { m, n, k, .. } = shape;
    let work = flops_ns(2 * m * n * k);
    let lanes = panel_lanes(isa, n);
    let panels = n.div_ceil(lanes);
    let packed = b.derive(Kind::Panels, isa, [n, k, shape.trans_b.into(), 0, 0, 0], || {
        let mut packed = take::<f32>(panels * k * lanes);
        pack(isa, shape, b.values, lanes, &mut packed, work);
        packed
    });

    let (row_stride, step) = if shape.trans_a { (1, m) } else { (k, 1) };
    let mut columns = take::<usize>(m);
    columns.iter_mut().enumerate().for_each(|(i, column)| *column = i * row_stride);
    let mut steps = take::<usize>(k);
    steps.iter_mut().enumerate().for_each(|(i, offset)| *offset = i * step);

    let bands = m.div_ceil(BAND);
    let c = Disjoint::new(c);
    for_each(panels * bands, work, |task| {
        let (panel, band) = (task / bands, task % bands);
        let rows = band * BAND..m.min((band + 1) * BAND);
        let columns = &columns[rows.clone()];
        let mut out = take::<f32>(columns.len() * lanes);
        let picked = Picked { x: a, columns, steps: &steps };
        // SAFETY: row and step offsets enumerate exactly the m·k elements of `a`.
        unsafe { multiply(isa, picked, &packed[panel * k * lanes..][..k * lanes], lanes, &mut out) };
        let first = panel * lanes;
        let width = lanes.min(n - first);
        for (row, out) in rows.zip(out.chunks_exact(lanes)) {
            // SAFETY: each task has its own rows and columns of `c`.
            let c = unsafe { c.range(row * n + first..row * n + first + width) };
            isa.vectorise(|| finish(shape, row, first, &out[..width], c));
        }
    });
}

/// Copies `B` into panels `[panel][k][lanes]`, zero beyond column `n`.
fn pack(isa: Isa, shape: &Gemm, b: &[f32], lanes: usize, packed: &mut [f32], work: usize) {
    let &Gemm { n, k, .. } = shape;
    let packed = Disjoint::new(packed);
    for_each(n.div_ceil(lanes), work / 8, |panel| {
        let first = panel * lanes;
        let width = lanes.min(n - first);
        // SAFETY: each task has its own panel.
        let packed = unsafe { packed.range(panel * k * lanes..(panel + 1) * k * lanes) };
        if width < lanes {
            packed.fill(0.0);
        }
        if shape.trans_b {
            transpose(isa, [width, k], (&b[first * k..], k), (packed, lanes));
        } else {
            for (row, packed) in packed.chunks_exact_mut(lanes).enumerate() {
                packed[..width].copy_from_slice(&b[row * n + first..][..width]);
            }
        }
    });
}

/// Adds the old value, the bias and the ReLU to a run of products, and stores it in `c`.
#[inline(always)]
fn finish(shape: &Gemm, row: usize, first: usize, products: &[f32], c: &mut [f32]) {
    if shape.accumulate {
        c.iter_mut().zip(products).for_each(|(c, p)| *c += p);
    } else {
        c.copy_from_slice(products);
    }
    match shape.bias {
        Bias::None => {}
        Bias::PerColumn(bias) => c.iter_mut().zip(&bias[first..]).for_each(|(c, b)| *c += b),
        Bias::PerRow(bias) => c.iter_mut().for_each(|c| *c += bias[row]),
    }
    if shape.relu {
        c.iter_mut().for_each(|c| *c = vector::relu(*c));
    }
}

/// One row times a matrix, each task a segment of the outputs.
fn matrix_vector(isa: Isa, shape: &Gemm, a: &[f32], b: &[f32], c: &mut [f32]) {
    let &Gemm { n, k, .. } = shape;
    let c = Disjoint::new(c);
    for_each(n.div_ceil(SEGMENT), flops_ns(8 * n * k), |segment| {
        let range = segment * SEGMENT..n.min((segment + 1) * SEGMENT);
        let mut products = [0.0; SEGMENT];
        let products = &mut products[..range.len()];
        if shape.trans_b {
            for (j, product) in range.clone().zip(products.iter_mut()) {
                *product = vector::dot(isa, a, &b[j * k..(j + 1) * k]);
            }
        } else {
            isa.vectorise(|| {
                for (&a, b) in a.iter().zip(b.chunks_exact(n.max(1))) {
                    products.iter_mut().zip(&b[range.clone()]).for_each(|(p, b)| *p += a * b);
                }
            });
        }
        // SAFETY: each task has its own segment of `c`.
        finish(shape, 0, range.start, products, unsafe { c.range(range.clone()) });
    });
}
