//! The accuracy after each epoch, without bringing any answer back from the device.

use crate::autograd::no_grad;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::{DType, Device, Tensor};
use std::ops::Range;

/// Labelled images that stay on the device.
pub struct TestSet {
    images: Tensor,
    groups: Vec<Group>,
}

/// Images of some of the classes, among which the answer is sought.
struct Group {
    classes: Range<usize>,
    /// Which images these are.
    index: Vec<i32>,
    /// Their classes, counted from the group's first.
    labels: Vec<i32>,
}

impl TestSet {
    /// Brings a data set to the device.
    ///
    /// # Errors
    /// The device has not enough memory.
    pub fn new(data: &Dataset, device: Device) -> Result<TestSet> {
        let all = 0..data.classes.len();
        TestSet::in_groups(data, &[all], device)
    }

    /// The same, but each image is judged among the classes of its own group only, as in learning one task after another.
    ///
    /// # Errors
    /// A group has no class or classes that there are not, or the device has not enough memory.
    pub fn in_groups(data: &Dataset, groups: &[Range<usize>], device: Device) -> Result<TestSet> {
        let group = |classes: &Range<usize>| {
            if classes.is_empty() || classes.end > data.classes.len() {
                let reason = format!("{classes:?} is no group of the {} classes", data.classes.len());
                return Err(Error::argument("classes", reason));
            }
            let images = data.labels.iter().enumerate().filter(|(_, &label)| classes.contains(&(label as usize)));
            let (index, labels) = images.map(|(i, &label)| (i as i32, label - classes.start as i32)).unzip();
            Ok(Group { classes: classes.clone(), index, labels })
        };
        let groups = groups.iter().map(group).collect::<Result<_>>()?;
        Ok(TestSet { images: data.images.to_device(device)?, groups })
    }

    /// Percent of the images that the model classifies correctly, `batch` at a time.
    pub fn accuracy(&self, model: &Model, batch: usize) -> Result<f64> {
        Ok(self.accuracies(model, batch)?.0)
    }

    /// The same, and the accuracy of each group if there are several.
    pub(super) fn accuracies(&self, model: &Model, batch: usize) -> Result<(f64, Vec<f64>)> {
        let (mut correct, mut images, mut groups) = (0, 0, Vec::new());
        for group in &self.groups {
            let right = self.correct(group, model, batch)?;
            (correct, images) = (correct + right, images + group.labels.len());
            groups.push(percent(right, group.labels.len()));
        }
        if groups.len() == 1 {
            groups.clear();
        }
        Ok((percent(correct, images), groups))
    }

    /// How many images of a group are classified correctly.
    fn correct(&self, group: &Group, model: &Model, batch: usize) -> Result<i32> {
        let (device, classes) = (self.images.device(), group.classes.len());
        let mut counts = Tensor::zeros([classes, classes], DType::I32, device)?;
        for (index, labels) in group.index.chunks(batch).zip(group.labels.chunks(batch)) {
            let images = self.images.gather_images(&Tensor::from_slice(index, [index.len()], device)?, None)?;
            let mut logits = no_grad(|| model.forward(&images, &mut Context::eval()))?;
            if logits.shape()[1] != classes {
                logits = logits.narrow(1, group.classes.start, classes)?;
            }
            counts.count_confusion(&logits.argmax()?, &Tensor::from_slice(labels, [labels.len()], device)?)?;
        }
        Ok(counts.to_vec::<i32>()?.iter().step_by(classes + 1).sum())
    }
}

fn percent(correct: i32, images: usize) -> f64 {
    100.0 * f64::from(correct) / images.max(1) as f64
}
