//! Batches of images from a data set that lies on the device as bytes, and counts of what a classifier got right. Nothing here is
//! differentiated.

use super::check;
use crate::backend::params::ImagePlan;
use crate::error::Result;
use crate::tensor::{DType, Device, Shape, Tensor};

impl Tensor {
    /// Images `index: [n]` (`I32`) of this data set `[images, c, h, w]` (`U8`), in [0, 1], each changed as its plan says: `f32`,
    /// `[n, c, h, w]`.
    ///
    /// # Errors
    /// Types or shapes that do not fit, an index that is not an image's, or not one plan for each index.
    pub fn gather_images(&self, index: &Tensor, plans: Option<&[ImagePlan]>) -> Result<Tensor> {
        const OP: &str = "gather_images";
        check::dtype(OP, "self", self, DType::U8)?;
        check::rank(OP, "self", self, 4, "[images, c, h, w]")?;
        check::integer(OP, "index", index)?;
        check::rank(OP, "index", index, 1, "[n]")?;
        check::same_device(OP, self, index)?;
        super::gather::check_range(OP, index, self.shape()[0])?;
        let plans = plans
            .map(|plans| {
                const FIELDS: usize = size_of::<ImagePlan>() / size_of::<f32>();
                let plans =
                    Tensor::from_slice(bytemuck::cast_slice::<_, f32>(plans), [plans.len(), FIELDS], Device::Cpu)?;
                check::shape(OP, "plans", &plans, &Shape::from([index.numel(), FIELDS]))?;
                plans.to_device(self.device())
            })
            .transpose()?;
        self.backend().gather_images(self, index, plans.as_ref())
    }

    /// Adds one to element `[label, prediction]` of these counts `[classes, classes]` (`I32`) for each of `predictions: [n]` and
    /// `labels: [n]`.
    ///
    /// # Errors
    /// Types or shapes that do not fit, or a number that is no class.
    pub fn count_confusion(&mut self, predictions: &Tensor, labels: &Tensor) -> Result<()> {
        const OP: &str = "count_confusion";
        check::integer(OP, "self", self)?;
        check::rank(OP, "self", self, 2, "[classes, classes]")?;
        let classes = self.shape()[0];
        check::shape(OP, "self", self, &Shape::from([classes, classes]))?;
        check::shape(OP, "predictions", predictions, labels.shape())?;
        for (arg, given) in [("predictions", predictions), ("labels", labels)] {
            check::integer(OP, arg, given)?;
            check::same_device(OP, self, given)?;
        }
        super::gather::check_range(OP, labels, classes)?;
        self.backend().count_confusion(predictions, labels, self)
    }
}
