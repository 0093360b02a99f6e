//! What a model says about a data set, and how good that is.

use crate::autograd::no_grad;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::{Device, Tensor};

/// A model's answers to every image of a data set.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Number of classes.
    pub classes: usize,
    /// The logits, `[images, classes]`, row-major.
    pub logits: Vec<f32>,
    /// The class with the largest logit (the first, if several) for each image.
    pub predictions: Vec<usize>,
    /// The true classes.
    pub labels: Vec<usize>,
}

/// Bins of the expected calibration error (Guo et al. 2017 use 15).
const CALIBRATION_BINS: usize = 15;

/// Runs the model over a whole data set, `batch` images at a time.
pub fn evaluate(model: &Model, data: &Dataset, batch: usize, device: Device) -> Result<Evaluation> {
    evaluate_with(data, batch, device, &mut |images| {
        no_grad(|| model.forward(images, &mut Context::eval()))?.to_vec::<f32>()
    })
}

/// The same for whatever `answer` is: it is shown images `[n, c, h, w]` in [0, 1], batch after batch in order, and returns their logits,
/// `[n, classes]`, row-major.
///
/// # Errors
/// Those of `answer`; or there is not enough memory.
pub fn evaluate_with(
    data: &Dataset,
    batch: usize,
    device: Device,
    answer: &mut dyn FnMut(&Tensor) -> Result<Vec<f32>>,
) -> Result<Evaluation> {
    let classes = data.classes.len();
    let mut logits = Vec::with_capacity(data.len() * classes);
    for start in (0..data.len()).step_by(batch) {
        logits.extend(answer(&data.images_tensor(start..(start + batch).min(data.len()), device)?)?);
    }
    let predictions = logits.chunks(classes).map(argmax).collect();
    let labels = data.labels.iter().map(|&label| label as usize).collect();
    Ok(Evaluation { classes, logits, predictions, labels })
}

impl Evaluation {
    /// The same answers to a coarser question: `mapping` gives the new class of each class, whose probability is the sum of its
    /// members'.
    pub fn grouped(self, mapping: &[usize]) -> Evaluation {
        let groups = mapping.iter().max().map_or(0, |last| last + 1);
        if mapping.iter().copied().eq(0..self.classes) {
            return self;
        }
        let grouped = |row: &[f32]| {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sums = vec![0f32; groups];
            row.iter().zip(mapping).for_each(|(z, &group)| sums[group] += (z - max).exp());
            // A group of which nothing is left after rounding keeps a finite logit.
            sums.into_iter().map(move |sum| sum.max(f32::MIN_POSITIVE).ln())
        };
        let logits: Vec<f32> = self.logits.chunks(self.classes).flat_map(grouped).collect();
        let predictions = logits.chunks(groups).map(argmax).collect();
        let labels = self.labels.iter().map(|&label| mapping[label]).collect();
        Evaluation { classes: groups, logits, predictions, labels }
    }

    /// What several models say together: the mean of their class probabilities, whose logarithms stand for the logits.
    ///
    /// # Errors
    /// There is no model, or they were not asked about the same images.
    pub fn ensemble(members: &[Evaluation]) -> Result<Evaluation> {
        let alike = |first: &Evaluation| {
            members.iter().all(|member| member.labels == first.labels && member.classes == first.classes)
        };
        let first = members.first().filter(|first| alike(first));
        let first =
            first.ok_or_else(|| Error::argument("ensemble", "needs one or more models that saw the same images"))?;
        let mut logits = Vec::with_capacity(first.logits.len());
        for image in 0..first.labels.len() {
            let mut sum = vec![0.0; first.classes];
            for member in members {
                sum.iter_mut().zip(member.probabilities(image, 1.0)).for_each(|(sum, p)| *sum += p);
            }
            logits.extend(sum.iter().map(|p| (p / members.len() as f64).ln() as f32));
        }
        let predictions = logits.chunks(first.classes).map(argmax).collect();
        Ok(Evaluation { logits, predictions, ..first.clone() })
    }

    /// Percent classified correctly.
    pub fn accuracy(&self) -> f64 {
        percent(self.correct().filter(|correct| *correct).count(), self.labels.len())
    }

