//! Cross-entropy and the distillation loss, value and gradient in one pass over the logits.
//!
//! The distillation loss (Hinton, Vinyals & Dean 2015), for student logits `s`, teacher logits `t`, labels `y`:
//! `hard_weight · mean CE(s, y) + soft_weight · T² · mean KL(softmax(t/T) ‖ softmax(s/T))`.
//!
//! A row is read twice while in cache: once for the maxima and the sums of exponentials, once for the terms and the
//! gradient; no probability is stored. The divergence is summed as `Σ p_t·(e^−δ − 1 + δ)` with `δ = log p_t − log p_s`,
//! which is the same number (`Σ p_s = Σ p_t`) but has no negative terms and keeps its digits when T is large and every δ
//! is tiny. Exact enough for logits of ±1e4 and T from 0.05 to 100.

use super::isa::{self, Isa, Kernel};
use super::parallel::{elements_ns, for_each, Disjoint};
use super::simd::{exp, Simd};
use super::softmax::{largest, rows_per_task, sum_of_exponentials, Normaliser};

/// The label of a row without a hard loss.
pub const IGNORE_INDEX: i32 = -100;

/// Cross-entropy with hard labels.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    /// Number of classes, the columns of the logits.
    pub classes: usize,
    /// Label smoothing ε: the target is `1 − ε` on the label plus `ε / classes` everywhere.
    pub smoothing: f32,
    /// One weight per row; the mean is `Σ weight·loss / Σ weight` over rows that are not ignored.
    pub weights: Option<&'a [f32]>,
}

/// The distillation loss; the names follow what each weight multiplies.
#[derive(Clone, Copy, Debug)]
pub struct Distillation {
    /// Number of classes, the columns of the logits.
    pub classes: usize,
    /// Temperature T > 0.
    pub temperature: f32,
    /// Weight of the mean cross-entropy with the labels.
    pub hard_weight: f32,
    /// Weight of `T²·KL`, mean over rows.
    pub soft_weight: f32,
}

/// Means over the batch of the two terms, unweighted, and the weighted total.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Mean cross-entropy over rows that are not ignored; 0 if all are.
    pub hard: f64,
    /// Mean of `T²·KL` over all rows.
    pub soft: f64,
    /// `hard_weight·hard + soft_weight·soft`.
    pub total: f64,
}

impl CrossEntropy<'_> {
    /// The mean loss of `logits`, `[rows, classes]`, and its gradient in `grad`, with each row's loss in `losses`
    /// (0 for ignored rows). A batch whose rows are all ignored has loss 0 and no gradient.
    ///
    /// # Panics
    /// When a length is wrong or a label is neither a class nor [`IGNORE_INDEX`].
    pub fn run(&self, logits: &[f32], labels: &[i32], losses: &mut [f32], grad: &mut [f32]) -> f64 {
        let classes = self.classes;
        check_rows(classes, &[logits.len(), grad.len()], &[labels.len(), losses.len()], labels);
        assert!(self.weights.is_none_or(|w| w.len() == labels.len()), "cross_entropy: one weight per row");
        let weight = |row: usize| self.weights.map_or(1.0, |weights| weights[row]);
        let valid = (0..labels.len()).filter(|&row| labels[row] != IGNORE_INDEX);
        let total: f64 = valid.map(|row| f64::from(weight(row))).sum();
        let inverse = inverse_or_zero(total);
        by_rows(classes, 8 * logits.len(), [losses], grad, |isa, row, grad| {
            let Ok(label) = usize::try_from(labels[row]) else {
                grad.fill(0.0);
                return [0.0];
            };
            let x = &logits[row * classes..(row + 1) * classes];
            let scale = (f64::from(weight(row)) * inverse) as f32;
            [isa.run(CrossEntropyRow { x, label, smoothing: self.smoothing, scale, grad })]
        });
        losses.iter().enumerate().map(|(row, &loss)| f64::from(weight(row)) * f64::from(loss)).sum::<f64>() * inverse
    }
}

