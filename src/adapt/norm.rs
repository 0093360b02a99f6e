//! Batch normalisation with the statistics of the test batch (Schneider et al., "Improving robustness against common corruptions by
//! covariate shift adaptation", NeurIPS 2020; Nado et al., "Evaluating prediction-time batch normalization for robustness under
//! covariate shift", 2020, is the case N = 0). Nothing is trained and nothing is remembered from batch to batch.

use super::{Adapter, MethodInfo};
use crate::autograd::no_grad;
use crate::error::Result;
use crate::models::Model;
use crate::nn::{Context, Module, Parameter};
use crate::tensor::Tensor;
use std::collections::BTreeSet;

pub(super) const METHOD: MethodInfo = MethodInfo {
    name: "norm",
    paper: "Schneider et al. 2020, Nado et al. 2020",
    about: "batch norms use the statistics of the test batch of n images; those of the training count for N more (--source-images)",
    formula: "μ = N/(N + n) · μ_source + n/(N + n) · μ_batch, σ² likewise",
    needs_norms: true,
    build: |model, settings| {
        Ok(Box::new(Norm { model: model.copied()?, source_images: settings.source_images }))
    },
};

struct Norm {
    model: Model,
    source_images: f64,
}

impl Adapter for Norm {
    fn answer(&mut self, images: &Tensor) -> Result<Tensor> {
        no_grad(|| self.model.forward(images, &mut Context::eval().with_batch_statistics(self.source_images)))
    }

    fn model(&self) -> &Model {
        &self.model
    }
}

/// γ and β of every batch normalisation, by name: the weights and biases of the layers that keep a running mean.
pub(super) fn scales_and_shifts(model: &Model) -> Vec<(String, Parameter)> {
    let buffers = model.buffers();
    let norms: BTreeSet<&str> = buffers.iter().filter_map(|(name, _)| name.strip_suffix("running_mean")).collect();
    let of_a_norm = |name: &str| {
        ["weight", "bias"].iter().any(|own| name.strip_suffix(own).is_some_and(|layer| norms.contains(layer)))
    };
    model.parameters().into_iter().filter(|(name, _)| of_a_norm(name)).collect()
}
