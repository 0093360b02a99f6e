//! Softmax and log-softmax over rows `[rows, columns]`, with a temperature: `softmax(x / T)`.
//!
//! Each row: its maximum, the sum of `exp((x − max) / T)` in vector lanes, the result. Rows are independent tasks.

use super::isa::{self, Isa, Kernel};
use super::parallel::{elements_ns, for_each, Disjoint};
use super::simd::{exp, for_each_vector, Simd};

/// Rows × columns in one task, about.
const TASK: usize = 4096;

/// Rows that make one task of a row kernel.
pub(crate) fn rows_per_task(columns: usize) -> usize {
    (TASK / columns.max(1)).max(1)
}

/// `y = softmax(x / temperature)` along rows.
///
/// # Panics
/// When lengths differ or are not whole rows.
pub fn softmax(x: &[f32], columns: usize, temperature: f32, y: &mut [f32]) {
    rows(x, columns, y, 6, |isa, x, y| isa.run(Softmax { x, inverse: 1.0 / temperature, y }));
}

/// `y = log_softmax(x / temperature)` along rows.
///
/// # Panics
/// When lengths differ or are not whole rows.
pub fn log_softmax(x: &[f32], columns: usize, temperature: f32, y: &mut [f32]) {
    rows(x, columns, y, 4, |isa, x, y| {
        let inverse = 1.0 / temperature;
        let Normaliser { max, log_sum } = isa.run(Normalise { x, inverse });
        isa.vectorise(|| y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - max) * inverse - log_sum));
    });
}

/// `dx = y·(dy − Σ y·dy) / temperature` along rows, from the output `y` of [`softmax`]; `grad` holds `dy`, then `dx`.
///
/// # Panics
/// When lengths differ or are not whole rows.
pub fn softmax_backward(y: &[f32], columns: usize, temperature: f32, grad: &mut [f32]) {
    rows(y, columns, grad, 2, |isa, y, grad| {
        let inner = super::vector::dot(isa, y, grad);
        let inverse = 1.0 / temperature;
        isa.vectorise(|| grad.iter_mut().zip(y).for_each(|(grad, y)| *grad = y * (*grad - inner) * inverse));
    });
}

/// `dx = (dy − softmax·Σ dy) / temperature` along rows, from the output `y` of [`log_softmax`]; `grad` holds `dy`, then
/// `dx`.
///
/// # Panics
/// When lengths differ or are not whole rows.
pub fn log_softmax_backward(y: &[f32], columns: usize, temperature: f32, grad: &mut [f32]) {
    rows(y, columns, grad, 4, |isa, y, grad| {
        let total = super::vector::sum(isa, grad);
        isa.run(LogSoftmaxBackward { y, total, inverse: 1.0 / temperature, grad });
    });
}

/// Runs `kernel` on every row; `cost` is its price in elementwise passes.
fn rows(x: &[f32], columns: usize, y: &mut [f32], cost: usize, kernel: impl Fn(Isa, &[f32], &mut [f32]) + Sync) {
    assert_eq!(x.len(), y.len(), "softmax: input and output of one length");
    if x.is_empty() {
        return;
    }
    assert_eq!(x.len() % columns, 0, "softmax: whole rows of {columns}");
    let isa = isa::active();
    let span = rows_per_task(columns) * columns;
    let len = x.len();
    let y = Disjoint::new(y);
    for_each(len.div_ceil(span), cost * elements_ns(len), |task| {
        let range = task * span..len.min((task + 1) * span);
        // SAFETY: each task has its own rows.
        let y = unsafe { y.range(range.clone()) };
        x[range].chunks_exact(columns).zip(y.chunks_exact_mut(columns)).for_each(|(x, y)| kernel(isa, x, y));
    });
}

/// What turns a logit into a log-probability: `(x − max)·inverse − log_sum`.
struct Normaliser {
    max: f32,
    log_sum: f32,
}

/// The index of the largest element of each row, the first of equals. A NaN is never larger, but nothing is larger than a NaN in
/// front.
///
/// # Panics
/// When there is not one index per row.
pub fn argmax(x: &[f32], columns: usize, index: &mut [i32]) {
    assert_eq!(x.len(), index.len() * columns, "argmax: one index for each row of {columns}");
    let isa = isa::active();
    let (rows, span) = (index.len(), rows_per_task(columns));
    let index = Disjoint::new(index);
    for_each(rows.div_ceil(span), 2 * elements_ns(x.len()), |task| {
        let range = task * span..rows.min((task + 1) * span);
        let rows = x[range.start * columns..range.end * columns].chunks_exact(columns);
        // SAFETY: each task has its own rows.
        let index = unsafe { index.range(range) };
        index.iter_mut().zip(rows).for_each(|(index, row)| *index = isa.run(Argmax(row)) as i32);
    });
}