impl Distillation {
    /// Both terms for student and teacher logits, `[rows, classes]`, and the gradient of the total with respect to the
    /// student's in `grad`. `hard` and `soft` receive each row's cross-entropy (0 if ignored) and `T²·KL`.
    ///
    /// # Panics
    /// When a length is wrong or a label is neither a class nor [`IGNORE_INDEX`].
    pub fn run(
        &self,
        student: &[f32],
        teacher: &[f32],
        labels: &[i32],
        [hard, soft]: [&mut [f32]; 2],
        grad: &mut [f32],
    ) -> Terms {
        let &Distillation { classes, temperature, hard_weight, soft_weight } = self;
        let rows = labels.len();
        check_rows(classes, &[student.len(), teacher.len(), grad.len()], &[rows, hard.len(), soft.len()], labels);
        let valid = labels.iter().filter(|&&label| label != IGNORE_INDEX).count();
        let hard_mean = inverse_or_zero(valid as f64);
        let soft_mean = inverse_or_zero(rows as f64);
        let hard_scale = (f64::from(hard_weight) * hard_mean) as f32;
        let soft_scale = (f64::from(soft_weight) * f64::from(temperature) * soft_mean) as f32;
        by_rows(classes, 16 * student.len(), [&mut *hard, &mut *soft], grad, |isa, row, grad| {
            let range = row * classes..(row + 1) * classes;
            let label = usize::try_from(labels[row]).ok();
            let (student, teacher) = (&student[range.clone()], &teacher[range]);
            isa.run(DistillationRow { student, teacher, label, temperature, hard_scale, soft_scale, grad })
        });
        let mean = |rows: &[f32], scale: f64| rows.iter().map(|&row| f64::from(row)).sum::<f64>() * scale;
        let (hard, soft) = (mean(hard, hard_mean), mean(soft, soft_mean));
        Terms { hard, soft, total: f64::from(hard_weight) * hard + f64::from(soft_weight) * soft }
    }
}

fn inverse_or_zero(x: f64) -> f64 {
    if x == 0.0 {
        0.0
    } else {
        1.0 / x
    }
}

fn check_rows(classes: usize, matrices: &[usize], columns: &[usize], labels: &[i32]) {
    let rows = labels.len();
    assert!(matrices.iter().all(|&len| len == rows * classes), "loss: matrices of [{rows}, {classes}]");
    assert!(columns.iter().all(|&len| len == rows), "loss: one label and one loss for each of {rows} rows");
    let known = |label: i32| label == IGNORE_INDEX || usize::try_from(label).is_ok_and(|label| label < classes);
    let stranger = labels.iter().find(|&&label| !known(label));
    assert!(stranger.is_none(), "loss: label {stranger:?} is not one of {classes} classes");
}

/// Runs `kernel(row, gradient row)` for every row and stores the `N` losses it returns.
fn by_rows<const N: usize>(
    classes: usize,
    work: usize,
    losses: [&mut [f32]; N],
    grad: &mut [f32],
    kernel: impl Fn(Isa, usize, &mut [f32]) -> [f32; N] + Sync,
) {
    let isa = isa::active();
    let rows = losses[0].len();
    let span = rows_per_task(classes);
    let losses = losses.map(Disjoint::new);
    let grad = Disjoint::new(grad);
    for_each(rows.div_ceil(span), elements_ns(work), |task| {
        for row in task * span..rows.min((task + 1) * span) {
            // SAFETY: each task has its own rows.
            let values = kernel(isa, row, unsafe { grad.range(row * classes..(row + 1) * classes) });
            for (losses, value) in losses.iter().zip(values) {
                // SAFETY: as above.
                unsafe { losses.range(row..row + 1)[0] = value };
            }
        }
    });
}

struct CrossEntropyRow<'a> {
    x: &'a [f32],
    label: usize,
    smoothing: f32,
    /// What the gradient is multiplied by.
    scale: f32,
    grad: &'a mut [f32],
}

