//! What a forward pass needs to know besides its input.

use crate::error::Result;
use crate::tensor::{Rng, Tensor};
use std::collections::BTreeMap;

/// Behind the name of a tap: what the ReLU that ends its layer took.
pub const PRE_ACTIVATION: &str = ".pre";

/// Training or evaluation, the random numbers of this pass, and the feature taps that were asked for.
pub struct Context {
    training: Option<Rng>,
    draws: u64,
    wanted: Vec<String>,
    pre_activation: Option<String>,
    taken: BTreeMap<String, Tensor>,
    norm_inputs: Option<Vec<NormInput>>,
    batch_statistics: Option<f64>,
}

/// What a batch normalisation saw, and what it expected from its training.
pub struct NormInput {
    /// Its input, `[n, c, h, w]`.
    pub x: Tensor,
    /// The running mean, `[c]`.
    pub mean: Tensor,
    /// The running variance, `[c]`.
    pub var: Tensor,
}

impl Context {
    /// Evaluation: dropout passes everything, batch norm uses its running statistics.
    pub fn eval() -> Context {
        Context {
            training: None,
            draws: 0,
            wanted: Vec::new(),
            pre_activation: None,
            taken: BTreeMap::new(),
            norm_inputs: None,
            batch_statistics: None,
        }
    }

    /// Training. `rng` must differ from step to step (derive it from the step's number), or dropout repeats itself.
    pub fn train(rng: Rng) -> Context {
        Context { training: Some(rng), ..Context::eval() }
    }

    /// Asks for feature maps by name; with [`PRE_ACTIVATION`] behind it, for what the ReLU that makes it takes.
    pub fn with_taps(mut self, names: &[&str]) -> Context {
        self.wanted = names.iter().map(|name| name.to_string()).collect();
        self
    }

    /// Asks every batch normalisation for its input.
    pub fn with_norm_inputs(mut self) -> Context {
        self.norm_inputs = Some(Vec::new());
        self
    }

    /// Evaluation in which batch normalisations use the statistics of the batch and track nothing. With `source` above 0 the running
    /// statistics count as those of so many more images (Schneider et al. 2020), and both are constants to the gradient.
    pub fn with_batch_statistics(mut self, source: f64) -> Context {
        self.batch_statistics = Some(source);
        self
    }

    /// How many images the running statistics count for beside the batch's own; `None` where batch normalisations use them alone.
    pub fn batch_statistics(&self) -> Option<f64> {
        self.batch_statistics
    }

    /// Whether a batch normalisation is a fixed scale and shift in this pass, which a layer may fold into its weights.
    pub fn folds_norms(&self) -> bool {
        !self.is_training() && self.norm_inputs.is_none() && self.batch_statistics.is_none()
    }

    /// Offers the input of a batch normalisation; it is kept if they were asked for.
    pub fn norm_input(&mut self, x: &Tensor, mean: &Tensor, var: &Tensor) {
        if let Some(inputs) = &mut self.norm_inputs {
            inputs.push(NormInput { x: x.clone(), mean: mean.detach(), var: var.detach() });
        }
    }

    /// The inputs of the batch normalisations, in order, if they were asked for.
    pub fn norm_inputs(&self) -> &[NormInput] {
        self.norm_inputs.as_deref().unwrap_or_default()
    }

    /// Whether this is a training pass.
    pub fn is_training(&self) -> bool {
        self.training.is_some()
    }

    /// Random numbers for the next layer that needs some; `None` in evaluation.
    pub fn next_rng(&mut self) -> Option<Rng> {
        self.draws += 1;
        self.training.map(|rng| rng.derive(self.draws))
    }

    /// Says that the next layer's output is tapped under this name, or not at all.
    pub fn enter(&mut self, tap: Option<&str>) {
        let is_before = |name: &&String| name.strip_suffix(PRE_ACTIVATION) == tap;
        self.pre_activation = tap.and(self.wanted.iter().find(is_before).cloned());
    }

    /// Whether somebody asked for what this layer's ReLU takes, so that the ReLU must be a step of its own.
    pub fn wants_pre_activation(&self) -> bool {
        self.pre_activation.is_some()
    }

    /// The ReLU that ends a layer; what it takes is kept if somebody asked for it.
    pub fn relu(&mut self, x: &Tensor) -> Result<Tensor> {
        if let Some(name) = self.pre_activation.take() {
            self.taken.insert(name, x.clone());
        }
        x.relu()
    }

    /// Offers a feature map; it is kept if somebody asked for it.
    pub fn tap(&mut self, name: &str, features: &Tensor) {
        if self.wanted.iter().any(|wanted| wanted == name) {
            self.taken.insert(name.to_string(), features.clone());
        }
    }

    /// The feature map tapped under `name`, if the model has such a tap and it was asked for.
    pub fn tapped(&self, name: &str) -> Option<&Tensor> {
        self.taken.get(name)
    }
}
