//! Cross-entropy with hard labels.

use super::{by_rows, check_labels, inverse_or_zero, IGNORE_INDEX};
use crate::backend::cpu::kernels::isa::Kernel;
use crate::backend::cpu::kernels::simd::{for_each_vector, Simd};
use crate::backend::cpu::kernels::softmax::{exponentials, largest};

/// Cross-entropy with hard labels, the mean over rows that are not ignored.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy {
    /// Number of classes, the columns of the logits.
    pub classes: usize,
    /// Label smoothing ε: the target is `1 − ε` on the label plus `ε / classes` everywhere.
    pub smoothing: f32,
}

impl CrossEntropy {
    /// The mean loss of `logits`, `[rows, classes]`, and its gradient in `grad`, with each row's loss in `losses`
    /// (0 for ignored rows). A batch whose rows are all ignored has loss 0 and no gradient.
    ///
    /// # Panics
    /// When a length is wrong or a label is neither a class nor [`IGNORE_INDEX`].
    pub fn run(&self, logits: &[f32], labels: &[i32], losses: &mut [f32], grad: &mut [f32]) -> f64 {
        let &CrossEntropy { classes, smoothing } = self;
        let cells = labels.len() * classes;
        assert!(logits.len() == cells && grad.len() == cells, "cross_entropy: logits and gradient of {cells} elements");
        assert_eq!(labels.len(), losses.len(), "cross_entropy: one loss per label");
        check_labels(labels, classes);
        let valid = labels.iter().filter(|&&label| label != IGNORE_INDEX).count();
        let inverse = inverse_or_zero(valid as f64);
        by_rows(classes, 0, 4 * cells, [&mut *losses], grad, |isa, row, grad, _| {
            let Ok(label) = usize::try_from(labels[row]) else {
                grad.fill(0.0);
                return [0.0];
            };
            let x = &logits[row * classes..(row + 1) * classes];
            [isa.run(Row { x, label, smoothing, scale: inverse as f32, grad })]
        });
        losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() * inverse
    }
}

struct Row<'a> {
    x: &'a [f32],
    label: usize,
    smoothing: f32,
    /// What the gradient is multiplied by.
    scale: f32,
    grad: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        let classes = self.x.len() as f32;
        let max = largest::<S>(self.x);
        let sum = exponentials::<S>(self.x, max, 1.0, self.grad);
        let everywhere = self.smoothing / classes;
        let (of_sum, target) = (S::splat(self.scale / sum), S::splat(self.scale * everywhere));
        let mut total = S::zero();
        for_each_vector!(S, self.x.len(), |i, n| {
            total = S::add(total, S::sub(S::load_first(self.x.as_ptr().add(i), n, max), S::splat(max)));
            let grad = self.grad.as_mut_ptr().add(i);
            S::store_first(grad, S::sub(S::mul(S::load_first(grad, n, 0.0), of_sum), target), n);
        });
        self.grad[self.label] -= self.scale * (1.0 - self.smoothing);
        let log_sum = sum.ln();
        let of_label = log_sum - (self.x[self.label] - max);
        if self.smoothing == 0.0 {
            return of_label;
        }
        (1.0 - self.smoothing) * of_label + everywhere * (classes * log_sum - S::sum(total))
    }
}
