//! The loss between the logits of a student and a teacher, with its gradient.

use super::scalar;
use super::softmax::{log_softmax, width};
use crate::backend::params::{Distillation, DistillationInputs, DistillationOutput, Divergence, IGNORE_INDEX};
use crate::tensor::{Real, Tensor};

/// The divergence of q from p, given their logarithms, and its derivative with respect to each q.
fn divergence(kind: Divergence, log_p: &[f64], log_q: &[f64]) -> (f64, Vec<f64>) {
    // 0 · log 0 is 0.
    let times = |p: f64, log: f64| if p > 0.0 { p * log } else { 0.0 };
    let class = |(&log_p, &log_q): (&f64, &f64)| {
        let (p, q) = (log_p.exp(), log_q.exp());
        match kind {
            Divergence::ForwardKl => (times(p, log_p - log_q), if q > 0.0 { -p / q } else { 0.0 }),
            Divergence::ReverseKl => (times(q, log_q - log_p), if q > 0.0 { log_q - log_p } else { 0.0 }),
            Divergence::JensenShannon { beta } => {
                let log_m = (beta * p + (1.0 - beta) * q).ln();
                let value = beta * times(p, log_p - log_m) + (1.0 - beta) * times(q, log_q - log_m);
                (value, if q > 0.0 { (1.0 - beta) * (log_q - log_m) } else { 0.0 })
            }
        }
    };
    let (terms, slopes): (Vec<f64>, Vec<f64>) = log_p.iter().zip(log_q).map(class).unzip();
    (terms.iter().sum(), slopes)
}

pub(super) fn distillation<T: Real>(p: Distillation, inputs: DistillationInputs) -> DistillationOutput {
    let DistillationInputs { student, teacher, labels, sample_weights } = inputs;
    let (classes, rows, device, t) = (width(student), student.shape()[0], student.device(), p.temperature);
    let label = |row: usize| labels.map(|labels| labels.slice::<i32>()[row]).filter(|&label| label != IGNORE_INDEX);
    let weight = |row: usize| sample_weights.map_or(1.0, |weights| weights.slice::<T>()[row].wide());
    let total_weight = |counts: &dyn Fn(usize) -> bool| {
        let sum: f64 = (0..rows).filter(|&row| counts(row)).map(weight).sum();
        if sum > 0.0 {
            sum
        } else {
            1.0
        }
    };
    let (hard_total, soft_total) = (total_weight(&|row| label(row).is_some()), total_weight(&|_| true));
    let scale = p.divergence.scale(t);
    let (mut hard, mut soft) = (0.0, 0.0);
    let grad = Tensor::build(*student.shape(), device, |grad: &mut [T]| {
        let logits = student.slice::<T>().chunks(classes).zip(teacher.slice::<T>().chunks(classes));
        for (row, (grad, (student, teacher))) in grad.chunks_mut(classes).zip(logits).enumerate() {
            let (log_hard, log_q, log_p) =
                (log_softmax(student, 1.0), log_softmax(student, t), log_softmax(teacher, t));
            if let Some(label) = label(row) {
                hard -= weight(row) * log_hard[label as usize];
            }
            let (value, slopes) = divergence(p.divergence, &log_p, &log_q);
            soft += weight(row) * scale * value;
            let centre: f64 = log_q.iter().zip(&slopes).map(|(log_q, slope)| log_q.exp() * slope).sum();
            for class in 0..classes {
                let hit = f64::from(u8::from(label(row) == Some(class as i32)));
                let d_hard = if label(row).is_some() { (log_hard[class].exp() - hit) / hard_total } else { 0.0 };
                let d_soft = match p.divergence {
                    // The same, without dividing by a q that may be 0.
                    Divergence::ForwardKl => log_q[class].exp() - log_p[class].exp(),
                    _ => log_q[class].exp() * (slopes[class] - centre),
                } * scale
                    / (t * soft_total);
                grad[class] = T::of(weight(row) * (p.hard_weight * d_hard + p.soft_weight * d_soft));
            }
        }
    });
    let (hard, soft) = (hard / hard_total, soft / soft_total);
    // A weight of 0 leaves its term out even where the term overflows.
    let weighted = |weight: f64, term: f64| if weight == 0.0 { 0.0 } else { weight * term };
    let total = weighted(p.hard_weight, hard) + weighted(p.soft_weight, soft);
    let scalar = |value: f64| scalar(T::of(value), device);
    DistillationOutput { total: scalar(total), hard: scalar(hard), soft: scalar(soft), grad }
}
