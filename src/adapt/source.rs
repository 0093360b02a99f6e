//! The model as it was trained: what adaptation is compared with.

use super::{Adapter, MethodInfo, Settings};
use crate::autograd::no_grad;
use crate::error::Result;
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::Tensor;

pub(super) const METHOD: MethodInfo = MethodInfo {
    name: "source",
    paper: "–",
    about: "the model as it was trained",
    formula: "ŷ = f(x; θ)",
    needs_norms: false,
    build: |model, _: &Settings| Ok(Box::new(Source(model.copied()?))),
};

struct Source(Model);

impl Adapter for Source {
    fn answer(&mut self, images: &Tensor) -> Result<Tensor> {
        no_grad(|| self.0.forward(images, &mut Context::eval()))
    }

    fn model(&self) -> &Model {
        &self.0
    }
}
