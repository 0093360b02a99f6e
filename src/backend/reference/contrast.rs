//! Noise-contrastive estimation.

use super::from_wide;
use super::softmax::width;
use crate::backend::params::NoiseContrast;
use crate::tensor::{Real, Shape, Tensor};

pub(super) fn noise_contrast<T: Real>(
    p: NoiseContrast,
    vectors: &Tensor,
    memory: &Tensor,
    own: &Tensor,
    counts: &Tensor,
) -> [Tensor; 2] {
    let (width, rows) = (width(vectors), memory.shape()[0]);
    let (memory, counts) = (memory.slice::<T>(), counts.slice::<T>());
    let (mut losses, mut gradient) = (Vec::new(), vec![0.0; vectors.numel()]);
    for (i, (vector, &own)) in vectors.slice::<T>().chunks(width).zip(own.slice::<i32>()).enumerate() {
        let mut loss = 0.0;
        for (row, m) in memory.chunks(width).enumerate() {
            let score: f64 = vector.iter().zip(m).map(|(v, m)| v.wide() * m.wide()).sum();
            let (odds, count) = ((score / p.tau - p.shift).exp(), counts[i * rows + row].wide());
            loss += count * (p.floor + odds).ln();
            let mut slope = count * odds / (p.floor + odds);
            if row == own as usize {
                loss += (p.floor / odds + 1.0).ln();
                slope -= p.floor / (p.floor + odds);
            }
            gradient[i * width..].iter_mut().zip(m).for_each(|(sum, m)| *sum += slope / p.tau * m.wide());
        }
        losses.push(loss);
    }
    let losses = from_wide::<T>(&losses, Shape::from([losses.len()]), vectors.device());
    [losses, from_wide::<T>(&gradient, *vectors.shape(), vectors.device())]
}
