//! Softmax and the losses built on it. Sums run in `f64`; exponents are taken of differences to the row's maximum, so that
//! nothing overflows.

use crate::backend::params::{CrossEntropy, IGNORE_INDEX};
use crate::tensor::{Real, Tensor};

/// `log softmax(row / temperature)`.
pub(super) fn log_softmax<T: Real>(row: &[T], temperature: f64) -> Vec<f64> {
    let max = row.iter().map(|z| z.wide()).fold(f64::NEG_INFINITY, f64::max);
    let shifted: Vec<f64> = row.iter().map(|z| (z.wide() - max) / temperature).collect();
    let log_sum = shifted.iter().map(|z| z.exp()).sum::<f64>().ln();
    shifted.into_iter().map(|z| z - log_sum).collect()
}

/// The length of a row: the last extent.
pub(super) fn width(x: &Tensor) -> usize {
    x.shape().last().copied().unwrap_or(1).max(1)
}

pub(super) fn softmax<T: Real>(x: &Tensor, temperature: f64, log: bool) -> Tensor {
    let width = width(x);
    Tensor::build(*x.shape(), x.device(), |out: &mut [T]| {
        for (out, row) in out.chunks_mut(width).zip(x.slice::<T>().chunks(width)) {
            for (out, log_p) in out.iter_mut().zip(log_softmax(row, temperature)) {
                *out = T::of(if log { log_p } else { log_p.exp() });
            }
        }
    })
}

pub(super) fn softmax_grad<T: Real>(y: &Tensor, dy: &Tensor, temperature: f64, log: bool) -> Tensor {
    let width = width(y);
    Tensor::build(*y.shape(), y.device(), |dx: &mut [T]| {
        let rows = y.slice::<T>().chunks(width).zip(dy.slice::<T>().chunks(width));
        for (dx, (y, dy)) in dx.chunks_mut(width).zip(rows) {
            let weight = |y: &T| if log { 1.0 } else { y.wide() };
            let sum: f64 = y.iter().zip(dy).map(|(y, dy)| weight(y) * dy.wide()).sum();
            for (dx, (y, dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
                let d = if log { dy.wide() - y.wide().exp() * sum } else { y.wide() * (dy.wide() - sum) };
                *dx = T::of(d / temperature);
            }
        }
    })
}

/// How many samples count.
fn counted(labels: &[i32]) -> f64 {
    labels.iter().filter(|&&label| label != IGNORE_INDEX).count().max(1) as f64
}

pub(super) fn cross_entropy<T: Real>(p: CrossEntropy, logits: &Tensor, labels: &Tensor) -> (Tensor, Tensor) {
    let (classes, labels) = (width(logits), labels.slice::<i32>());
    let (samples, smoothing) = (counted(labels), p.label_smoothing);
    let mut loss = 0.0;
    let grad = Tensor::build(*logits.shape(), logits.device(), |grad: &mut [T]| {
        grad.fill(T::zero());
        for ((grad, row), &label) in grad.chunks_mut(classes).zip(logits.slice::<T>().chunks(classes)).zip(labels) {
            if label == IGNORE_INDEX {
                continue;
            }
            let log_p = log_softmax(row, 1.0);
            let mean_log_p = log_p.iter().sum::<f64>() / classes as f64;
            loss -= (1.0 - smoothing) * log_p[label as usize] + smoothing * mean_log_p;
            for (class, (grad, log_p)) in grad.iter_mut().zip(&log_p).enumerate() {
                let hit = if class == label as usize { 1.0 - smoothing } else { 0.0 };
                *grad = T::of((log_p.exp() - hit - smoothing / classes as f64) / samples);
            }
        }
    });
    (super::scalar(T::of(loss / samples), logits.device()), grad)
}

pub(super) fn argmax<T: Real>(x: &Tensor) -> Tensor {
    let width = width(x);
    let shape = x.shape().reduced(&[x.shape().rank() - 1], false);
    Tensor::build(shape, x.device(), |out: &mut [i32]| {
        for (out, row) in out.iter_mut().zip(x.slice::<T>().chunks(width)) {
            *out = (1..width).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as i32;
        }
    })
}
