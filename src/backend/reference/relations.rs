//! Relations between samples, and attention maps.

use crate::tensor::{Real, Shape, Tensor};

pub(super) fn pairwise_distances<T: Real>(x: &Tensor) -> Tensor {
    let (n, features) = (x.shape()[0], x.shape()[1]);
    let rows: Vec<&[T]> = x.slice::<T>().chunks(features.max(1)).collect();
    let square = |a: &T, b: &T| (a.wide() - b.wide()) * (a.wide() - b.wide());
    Tensor::build(Shape::from([n, n]), x.device(), |out: &mut [T]| {
        out.fill(T::zero());
        for (i, a) in rows.iter().enumerate() {
            for (j, b) in rows.iter().enumerate() {
                out[i * n + j] = T::of(a.iter().zip(*b).map(|(a, b)| square(a, b)).sum());
            }
        }
    })
}

pub(super) fn pairwise_distances_grad<T: Real>(x: &Tensor, dy: &Tensor) -> Tensor {
    let (n, features) = (x.shape()[0], x.shape()[1]);
    let (values, dy) = (x.slice::<T>(), dy.slice::<T>());
    Tensor::build(*x.shape(), x.device(), |dx: &mut [T]| {
        for i in 0..n {
            for k in 0..features {
                let term = |j: usize| {
                    let weight = dy[i * n + j].wide() + dy[j * n + i].wide();
                    2.0 * weight * (values[i * features + k].wide() - values[j * features + k].wide())
                };
                dx[i * features + k] = T::of((0..n).map(term).sum());
            }
        }
    })
}

pub(super) fn angle_losses<T: Real>(student: &Tensor, teacher: &Tensor) -> [Tensor; 2] {
    /// Squared lengths up to this count as 0.
    const SHORTEST: f64 = 1e-24;
    let n = student.shape()[0];
    let (student, of_teacher) = (student.slice::<T>(), teacher.slice::<T>());
    let inverse = |square: f64| if square > SHORTEST { 1.0 / square.sqrt() } else { 0.0 };
    let (mut losses, mut gradients) = (vec![0.0; n * n], vec![0.0; n * n]);
    for i in 0..n {
        for j in 0..n {
            for k in 0..n {
                let sides = |d: &[T]| [(i, j), (i, k), (j, k)].map(|(a, b)| d[a * n + b].wide());
                let cosine = |[ij, ik, jk]: [f64; 3]| 0.5 * (ij + ik - jk) * inverse(ij) * inverse(ik);
                let [ij, ik, jk] = sides(student);
                let cos = cosine([ij, ik, jk]);
                let difference = cos - cosine(sides(of_teacher));
                let slope = difference.clamp(-1.0, 1.0);
                losses[j * n + k] += slope * (difference - 0.5 * slope);
                let product = inverse(ij) * inverse(ik);
                gradients[i * n + j] += 0.5 * slope * (product - cos * inverse(ij).powi(2));
                gradients[i * n + k] += 0.5 * slope * (product - cos * inverse(ik).powi(2));
                gradients[j * n + k] -= 0.5 * slope * product;
            }
        }
    }
    let matrix = |values: &[f64]| super::from_wide::<T>(values, Shape::from([n, n]), teacher.device());
    [matrix(&losses), matrix(&gradients)]
}

/// Images, channels and positions of `[n, c, …]`.
fn extents(x: &Tensor) -> (usize, usize, usize) {
    (x.shape()[0], x.shape()[1], x.shape()[2..].iter().product())
}

pub(super) fn attention_map<T: Real>(x: &Tensor, power: f64) -> Tensor {
    let (n, channels, area) = extents(x);
    let values = x.slice::<T>();
    Tensor::build(Shape::from([n, area]), x.device(), |map: &mut [T]| {
        for (i, map) in map.iter_mut().enumerate() {
            let at = |c: usize| values[(i / area * channels + c) * area + i % area].wide().abs().powf(power);
            *map = T::of((0..channels).map(at).sum());
        }
    })
}

pub(super) fn attention_map_grad<T: Real>(x: &Tensor, dy: &Tensor, power: f64) -> Tensor {
    let (_, channels, area) = extents(x);
    let dy = dy.slice::<T>();
    Tensor::build(*x.shape(), x.device(), |dx: &mut [T]| {
        for (i, (dx, x)) in dx.iter_mut().zip(x.slice::<T>()).enumerate() {
            let x = x.wide();
            let slope = if x == 0.0 { 0.0 } else { power * x.abs().powf(power - 1.0) * x.signum() };
            *dx = T::of(dy[i / (channels * area) * area + i % area].wide() * slope);
        }
    })
}