struct Argmax<'a>(&'a [f32]);

impl Kernel for Argmax<'_> {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        let row = self.0;
        if row.first().is_none_or(|x| x.is_nan()) {
            return 0;
        }
        let max = largest::<S>(row);
        row.iter().position(|&x| x == max).unwrap_or(0)
    }
}

/// The largest element of a row but for NaN, in four vectors of partial maxima.
#[inline(always)]
pub(crate) unsafe fn largest<S: Simd>(x: &[f32]) -> f32 {
    const CHAINS: usize = 4;
    let (whole, lowest) = (x.len() - x.len() % (CHAINS * S::LANES), S::splat(f32::NEG_INFINITY));
    let mut max = [lowest; CHAINS];
    for i in (0..whole).step_by(CHAINS * S::LANES) {
        for (chain, max) in max.iter_mut().enumerate() {
            *max = S::max(S::load(x.as_ptr().add(i + chain * S::LANES)), *max);
        }
    }
    let rest = &x[whole..];
    for_each_vector!(S, rest.len(), |i, n| {
        max[0] = S::max(S::load_first(rest.as_ptr().add(i), n, f32::NEG_INFINITY), max[0]);
    });
    S::largest(S::max(S::max(max[0], max[1]), S::max(max[2], max[3])))
}

/// `Σ exp((x − max)·inverse)`.
#[inline(always)]
unsafe fn sum_of_exponentials<S: Simd>(x: &[f32], max: f32, inverse: f32) -> f32 {
    let mut sum = S::zero();
    for_each_vector!(S, x.len(), |i, n| {
        sum = S::add(sum, exponential::<S>(x.as_ptr().add(i), n, max, inverse));
    });
    S::sum(sum)
}

/// `y = exp((x − max)·inverse)`; returns the sum.
#[inline(always)]
pub(crate) unsafe fn exponentials<S: Simd>(x: &[f32], max: f32, inverse: f32, y: &mut [f32]) -> f32 {
    let mut sum = S::zero();
    for_each_vector!(S, x.len(), |i, n| {
        let e = exponential::<S>(x.as_ptr().add(i), n, max, inverse);
        sum = S::add(sum, e);
        S::store_first(y.as_mut_ptr().add(i), e, n);
    });
    S::sum(sum)
}

/// `exp((x − max)·inverse)` of the first `n` lanes, and zeros.
#[inline(always)]
unsafe fn exponential<S: Simd>(x: *const f32, n: usize, max: f32, inverse: f32) -> S::V {
    let x = S::load_first(x, n, f32::NEG_INFINITY);
    exp::<S>(S::mul(S::sub(x, S::splat(max)), S::splat(inverse)))
}

struct Normalise<'a> {
    x: &'a [f32],
    inverse: f32,
}

impl Kernel for Normalise<'_> {
    type Output = Normaliser;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Normaliser {
        let max = largest::<S>(self.x);
        Normaliser { max, log_sum: sum_of_exponentials::<S>(self.x, max, self.inverse).ln() }
    }
}

struct Softmax<'a> {
    x: &'a [f32],
    inverse: f32,
    y: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let max = largest::<S>(self.x);
        let scale = 1.0 / exponentials::<S>(self.x, max, self.inverse, self.y);
        self.y.iter_mut().for_each(|y| *y *= scale);
    }
}

struct LogSoftmaxBackward<'a> {
    y: &'a [f32],
    total: f32,
    inverse: f32,
    grad: &'a mut [f32],
}

impl Kernel for LogSoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (total, inverse) = (S::splat(self.total), S::splat(self.inverse));
        for_each_vector!(S, self.y.len(), |i, n| {
            let p = exp::<S>(S::load_first(self.y.as_ptr().add(i), n, 0.0));
            let grad = self.grad.as_mut_ptr().add(i);
            let dy = S::load_first(grad, n, 0.0);
            S::store_first(grad, S::mul(S::sub(dy, S::mul(p, total)), inverse), n);
        });
    }
}
