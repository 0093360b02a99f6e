//! What a forward pass needs to know besides its input.

use crate::tensor::{Rng, Tensor};
use std::collections::BTreeMap;

/// Training or evaluation, the random numbers of this pass, and the feature taps that were asked for.
pub struct Context {
    training: Option<Rng>,
    draws: u64,
    wanted: Vec<String>,
    taken: BTreeMap<String, Tensor>,
}

impl Context {
    /// Evaluation: dropout passes everything, batch norm uses its running statistics.
    pub fn eval() -> Context {
        Context { training: None, draws: 0, wanted: Vec::new(), taken: BTreeMap::new() }
    }

    /// Training. `rng` must differ from step to step (derive it from the step's number), or dropout repeats itself.
    pub fn train(rng: Rng) -> Context {
        Context { training: Some(rng), ..Context::eval() }
    }

    /// Asks for feature maps by name.
    pub fn with_taps(mut self, names: &[&str]) -> Context {
        self.wanted = names.iter().map(|name| name.to_string()).collect();
        self
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
