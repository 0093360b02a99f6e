//! The distillation loss of logits: `hard_weight · mean CE(s, y) + soft_weight · scale · mean D(softmax(t/T), softmax(s/T))`.
//!
//! Three exponentials per element, each computed once and kept, with those of the other terms of its row, in cache: the student's
//! for the cross-entropy where the gradient will be, both models' at temperature T in scratch rows. Then one pass for the
//! divergence and one for the gradient. Exact enough for logits of ±1e4 and T from 0.05 to 100.

use super::divergence::{self, ForwardKl, JensenShannon, Probabilities, ReverseKl};
use super::{by_rows, check_labels, inverse_or_zero};
use crate::backend::cpu::kernels::isa::Kernel;
use crate::backend::cpu::kernels::simd::{for_each_vector, Simd};
use crate::backend::cpu::kernels::softmax::{exponentials, largest};
use crate::backend::params::Divergence;

/// The distillation loss; the names follow what each weight multiplies.
#[derive(Clone, Copy, Debug)]
pub struct Distillation {
    /// Number of classes, the columns of the logits.
    pub classes: usize,
    /// D, and with it the scale.
    pub divergence: Divergence,
    /// Temperature T > 0.
    pub temperature: f64,
    /// Weight of the mean cross-entropy with the labels.
    pub hard_weight: f64,
    /// Weight of the scaled divergence, mean over rows.
    pub soft_weight: f64,
}

/// What the distillation loss is computed of.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Logits, `[rows, classes]`.
    pub student: &'a [f32],
    /// Logits, `[rows, classes]`.
    pub teacher: &'a [f32],
    /// One per row; without them there is no hard term.
    pub labels: Option<&'a [i32]>,
    /// One per row: means are `Σ weight·term / Σ weight`, over all rows or those with a label. 1 if absent.
    pub weights: Option<&'a [f32]>,
}

/// Means over the batch of the two terms, unweighted, and the weighted total.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Mean cross-entropy over rows that are not ignored; 0 if all are.
    pub hard: f64,
    /// Mean of the scaled divergence over all rows.
    pub soft: f64,
    /// `hard_weight·hard + soft_weight·soft`.
    pub total: f64,
}

impl Inputs<'_> {
    /// `None` for a row without a hard loss.
    fn label(&self, row: usize) -> Option<usize> {
        self.labels.and_then(|labels| usize::try_from(labels[row]).ok())
    }

    fn weight(&self, row: usize) -> f64 {
        self.weights.map_or(1.0, |weights| f64::from(weights[row]))
    }
}

impl Distillation {
    /// Both terms, and the gradient of the total with respect to the student's logits in `grad`. `hard` and `soft` receive each
    /// row's cross-entropy (0 if ignored) and scaled divergence.
    ///
    /// # Panics
    /// When a length is wrong or a label is neither a class nor [`super::IGNORE_INDEX`].
    pub fn run(&self, inputs: Inputs, losses: [&mut [f32]; 2], grad: &mut [f32]) -> Terms {
        match self.divergence {
            Divergence::ForwardKl => self.run_with(ForwardKl, inputs, losses, grad),
            Divergence::ReverseKl => self.run_with(ReverseKl, inputs, losses, grad),
            Divergence::JensenShannon { beta } => {
                self.run_with(JensenShannon { beta: beta as f32 }, inputs, losses, grad)
            }
        }
    }

    fn run_with<D: divergence::Divergence>(
        &self,
        divergence: D,
        inputs: Inputs,
        [hard, soft]: [&mut [f32]; 2],
        grad: &mut [f32],
    ) -> Terms {
        let &Distillation { classes, temperature, hard_weight, soft_weight, .. } = self;
        let (rows, cells) = (hard.len(), grad.len());
        let Inputs { student, teacher, labels, weights } = inputs;
        assert!(
            cells == rows * classes && student.len() == cells && teacher.len() == cells,
            "distillation: [{rows}, {classes}]"
        );
        assert!(soft.len() == rows && labels.is_none_or(|y| y.len() == rows), "distillation: a label and losses a row");
        assert!(weights.is_none_or(|w| w.len() == rows), "distillation: one weight per row");
        check_labels(labels.unwrap_or(&[]), classes);

        let all: f64 = (0..rows).map(|row| inputs.weight(row)).sum();
        let labelled: f64 = (0..rows).filter(|&row| inputs.label(row).is_some()).map(|row| inputs.weight(row)).sum();
        let (hard_mean, soft_mean) = (inverse_or_zero(labelled), inverse_or_zero(all));
        let scale = self.divergence.scale(temperature);
        let soft_scale = soft_weight * scale / temperature * soft_mean;
        by_rows(classes, 2 * classes, 12 * cells, [&mut *hard, &mut *soft], grad, |isa, row, grad, scratch| {
            let range = row * classes..(row + 1) * classes;
            let weight = inputs.weight(row);
            let [hard, soft] = isa.run(Row {
                student: &student[range.clone()],
                teacher: &teacher[range],
                label: inputs.label(row),
                divergence,
                inverse: (1.0 / temperature) as f32,
                hard_scale: (weight * hard_weight * hard_mean) as f32,
                soft_scale: (weight * soft_scale) as f32,
                scratch,
                grad,
            });
            [hard, scale as f32 * soft]
        });
        let mean = |losses: &[f32], scale: f64| {
            let weighted = losses.iter().enumerate().map(|(row, &loss)| inputs.weight(row) * f64::from(loss));
            weighted.sum::<f64>() * scale
        };
        let (hard, soft) = (mean(hard, hard_mean), mean(soft, soft_mean));
        // A weight of 0 leaves its term out even where the term overflows.
        let weighted = |weight: f64, term: f64| if weight == 0.0 { 0.0 } else { weight * term };
        Terms { hard, soft, total: weighted(hard_weight, hard) + weighted(soft_weight, soft) }
    }
}

