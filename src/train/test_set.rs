//! The accuracy after each epoch, without bringing any answer back from the device.

use crate::autograd::no_grad;
use crate::backend;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::{DType, Device, Tensor};
use std::ops::Range;

/// Labelled images that stay on the device.
pub struct TestSet {
    images: Tensor,
    /// All images, judged among all classes.
    all: Group,
    /// Tasks of their own, if there are any.
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
        TestSet::in_groups(data, &[], device)
    }

    /// The same, and beside the accuracy over all classes that of each group, whose images are judged among its own classes only, as in
    /// learning one task after another.
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
        let all = group(&(0..data.classes.len()))?;
        let groups = groups.iter().map(group).collect::<Result<_>>()?;
        Ok(TestSet { images: data.images.to_device(device)?, all, groups })
    }

    /// Percent of the images that the model classifies correctly among all classes, `batch` at a time.
    pub fn accuracy(&self, model: &Model, batch: usize) -> Result<f64> {
        self.of_group(&self.all, model, batch)
    }

    /// The same, and the accuracy of each group.
    pub(super) fn accuracies(&self, model: &Model, batch: usize) -> Result<(f64, Vec<f64>)> {
        let groups = self.groups.iter().map(|group| self.of_group(group, model, batch)).collect::<Result<_>>()?;
        Ok((self.accuracy(model, batch)?, groups))
    }

    /// Percent of a group's images that are classified correctly among its classes.
    fn of_group(&self, group: &Group, model: &Model, batch: usize) -> Result<f64> {
        let (device, classes) = (self.images.device(), group.classes.len());
        let mut counts = Tensor::zeros([classes, classes], DType::I32, device)?;
        for (index, labels) in group.index.chunks(batch).zip(group.labels.chunks(batch)) {
            backend::bundled(device, || {
                let images = self.images.gather_images(&Tensor::from_slice(index, [index.len()], device)?, None)?;
                let mut logits = no_grad(|| model.forward(&images, &mut Context::eval()))?;
                if logits.shape()[1] != classes {
                    logits = logits.narrow(1, group.classes.start, classes)?;
                }
                counts.count_confusion(&logits.argmax()?, &Tensor::from_slice(labels, [labels.len()], device)?)
            })?;
        }
        let correct: i32 = counts.to_vec::<i32>()?.iter().step_by(classes + 1).sum();
        Ok(100.0 * f64::from(correct) / group.labels.len().max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits::{generate, DigitsConfig};
    use crate::models::Task;
    use crate::tensor::Rng;

    #[test]
    fn groups_are_judged_among_their_own_classes_and_the_whole_among_all() {
        let data = generate(&DigitsConfig { train: 10, test: 200, ..Default::default() }).test;
        let task = Task { input: data.image_shape(), classes: 10 };
        let model = Model::new("student_net", task, Rng::new(3, 0), Device::Cpu).unwrap();
        let whole = TestSet::new(&data, Device::Cpu).unwrap().accuracies(&model, 64).unwrap();
        assert!(whole.1.is_empty());
        let halves = TestSet::in_groups(&data, &[0..5, 5..10], Device::Cpu).unwrap().accuracies(&model, 64).unwrap();
        assert_eq!(halves.0, whole.0, "groups make nothing easier");
        // A guess among five is right twice as often as one among ten.
        assert_eq!(halves.1.len(), 2);
        assert!(halves.1.iter().sum::<f64>() / 2.0 > whole.0, "{halves:?}");
    }
}
