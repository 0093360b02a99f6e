//! Cross-entropy, the distillation loss with its relatives and noise-contrastive estimation, value and gradient together, row by row while the row is in cache.

mod contrast;
mod cross_entropy;
mod distillation;
mod divergence;

use super::isa::{self, Isa};
use super::parallel::{elements_ns, for_each, Disjoint};
use super::scratch::take;
use super::softmax::rows_per_task;
pub use crate::backend::params::IGNORE_INDEX;
pub use contrast::{Contrasted, NoiseContrast};
pub use cross_entropy::CrossEntropy;
pub use distillation::{Distillation, Inputs, Terms};

fn inverse_or_zero(x: f64) -> f64 {
    if x == 0.0 {
        0.0
    } else {
        1.0 / x
    }
}

fn check_labels(labels: &[i32], classes: usize) {
    let known = |label: i32| label == IGNORE_INDEX || usize::try_from(label).is_ok_and(|label| label < classes);
    let stranger = labels.iter().find(|&&label| !known(label));
    assert!(stranger.is_none(), "loss: label {stranger:?} is not one of {classes} classes");
}

/// Runs `kernel(row, gradient row, scratch)` for every row, with room for `scratch` numbers, and stores the `N` losses it returns.
fn by_rows<const N: usize>(
    classes: usize,
    scratch: usize,
    work: usize,
    losses: [&mut [f32]; N],
    grad: &mut [f32],
    kernel: impl Fn(Isa, usize, &mut [f32], &mut [f32]) -> [f32; N] + Sync,
) {
    let isa = isa::active();
    let rows = losses[0].len();
    let span = rows_per_task(classes);
    let losses = losses.map(Disjoint::new);
    let grad = Disjoint::new(grad);
    for_each(rows.div_ceil(span), elements_ns(work), |task| {
        let mut scratch = take::<f32>(scratch);
        for row in task * span..rows.min((task + 1) * span) {
            // SAFETY: each task has its own rows.
            let values = kernel(isa, row, unsafe { grad.range(row * classes..(row + 1) * classes) }, &mut scratch);
            for (losses, value) in losses.iter().zip(values) {
                // SAFETY: as above.
                unsafe { losses.range(row..row + 1)[0] = value };
            }
        }
    });
}
