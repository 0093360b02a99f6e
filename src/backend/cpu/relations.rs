//! Distances between samples and attention maps, `f32`: rows in parallel, each computed by one thread in a fixed order.

use super::build;
use crate::tensor::{Shape, Tensor};
use rayon::prelude::*;

/// Independent partial sums of a distance, as many as a vector register holds.
const LANES: usize = 16;

pub(super) fn pairwise_distances(x: &Tensor) -> Tensor {
    let (n, features) = (x.shape()[0], x.shape()[1].max(1));
    let values = x.slice::<f32>();
    build(Shape::from([n, n]), |out| {
        out.fill(0.0);
        out.par_chunks_mut(n.max(1)).zip(values.par_chunks(features)).for_each(|(out, a)| {
            out.iter_mut().zip(values.chunks(features)).for_each(|(out, b)| *out = squared_distance(a, b));
        });
    })
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (blocks_a, blocks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = blocks_a.remainder().iter().zip(blocks_b.remainder()).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    for (a, b) in blocks_a.zip(blocks_b) {
        for lane in 0..LANES {
            sums[lane] += (a[lane] - b[lane]) * (a[lane] - b[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

pub(super) fn pairwise_distances_grad(x: &Tensor, dy: &Tensor) -> Tensor {
    let (n, features) = (x.shape()[0], x.shape()[1].max(1));
    let (values, dy) = (x.slice::<f32>(), dy.slice::<f32>());
    build(*x.shape(), |dx| {
        dx.par_chunks_mut(features).enumerate().for_each(|(i, dx)| {
            dx.fill(0.0);
            let own = &values[i * features..(i + 1) * features];
            for (j, other) in values.chunks(features).enumerate() {
                let weight = 2.0 * (dy[i * n + j] + dy[j * n + i]);
                dx.iter_mut().zip(own.iter().zip(other)).for_each(|(dx, (a, b))| *dx += weight * (a - b));
            }
        });
    })
}

pub(super) fn attention_map(x: &Tensor, power: f64) -> Tensor {
    let (n, channels) = (x.shape()[0], x.shape()[1].max(1));
    let area = x.shape()[2..].iter().product::<usize>();
    let values = x.slice::<f32>();
    build(Shape::from([n, area]), |maps| {
        maps.fill(0.0);
        maps.par_chunks_mut(area.max(1)).zip(values.par_chunks((channels * area).max(1))).for_each(|(map, image)| {
            for channel in image.chunks(area.max(1)) {
                match power == 2.0 {
                    true => map.iter_mut().zip(channel).for_each(|(map, x)| *map += x * x),
                    false => map.iter_mut().zip(channel).for_each(|(map, x)| *map += x.abs().powf(power as f32)),
                }
            }
        });
    })
}

pub(super) fn attention_map_grad(x: &Tensor, dy: &Tensor, power: f64) -> Tensor {
    let (channels, area) = (x.shape()[1].max(1), x.shape()[2..].iter().product::<usize>().max(1));
    let (values, dy) = (x.slice::<f32>(), dy.slice::<f32>());
    let slope = |x: f32| if x == 0.0 { 0.0 } else { power as f32 * x.abs().powf(power as f32 - 1.0) * x.signum() };
    build(*x.shape(), |dx| {
        dx.par_chunks_mut(area).zip(values.par_chunks(area)).enumerate().for_each(|(at, (dx, x))| {
            let image = at / channels;
            let dy = &dy[image * area..(image + 1) * area];
            match power == 2.0 {
                true => dx.iter_mut().zip(x.iter().zip(dy)).for_each(|(dx, (x, dy))| *dx = 2.0 * x * dy),
                false => dx.iter_mut().zip(x.iter().zip(dy)).for_each(|(dx, (x, dy))| *dx = slope(*x) * dy),
            }
        });
    })
}
