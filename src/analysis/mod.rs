//! What explains a distillation: how alike the layers of two networks are, what the teacher takes for similar, and where each looks.

mod attention;
mod cka;

pub use attention::attention_pixels;
pub use cka::{features, linear_cka, similarities};

use crate::train::Evaluation;

/// The mean answer of a network at temperature `t` to the images of each class: `[class][answer]`, rows sum to 1. What is off the
/// diagonal is what soft targets say beyond the label. A class without images has NaN.
pub fn class_similarity(answers: &Evaluation, t: f64) -> Vec<Vec<f64>> {
    let classes = answers.classes;
    let (mut sums, mut counts) = (vec![vec![0.0; classes]; classes], vec![0.0; classes]);
    for (image, &label) in answers.labels.iter().enumerate() {
        counts[label] += 1.0;
        sums[label].iter_mut().zip(answers.probabilities(image, t)).for_each(|(sum, p)| *sum += p);
    }
    for (row, count) in sums.iter_mut().zip(counts) {
        row.iter_mut().for_each(|sum| *sum /= count);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_as_similar_as_the_answers_say() {
        let z = 3f32.ln();
        let answers =
            Evaluation { classes: 2, logits: vec![z, 0.0, 0.0, 0.0], predictions: vec![0, 0], labels: vec![0, 0] };
        let similarity = class_similarity(&answers, 1.0);
        assert!((similarity[0][0] - 0.625).abs() < 1e-6 && (similarity[0][1] - 0.375).abs() < 1e-6, "{similarity:?}");
        assert!(similarity[1].iter().all(|p| p.is_nan()), "no image of the second class");
    }
}
