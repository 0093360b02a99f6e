//! Batch and layer normalisation. Each channel or row is one task (or shares one), and its output holds the centred values while
//! the variance is summed, so that nothing else is stored.

use super::kernels::isa::{self, Isa};
use super::kernels::parallel::{elements_ns, for_each, Disjoint, CHUNK};
use super::kernels::vector::{dot, sum};
use super::{build, written};
use crate::backend::params::BatchNormOutput;
use crate::tensor::{Shape, Tensor};
use std::ops::Range;

/// Columns in one task of the weight gradients of layer normalisation.
const COLUMNS: usize = 64;

/// How `[n, c, …]` lies in memory.
struct Planes {
    n: usize,
    c: usize,
    area: usize,
}

impl Planes {
    fn of(x: &Tensor) -> Planes {
        Planes { n: x.shape()[0], c: x.shape()[1], area: x.shape()[2..].iter().product() }
    }

    /// Elements of one channel.
    fn count(&self) -> f64 {
        (self.n * self.area) as f64
    }

    /// Runs `task` for every channel, in parallel.
    fn for_each_channel(&self, task: impl Fn(usize) + Sync) {
        for_each(self.c, 4 * elements_ns(self.n * self.c * self.area), task);
    }

    /// Where each image's plane of a channel lies.
    fn of_channel(&self, channel: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.n).map(move |image| {
            let start = (image * self.c + channel) * self.area;
            start..start + self.area
        })
    }
}

/// `out = x − mean`.
fn centre(isa: Isa, x: &[f32], mean: f32, out: &mut [f32]) {
    isa.vectorise(|| out.iter_mut().zip(x).for_each(|(out, x)| *out = x - mean));
}

/// 1 / σ.
fn reciprocal_sd(variance: f64, eps: f64) -> f64 {
    (variance + eps).sqrt().recip()
}

pub(super) fn batch_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> BatchNormOutput {
    let (isa, planes) = (isa::active(), Planes::of(x));
    let (x, shape) = (x.slice::<f32>(), *x.shape());
    let (weight, bias) = (weight.slice::<f32>(), bias.slice::<f32>());
    let [mut mean, mut var, mut rstd] = [(); 3].map(|()| build(Shape::from([planes.c]), |_| ()));
    let y = build(shape, |y| {
        let y = Disjoint::new(y);
        let statistics = [&mut mean, &mut var, &mut rstd].map(|statistic| Disjoint::new(written(statistic)));
        planes.for_each_channel(|channel| {
            // SAFETY: each task has its own channel.
            let part = |range| unsafe { y.range(range) };
            let total: f64 = planes.of_channel(channel).map(|range| f64::from(sum(isa, &x[range]))).sum();
            let mean = total / planes.count();
            let mut squares = 0.0;
            for range in planes.of_channel(channel) {
                let y = part(range.clone());
                centre(isa, &x[range], mean as f32, y);
                squares += f64::from(dot(isa, y, y));
            }
            let var = squares / planes.count();
            let rstd = reciprocal_sd(var, eps);
            let (scale, bias) = ((rstd * f64::from(weight[channel])) as f32, bias[channel]);
            for range in planes.of_channel(channel) {
                let y = part(range);
                isa.vectorise(|| y.iter_mut().for_each(|y| *y = *y * scale + bias));
            }
            for (statistic, value) in statistics.iter().zip([mean, var, rstd]) {
                // SAFETY: as above.
                unsafe { statistic.range(channel..channel + 1)[0] = value as f32 };
            }
        });
    });
    BatchNormOutput { y, mean, var, rstd }
}

pub(super) fn batch_norm_grad(x: &Tensor, weight: &Tensor, dy: &Tensor, mean: &Tensor, rstd: &Tensor) -> [Tensor; 3] {
    let (isa, planes) = (isa::active(), Planes::of(x));
    let (shape, x, dy) = (*x.shape(), x.slice::<f32>(), dy.slice::<f32>());
    let (weight, mean, rstd) = (weight.slice::<f32>(), mean.slice::<f32>(), rstd.slice::<f32>());
    let [mut dw, mut db] = [(); 2].map(|()| build(Shape::from([planes.c]), |_| ()));
    let dx = build(shape, |dx| {
        let dx = Disjoint::new(dx);
        let [dw, db] = [&mut dw, &mut db].map(|gradient| Disjoint::new(written(gradient)));
        planes.for_each_channel(|channel| {
            // SAFETY: each task has its own channel.
            let part = |range| unsafe { dx.range(range) };
            let (mut total, mut product) = (0.0, 0.0);
            for range in planes.of_channel(channel) {
                let centred = part(range.clone());
                centre(isa, &x[range.clone()], mean[channel], centred);
                total += f64::from(sum(isa, &dy[range.clone()]));
                product += f64::from(dot(isa, centred, &dy[range]));
            }
            let rstd = f64::from(rstd[channel]);
            let scale = (f64::from(weight[channel]) * rstd) as f32;
            let shift = (total / planes.count()) as f32;
            let slope = (product * rstd * rstd / planes.count()) as f32;
            for range in planes.of_channel(channel) {
                let (dx, dy) = (part(range.clone()), &dy[range]);
                isa.vectorise(|| dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = scale * (dy - shift - *dx * slope)));
            }
            // SAFETY: as above.
            unsafe {
                dw.range(channel..channel + 1)[0] = (product * rstd) as f32;
                db.range(channel..channel + 1)[0] = total as f32;
            }
        });
    });
    [dx, dw, db]
}

