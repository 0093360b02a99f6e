//! Elementwise kernels and the sums that go with them. Plain loops, vectorised by the compiler for each instruction set.

use super::isa::{self, Isa, Kernel};
use super::parallel::{elements_ns, for_each, for_each_chunk, Disjoint, CHUNK};
use super::scratch::take;
use super::simd::Simd;
use super::vector;

/// Columns in one task of a column sum.
const COLUMNS: usize = 64;

/// `y[i] = f(x[i], y[i])`.
fn zip(x: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    assert_eq!(x.len(), y.len(), "elementwise: operands of one length");
    let isa = isa::active();
    let y = Disjoint::new(y);
    for_each_chunk(x.len(), |range| {
        // SAFETY: each task has its own range.
        let y = unsafe { y.range(range.clone()) };
        isa.run(Zip { x: &x[range], y, f: &f });
    });
}

struct Zip<'a, F> {
    x: &'a [f32],
    y: &'a mut [f32],
    f: &'a F,
}

impl<F: Fn(f32, f32) -> f32> Kernel for Zip<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = (self.f)(x, *y);
        }
    }
}

/// `x[i] = f(x[i])`.
fn map(x: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
    let isa = isa::active();
    let len = x.len();
    let x = Disjoint::new(x);
    for_each_chunk(len, |range| {
        // SAFETY: each task has its own range.
        let x = unsafe { x.range(range) };
        isa.run(Map { x, f: &f });
    });
}

struct Map<'a, F> {
    x: &'a mut [f32],
    f: &'a F,
}

impl<F: Fn(f32) -> f32> Kernel for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for x in self.x {
            *x = (self.f)(*x);
        }
    }
}

/// `y = max(x, 0)`; NaN stays NaN.
pub fn relu(x: &[f32], y: &mut [f32]) {
    zip(x, y, |x, _| vector::relu(x));
}

/// `x = max(x, 0)`; NaN stays NaN.
pub fn relu_in_place(x: &mut [f32]) {
    map(x, vector::relu);
}

/// `grad *= [y > 0]`, where `y` is the output (or the input) of the ReLU; the gradient at 0 is 0.
pub fn relu_backward(y: &[f32], grad: &mut [f32]) {
    zip(y, grad, |y, grad| if y > 0.0 { grad } else { 0.0 });
}

/// `y += x`.
pub fn add(x: &[f32], y: &mut [f32]) {
    zip(x, y, |x, y| y + x);
}

/// `y += a·x`.
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    zip(x, y, |x, y| y + a * x);
}

/// `y *= x`.
pub fn multiply(x: &[f32], y: &mut [f32]) {
    zip(x, y, |x, y| y * x);
}

/// `x *= a`.
pub fn scale(a: f32, x: &mut [f32]) {
    map(x, |x| a * x);
}

/// `y = relu(y + bias)` for `y` of `[n, channels, area]`, with either part left out.
///
/// # Panics
/// When `y` is not a whole number of `[channels, area]` or the bias is not one per channel.
pub fn bias_relu(y: &mut [f32], bias: Option<&[f32]>, channels: usize, area: usize, relu: bool) {
    assert!(bias.is_none_or(|bias| bias.len() == channels), "bias_relu: one bias per channel");
    if y.is_empty() {
        return;
    }
    assert_eq!(y.len() % (channels * area), 0, "bias_relu: y of [n, {channels}, {area}]");
    let isa = isa::active();
    let planes = y.len() / area;
    let work = elements_ns(y.len());
    let y = Disjoint::new(y);
    for_each(planes, work, |plane| {
        let bias = bias.map_or(0.0, |bias| bias[plane % channels]);
        // SAFETY: each task has its own plane.
        let y = unsafe { y.range(plane * area..(plane + 1) * area) };
        isa.vectorise(|| {
            if relu {
                y.iter_mut().for_each(|y| *y = vector::relu(*y + bias));
            } else {
                y.iter_mut().for_each(|y| *y += bias);
            }
        });
    });
}

/// `sums[j] = Σ_i x[i, j]` for `x` of `[rows, columns]`: the bias gradient of a linear layer. Rows are added in order.
///
/// # Panics
/// When `x` is not a whole number of rows as long as `sums`.
pub fn column_sums(x: &[f32], sums: &mut [f32]) {
    let columns = sums.len();
    if columns == 0 {
        return;
    }
    assert_eq!(x.len() % columns, 0, "column_sums: rows of {columns}");
    let isa = isa::active();
    let sums = Disjoint::new(sums);
    for_each(columns.div_ceil(COLUMNS), elements_ns(x.len()), |task| {
        let range = task * COLUMNS..columns.min((task + 1) * COLUMNS);
        // SAFETY: each task has its own columns.
        let sums = unsafe { sums.range(range.clone()) };
        isa.vectorise(|| {
            sums.fill(0.0);
            for row in x.chunks_exact(columns) {
                sums.iter_mut().zip(&row[range.clone()]).for_each(|(sum, x)| *sum += x);
            }
        });
    });
}

/// `Σ x[i]`: chunks of fixed size in f32 lanes, added in order in f64.
pub fn sum(x: &[f32]) -> f64 {
    chunked_sum(x, |isa, x| f64::from(vector::sum(isa, x)))
}

/// `Σ x[i]²`: chunks of fixed size in f32 lanes, added in order in f64. Square root of it: the norm for clipping.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    chunked_sum(x, |isa, x| f64::from(vector::dot(isa, x, x)))
}

fn chunked_sum(x: &[f32], of_chunk: impl Fn(Isa, &[f32]) -> f64 + Sync) -> f64 {
    let isa = isa::active();
    let mut sums = take::<f64>(x.len().div_ceil(CHUNK));
    let parts = Disjoint::new(&mut sums);
    for_each_chunk(x.len(), |range| {
        let i = range.start / CHUNK;
        // SAFETY: each task has its own element.
        unsafe { parts.range(i..i + 1)[0] = of_chunk(isa, &x[range]) };
    });
    sums.iter().sum()
}

/// Adds the second, third, … part of `len` elements to the first, in order.
pub(crate) fn add_parts(isa: Isa, parts: &mut [f32], len: usize) {
    if len == 0 {
        return;
    }
    let work = elements_ns(parts.len());
    let (first, others) = parts.split_at_mut(len);
    let first = Disjoint::new(first);
    for_each(len.div_ceil(CHUNK), work, |task| {
        let range = task * CHUNK..len.min((task + 1) * CHUNK);
        // SAFETY: each task has its own range.
        let first = unsafe { first.range(range.clone()) };
        isa.vectorise(|| {
            for part in others.chunks_exact(len) {
                first.iter_mut().zip(&part[range.clone()]).for_each(|(sum, x)| *sum += x);
            }
        });
    });
}
