//! Wang et al., "Tent: fully test-time adaptation by entropy minimization", ICLR 2021, section 3, online: the answers to a batch are those
//! of the pass before its update, as in the authors' code.

use super::norm::scales_and_shifts;
use super::{batch_pass, Adapter, Learner, MethodInfo, Settings};
use crate::distill::data_free::entropy;
use crate::error::Result;
use crate::models::Model;
use crate::nn::Module;
use crate::tensor::Tensor;

pub(super) const METHOD: MethodInfo = MethodInfo {
    name: "tent",
    paper: "Wang et al. 2021",
    about: "as norm, and γ and β of the batch norms learn to make the answers sure",
    formula: "min over γ, β of mean over the batch of −Σ_c p_c log p_c",
    needs_norms: true,
    build: |model, settings| Ok(Box::new(Tent::new(model, settings)?)),
};

/// Added to probabilities before the logarithm, below what an `f32` near 1 can resolve.
const EPS: f64 = 1e-8;

struct Tent {
    model: Model,
    learner: Learner,
    steps: usize,
}

impl Tent {
    fn new(source: &Model, settings: &Settings) -> Result<Tent> {
        let model = source.copied()?;
        let learning = scales_and_shifts(&model);
        // Constants need no gradients, which saves the larger half of the backward pass.
        let rest = model.parameters().into_iter().filter(|(name, _)| learning.iter().all(|(other, _)| other != name));
        rest.for_each(|(_, parameter)| parameter.freeze());
        Ok(Tent { model, learner: Learner::new(learning, settings.lr)?, steps: settings.steps })
    }

    /// The answers before a step, and the step.
    fn step(&mut self, images: &Tensor) -> Result<Tensor> {
        let logits = self.model.forward(images, &mut batch_pass())?;
        let answers = logits.detach();
        self.learner.step(entropy(&logits, EPS)?)?;
        Ok(answers)
    }
}

impl Adapter for Tent {
    fn answer(&mut self, images: &Tensor) -> Result<Tensor> {
        for _ in 1..self.steps {
            self.step(images)?;
        }
        self.step(images)
    }

    fn model(&self) -> &Model {
        &self.model
    }
}
