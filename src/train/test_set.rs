//! The accuracy after each epoch, without bringing any answer back from the device.

use crate::autograd::no_grad;
use crate::data::Dataset;
use crate::error::Result;
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::{DType, Device, Tensor};

/// Labelled images that stay on the device.
pub struct TestSet {
    images: Tensor,
    labels: Vec<i32>,
    classes: usize,
}

impl TestSet {
    /// Brings a data set to the device.
    ///
    /// # Errors
    /// The device has not enough memory.
    pub fn new(data: &Dataset, device: Device) -> Result<TestSet> {
        let images = data.images.to_device(device)?;
        Ok(TestSet { images, labels: data.labels.clone(), classes: data.classes.len() })
    }

    /// Percent of the images that the model classifies correctly, `batch` at a time.
    pub fn accuracy(&self, model: &Model, batch: usize) -> Result<f64> {
        let device = self.images.device();
        let mut counts = Tensor::zeros([self.classes, self.classes], DType::I32, device)?;
        for (number, labels) in self.labels.chunks(batch).enumerate() {
            let first = (number * batch) as i32;
            let index: Vec<i32> = (first..first + labels.len() as i32).collect();
            let images = self.images.gather_images(&Tensor::from_slice(&index, [index.len()], device)?, None)?;
            let predictions = no_grad(|| model.forward(&images, &mut Context::eval()))?.argmax()?;
            counts.count_confusion(&predictions, &Tensor::from_slice(labels, [labels.len()], device)?)?;
        }
        let counts = counts.to_vec::<i32>()?;
        let correct: i32 = counts.iter().step_by(self.classes + 1).sum();
        Ok(100.0 * f64::from(correct) / self.labels.len().max(1) as f64)
    }
}
