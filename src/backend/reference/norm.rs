//! Batch and layer normalisation. Both normalise groups of elements: a channel's, or a row's.

use crate::backend::params::BatchNormOutput;
use crate::tensor::{Real, Shape, Tensor};

/// Mean and biased variance.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    (mean, values.map(|x| (x - mean).powi(2)).sum::<f64>() / count)
}

/// Channels, and the channel of an element of `[n, c, …]`.
fn channels(x: &Tensor) -> (usize, impl Fn(usize) -> usize + Copy) {
    let (c, inner) = (x.shape()[1], x.shape()[2..].iter().product::<usize>());
    (c, move |i| i / inner.max(1) % c)
}

fn vector<T: Real>(values: &[f64], like: &Tensor) -> Tensor {
    Tensor::build(Shape::from([values.len()]), like.device(), |out: &mut [T]| {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = T::of(value);
        }
    })
}

pub(super) fn batch_norm<T: Real>(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> BatchNormOutput {
    let (c, channel) = channels(x);
    let values = x.slice::<T>();
    let of_channel = |k: usize| (0..values.len()).filter(move |&i| channel(i) == k).map(|i| values[i].wide());
    let statistics: Vec<(f64, f64)> = (0..c).map(|k| moments(of_channel(k))).collect();
    let rstd: Vec<f64> = statistics.iter().map(|(_, var)| (var + eps).sqrt().recip()).collect();
    let (weight, bias) = (weight.slice::<T>(), bias.slice::<T>());
    let y = Tensor::build(*x.shape(), x.device(), |y: &mut [T]| {
        for (i, y) in y.iter_mut().enumerate() {
            let k = channel(i);
            *y = T::of((values[i].wide() - statistics[k].0) * rstd[k] * weight[k].wide() + bias[k].wide());
        }
    });
    let mean: Vec<f64> = statistics.iter().map(|(mean, _)| *mean).collect();
    let var: Vec<f64> = statistics.iter().map(|(_, var)| *var).collect();
    BatchNormOutput { y, mean: vector::<T>(&mean, x), var: vector::<T>(&var, x), rstd: vector::<T>(&rstd, x) }
}

pub(super) fn batch_norm_grad<T: Real>(
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
) -> [Tensor; 3] {
    let (c, channel) = channels(x);
    let groups = Groups { count: c, size: x.numel() / c.max(1), group: channel };
    let (values, dy_values) = (x.slice::<T>(), dy.slice::<T>());
    let (mean, rstd, weight) = (mean.slice::<T>(), rstd.slice::<T>(), weight.slice::<T>());
    let normalised = |i: usize| (values[i].wide() - mean[channel(i)].wide()) * rstd[channel(i)].wide();
    let sums = groups.sums(values.len(), |i| [dy_values[i].wide(), dy_values[i].wide() * normalised(i)]);
    let count = groups.size as f64;
    let dx = Tensor::build(*x.shape(), x.device(), |dx: &mut [T]| {
        for (i, dx) in dx.iter_mut().enumerate() {
            let k = channel(i);
            let centred = dy_values[i].wide() - sums[k][0] / count - normalised(i) * sums[k][1] / count;
            *dx = T::of(weight[k].wide() * rstd[k].wide() * centred);
        }
    });
    let column = |j: usize| sums.iter().map(|s| s[j]).collect::<Vec<f64>>();
    [dx, vector::<T>(&column(1), x), vector::<T>(&column(0), x)]
}

/// Elements that are normalised together.
struct Groups<F: Fn(usize) -> usize> {
    count: usize,
    size: usize,
    group: F,
}

impl<F: Fn(usize) -> usize> Groups<F> {
    /// Two sums over each group.
    fn sums(&self, elements: usize, of: impl Fn(usize) -> [f64; 2]) -> Vec<[f64; 2]> {
        let mut sums = vec![[0.0; 2]; self.count];
        for i in 0..elements {
            let [a, b] = of(i);
            let sum = &mut sums[(self.group)(i)];
            *sum = [sum[0] + a, sum[1] + b];
        }
        sums
    }
}

pub(super) fn layer_norm<T: Real>(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> [Tensor; 3] {
    let width = weight.numel();
    let (values, weight, bias) = (x.slice::<T>(), weight.slice::<T>(), bias.slice::<T>());
    let statistics: Vec<(f64, f64)> = values.chunks(width).map(|row| moments(row.iter().map(|v| v.wide()))).collect();
    let mean: Vec<f64> = statistics.iter().map(|(mean, _)| *mean).collect();
    let rstd: Vec<f64> = statistics.iter().map(|(_, var)| (var + eps).sqrt().recip()).collect();
    let y = Tensor::build(*x.shape(), x.device(), |y: &mut [T]| {
        for (i, y) in y.iter_mut().enumerate() {
            let (row, column) = (i / width, i % width);
            let normalised = (values[i].wide() - mean[row]) * rstd[row];
            *y = T::of(normalised * weight[column].wide() + bias[column].wide());
        }
    });
    [y, vector::<T>(&mean, x), vector::<T>(&rstd, x)]
}

pub(super) fn layer_norm_grad<T: Real>(
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
) -> [Tensor; 3] {
    let (width, rows) = (weight.numel(), mean.numel());
    let (values, dy_values) = (x.slice::<T>(), dy.slice::<T>());
    let (mean, rstd, weight) = (mean.slice::<T>(), rstd.slice::<T>(), weight.slice::<T>());
    let normalised = |i: usize| (values[i].wide() - mean[i / width].wide()) * rstd[i / width].wide();
    let scaled = |i: usize| dy_values[i].wide() * weight[i % width].wide();
    let by_row = Groups { count: rows, size: width, group: |i| i / width };
    let by_column = Groups { count: width, size: rows, group: |i| i % width };
    let row_sums = by_row.sums(values.len(), |i| [scaled(i), scaled(i) * normalised(i)]);
    let column_sums = by_column.sums(values.len(), |i| [dy_values[i].wide() * normalised(i), dy_values[i].wide()]);
    let count = by_row.size as f64;
    let dx = Tensor::build(*x.shape(), x.device(), |dx: &mut [T]| {
        for (i, dx) in dx.iter_mut().enumerate() {
            let row = i / width;
            let centred = scaled(i) - row_sums[row][0] / count - normalised(i) * row_sums[row][1] / count;
            *dx = T::of(rstd[row].wide() * centred);
        }
    });
    let column = |j: usize| column_sums.iter().map(|s| s[j]).collect::<Vec<f64>>();
    [dx, vector::<T>(&column(0), x), vector::<T>(&column(1), x)]
}