    /// For each image, whether it was classified correctly.
    pub fn correct(&self) -> impl Iterator<Item = bool> + '_ {
        self.predictions.iter().zip(&self.labels).map(|(prediction, label)| prediction == label)
    }

    /// Percent of images for which two models predict the same class.
    pub fn agreement(&self, other: &Evaluation) -> f64 {
        let same = self.predictions.iter().zip(&other.predictions).filter(|(a, b)| a == b).count();
        percent(same, self.predictions.len())
    }

    /// Counts by true class (row) and predicted class (column).
    pub fn confusion(&self) -> Vec<Vec<u64>> {
        let mut counts = vec![vec![0; self.classes]; self.classes];
        for (&prediction, &label) in self.predictions.iter().zip(&self.labels) {
            counts[label][prediction] += 1;
        }
        counts
    }

    /// The class probabilities of one image at temperature `t`.
    pub fn probabilities(&self, image: usize, t: f64) -> Vec<f64> {
        let row = &self.logits[image * self.classes..(image + 1) * self.classes];
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let e: Vec<f64> = row.iter().map(|z| (f64::from(z - max) / t).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.into_iter().map(|e| e / sum).collect()
    }

    /// Expected calibration error in percent (Guo et al. 2017, eq. 3): the mean gap between confidence and accuracy over 15
    /// equally wide bins of confidence, weighted by the images in each.
    pub fn calibration_error(&self) -> f64 {
        let mut bins = [(0usize, 0.0, 0usize); CALIBRATION_BINS];
        for (image, correct) in self.correct().enumerate() {
            let confidence = self.probabilities(image, 1.0)[self.predictions[image]];
            let bin = ((confidence * CALIBRATION_BINS as f64).ceil() as usize).clamp(1, CALIBRATION_BINS) - 1;
            let (count, sum, right) = &mut bins[bin];
            *count += 1;
            *sum += confidence;
            *right += usize::from(correct);
        }
        let gaps = bins.iter().map(|(_, confidence, right)| (confidence - *right as f64).abs());
        100.0 * gaps.sum::<f64>() / self.labels.len().max(1) as f64
    }
}

fn argmax(row: &[f32]) -> usize {
    let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (1..row.len()).fold(0, better)
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(logits: &[[f32; 2]], labels: &[usize]) -> Evaluation {
        let predictions = logits.iter().map(|row| argmax(row)).collect();
        Evaluation { classes: 2, logits: logits.concat(), predictions, labels: labels.to_vec() }
    }

    #[test]
    fn accuracy_agreement_and_confusion_are_counted() {
        let a = evaluation(&[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 5.0]], &[0, 1, 1, 0]);
        assert_eq!(a.accuracy(), 50.0);
        assert_eq!(a.confusion(), [[1, 1], [1, 1]]);
        let b = evaluation(&[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], &[0, 1, 1, 0]);
        assert_eq!(a.agreement(&b), 75.0);
    }

    #[test]
    fn calibration_error_is_the_gap_between_confidence_and_accuracy() {
        // Always sure, right half of the time.
        let sure = evaluation(&[[100.0, 0.0]; 4], &[0, 1, 0, 1]);
        assert!((sure.calibration_error() - 50.0).abs() < 1e-9);
        // 75 % sure, right three times of four.
        let z = 3f32.ln();
        let calibrated = evaluation(&[[z, 0.0]; 4], &[0, 0, 0, 1]);
        assert!(calibrated.calibration_error() < 1e-4, "{}", calibrated.calibration_error());
    }

    #[test]
    fn a_groups_probability_is_the_sum_of_its_members() {
        let z = [1.0f32, 0.9, 0.8];
        let three = Evaluation { classes: 3, logits: z.to_vec(), predictions: vec![0], labels: vec![1] };
        let p = three.probabilities(0, 1.0);
        let two = three.clone().grouped(&[0, 1, 1]);
        assert_eq!((two.classes, &two.predictions[..], &two.labels[..]), (2, &[1][..], &[1][..]));
        assert!((two.probabilities(0, 1.0)[1] - (p[1] + p[2])).abs() < 1e-6);
        assert_eq!(three.clone().grouped(&[0, 1, 2]).logits, z);
    }

    #[test]
    fn an_ensemble_averages_probabilities() {
        // The mean of the logits says the second class, the mean of the probabilities (0.88, 0.62, 0.02) the first.
        let members =
            [evaluation(&[[2.0, 0.0]], &[0]), evaluation(&[[0.5, 0.0]], &[0]), evaluation(&[[0.0, 4.0]], &[0])];
        let together = Evaluation::ensemble(&members).unwrap();
        let p: Vec<f64> = members.iter().map(|m| m.probabilities(0, 1.0)[0]).collect();
        assert!((together.probabilities(0, 1.0)[0] - (p[0] + p[1] + p[2]) / 3.0).abs() < 1e-6);
        assert_eq!(together.predictions, [0]);
        assert!(Evaluation::ensemble(&[]).is_err());
    }

    #[test]
    fn probabilities_soften_with_temperature() {
        let e = evaluation(&[[2.0, 0.0]], &[0]);
        let p = |t| e.probabilities(0, t)[0];
        assert!((p(1.0) - 1.0 / (1.0 + (-2f64).exp())).abs() < 1e-12);
        assert!(p(1.0) > p(3.0) && p(3.0) > p(10.0) && p(10.0) > 0.5);
    }
}