/// Runs `task` for bands of rows of `width` elements, in parallel.
fn for_each_band(rows: usize, width: usize, task: impl Fn(Range<usize>) + Sync) {
    let band = (CHUNK / width.max(1)).clamp(1, rows.max(1));
    for_each(rows.div_ceil(band), 4 * elements_ns(rows * width), |i| task(i * band..rows.min((i + 1) * band)));
}

pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> [Tensor; 3] {
    let (isa, width) = (isa::active(), weight.numel());
    let rows = x.numel() / width.max(1);
    let (shape, x) = (*x.shape(), x.slice::<f32>());
    let (weight, bias) = (weight.slice::<f32>(), bias.slice::<f32>());
    let [mut mean, mut rstd] = [(); 2].map(|()| build(Shape::from([rows]), |_| ()));
    let y = build(shape, |y| {
        let y = Disjoint::new(y);
        let [mean, rstd] = [&mut mean, &mut rstd].map(|statistic| Disjoint::new(written(statistic)));
        for_each_band(rows, width, |band| {
            for row in band {
                let range = row * width..(row + 1) * width;
                // SAFETY: each task has its own rows.
                let (y, mean, rstd) = unsafe {
                    (y.range(range.clone()), &mut mean.range(row..row + 1)[0], &mut rstd.range(row..row + 1)[0])
                };
                let x = &x[range];
                *mean = sum(isa, x) / width as f32;
                centre(isa, x, *mean, y);
                *rstd = reciprocal_sd(f64::from(dot(isa, y, y)) / width as f64, eps) as f32;
                let affine = weight.iter().zip(bias);
                isa.vectorise(|| y.iter_mut().zip(affine).for_each(|(y, (w, b))| *y = *y * *rstd * w + b));
            }
        });
    });
    [y, mean, rstd]
}

pub(super) fn layer_norm_grad(x: &Tensor, weight: &Tensor, dy: &Tensor, mean: &Tensor, rstd: &Tensor) -> [Tensor; 3] {
    let (isa, width, rows) = (isa::active(), weight.numel(), mean.numel());
    let (shape, x, dy) = (*x.shape(), x.slice::<f32>(), dy.slice::<f32>());
    let (weight, mean, rstd) = (weight.slice::<f32>(), mean.slice::<f32>(), rstd.slice::<f32>());
    let dx = build(shape, |dx| {
        let dx = Disjoint::new(dx);
        for_each_band(rows, width, |band| {
            for row in band {
                let range = row * width..(row + 1) * width;
                // SAFETY: each task has its own rows.
                let dx = unsafe { dx.range(range.clone()) };
                let (x, dy, mean, rstd) = (&x[range.clone()], &dy[range], mean[row], rstd[row]);
                isa.vectorise(|| {
                    dx.iter_mut().zip(x.iter().zip(weight)).for_each(|(dx, (x, w))| *dx = (x - mean) * rstd * w);
                });
                let slope = dot(isa, dx, dy) / width as f32;
                let shift = dot(isa, weight, dy) / width as f32;
                isa.vectorise(|| {
                    let inputs = x.iter().zip(dy).zip(weight);
                    dx.iter_mut().zip(inputs).for_each(|(dx, ((x, dy), w))| {
                        *dx = rstd * (dy * w - shift - (x - mean) * rstd * slope);
                    });
                });
            }
        });
    });
    let mut dw = build(Shape::from([width]), |_| ());
    let db = build(Shape::from([width]), |db| {
        let (dw, db) = (Disjoint::new(written(&mut dw)), Disjoint::new(db));
        for_each(width.div_ceil(COLUMNS), 2 * elements_ns(x.len()), |task| {
            let columns = task * COLUMNS..width.min((task + 1) * COLUMNS);
            // SAFETY: each task has its own columns.
            let (dw, db) = unsafe { (dw.range(columns.clone()), db.range(columns.clone())) };
            isa.vectorise(|| {
                dw.fill(0.0);
                db.fill(0.0);
                for row in 0..rows {
                    let range = row * width + columns.start..row * width + columns.end;
                    let sums = dw.iter_mut().zip(db.iter_mut());
                    for ((dw, db), (x, dy)) in sums.zip(x[range.clone()].iter().zip(&dy[range])) {
                        *dw += dy * (x - mean[row]) * rstd[row];
                        *db += dy;
                    }
                }
            });
        });
    });
    [dx, dw, db]
}