impl Kernel for CrossEntropyRow<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        let len = self.x.len();
        let max = largest::<S>(self.x);
        let log_sum = sum_of_exponentials::<S>(self.x, max, 1.0).ln();
        let everywhere = self.smoothing / len as f32;
        let (shift, scale, target) = (S::splat(max), S::splat(self.scale), S::splat(everywhere));
        let mut total = S::zero();
        for i in (0..len).step_by(S::LANES) {
            let n = S::LANES.min(len - i);
            let x = S::sub(S::load_first(self.x.as_ptr().add(i), n, max), shift);
            total = S::add(total, x);
            let p = exp::<S>(S::sub(x, S::splat(log_sum)));
            S::store_first(self.grad.as_mut_ptr().add(i), S::mul(scale, S::sub(p, target)), n);
        }
        self.grad[self.label] -= self.scale * (1.0 - self.smoothing);
        let of_label = log_sum - (self.x[self.label] - max);
        if self.smoothing == 0.0 {
            return of_label;
        }
        (1.0 - self.smoothing) * of_label + everywhere * (len as f32 * log_sum - S::sum(total))
    }
}

struct DistillationRow<'a> {
    student: &'a [f32],
    teacher: &'a [f32],
    /// `None` for an ignored row.
    label: Option<usize>,
    temperature: f32,
    hard_scale: f32,
    soft_scale: f32,
    grad: &'a mut [f32],
}

impl Kernel for DistillationRow<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> [f32; 2] {
        let (student, teacher, len) = (self.student, self.teacher, self.student.len());
        let inverse = 1.0 / self.temperature;
        let log_sum = |x, max, inverse| Normaliser { max, log_sum: sum_of_exponentials::<S>(x, max, inverse).ln() };
        let student_max = largest::<S>(student);
        let hard = log_sum(student, student_max, 1.0);
        let soft = log_sum(student, student_max, inverse);
        let guide = log_sum(teacher, largest::<S>(teacher), inverse);

        let hard_scale = S::splat(if self.label.is_some() { self.hard_scale } else { 0.0 });
        let soft_scale = S::splat(self.soft_scale);
        let mut divergence = S::zero();
        for i in (0..len).step_by(S::LANES) {
            let n = S::LANES.min(len - i);
            let s = S::load_first(student.as_ptr().add(i), n, f32::NEG_INFINITY);
            let t = S::load_first(teacher.as_ptr().add(i), n, f32::NEG_INFINITY);
            let log_soft = log_probability::<S>(s, soft, inverse);
            let log_guide = log_probability::<S>(t, guide, inverse);
            let (p_soft, p_guide) = (exp::<S>(log_soft), exp::<S>(log_guide));
            divergence = S::add(divergence, divergence_term::<S>(p_guide, p_soft, S::sub(log_guide, log_soft)));

            let p_hard = exp::<S>(log_probability::<S>(s, hard, 1.0));
            let grad = S::fma(soft_scale, S::sub(p_soft, p_guide), S::mul(hard_scale, p_hard));
            S::store_first(self.grad.as_mut_ptr().add(i), grad, n);
        }
        let hard_loss = self.label.map_or(0.0, |label| {
            self.grad[label] -= self.hard_scale;
            hard.log_sum - (student[label] - hard.max)
        });
        [hard_loss, self.temperature * self.temperature * S::sum(divergence)]
    }
}

#[inline(always)]
unsafe fn log_probability<S: Simd>(x: S::V, normaliser: Normaliser, inverse: f32) -> S::V {
    let scaled = S::mul(S::sub(x, S::splat(normaliser.max)), S::splat(inverse));
    S::sub(scaled, S::splat(normaliser.log_sum))
}

/// `p_t·(e^−δ − 1 + δ)`: the series for small δ, else `p_s − p_t + p_t·δ`, where `p_t = 0` has no last term.
#[inline(always)]
unsafe fn divergence_term<S: Simd>(p_t: S::V, p_s: S::V, delta: S::V) -> S::V {
    const SERIES: [f32; 7] = [1.0 / 40320.0, -1.0 / 5040.0, 1.0 / 720.0, -1.0 / 120.0, 1.0 / 24.0, -1.0 / 6.0, 0.5];
    let square = S::mul(delta, delta);
    let mut series = S::splat(SERIES[0]);
    for &c in &SERIES[1..] {
        series = S::fma(series, delta, S::splat(c));
    }
    let small = S::mul(p_t, S::mul(square, series));
    let large = S::add(S::sub(p_s, p_t), S::if_greater(p_t, S::zero(), S::mul(p_t, delta), S::zero()));
    S::if_greater(S::splat(0.25), square, small, large)
}