struct Row<'a, D> {
    student: &'a [f32],
    teacher: &'a [f32],
    /// `None` for a row without a hard loss.
    label: Option<usize>,
    divergence: D,
    /// 1/T.
    inverse: f32,
    /// What the gradients of the terms are multiplied by.
    hard_scale: f32,
    soft_scale: f32,
    /// Room for two rows.
    scratch: &'a mut [f32],
    grad: &'a mut [f32],
}

impl<D: divergence::Divergence> Kernel for Row<'_, D> {
    /// The cross-entropy and the divergence.
    type Output = [f32; 2];

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> [f32; 2] {
        let Row { student, teacher, inverse, grad, .. } = self;
        let max = largest::<S>(student);
        let (hard_loss, of_hard) = match self.label {
            None => {
                grad.fill(0.0);
                (0.0, 0.0)
            }
            Some(label) => {
                let sum = exponentials::<S>(student, max, 1.0, grad);
                (sum.ln() - (student[label] - max), self.hard_scale / sum)
            }
        };
        let (of_teacher, of_student) = self.scratch.split_at_mut(teacher.len());
        let p = Softened::new::<S>(teacher, largest::<S>(teacher), inverse, of_teacher);
        let q = Softened::new::<S>(student, max, inverse, of_student);

        // Each slope, q·∂D/∂q, takes the place of its p.
        let (mut divergence, mut centre) = (S::zero(), S::zero());
        for_each_vector!(S, student.len(), |i, n| {
            let [term, slope] = self.divergence.terms::<S>(p.probabilities(i, n), q.probabilities(i, n));
            divergence = S::add(divergence, term);
            if D::CENTRE.is_none() {
                centre = S::add(centre, slope);
            }
            S::store_first(p.exponentials.as_mut_ptr().add(i), slope, n);
        });
        let centre = D::CENTRE.unwrap_or(S::sum(centre));

        let (of_hard, of_soft, of_q) = (S::splat(of_hard), S::splat(self.soft_scale), S::splat(-centre / q.sum));
        for_each_vector!(S, student.len(), |i, n| {
            let slope = S::load_first(p.exponentials.as_ptr().add(i), n, 0.0);
            let soft = S::fma(S::load_first(q.exponentials.as_ptr().add(i), n, 0.0), of_q, slope);
            let grad = grad.as_mut_ptr().add(i);
            let hard = S::mul(S::load_first(grad, n, 0.0), of_hard);
            S::store_first(grad, S::fma(soft, of_soft, hard), n);
        });
        if let Some(label) = self.label {
            grad[label] -= self.hard_scale;
        }
        [hard_loss, S::sum(divergence)]
    }
}

/// `softmax(logits / T)`.
struct Softened<'a> {
    logits: &'a [f32],
    max: f32,
    inverse: f32,
    exponentials: &'a mut [f32],
    sum: f32,
    log_sum: f32,
}

impl<'a> Softened<'a> {
    #[inline(always)]
    unsafe fn new<S: Simd>(logits: &'a [f32], max: f32, inverse: f32, exponentials: &'a mut [f32]) -> Self {
        let sum = self::exponentials::<S>(logits, max, inverse, exponentials);
        Softened { logits, max, inverse, exponentials, sum, log_sum: sum.ln() }
    }

    /// Those of the classes from `i` on; probability 0 beyond the first `n`.
    #[inline(always)]
    unsafe fn probabilities<S: Simd>(&self, i: usize, n: usize) -> Probabilities<S> {
        let x = S::sub(S::load_first(self.logits.as_ptr().add(i), n, self.max), S::splat(self.max));
        let e = S::load_first(self.exponentials.as_ptr().add(i), n, 0.0);
        Probabilities {
            value: S::mul(e, S::splat(1.0 / self.sum)),
            log: S::sub(S::mul(x, S::splat(self.inverse)), S::splat(self.log_sum)),
        }
    }
}
