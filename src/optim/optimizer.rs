//! Optimisers, with PyTorch's semantics and defaults.

use crate::autograd::Gradients;
use crate::backend::params::{Adam, RmsProp, Sgd};
use crate::error::{Error, Result};
use crate::nn::Parameter;
use crate::suggest::nearest;
use crate::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An optimiser and its settings; the learning rate comes with each step, from a `Schedule`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// Stochastic gradient descent, with momentum (Nesterov's if asked for) where `momentum` is above 0.
    Sgd { momentum: f64, nesterov: bool, weight_decay: f64 },
    /// Kingma & Ba 2015; weight decay is added to the gradient.
    Adam { beta1: f64, beta2: f64, eps: f64, weight_decay: f64 },
    /// Loshchilov & Hutter 2019; weight decay shrinks the weights directly.
    AdamW { beta1: f64, beta2: f64, eps: f64, weight_decay: f64 },
    /// Hinton's lecture 6e, as PyTorch has it.
    RmsProp { alpha: f64, eps: f64, momentum: f64, weight_decay: f64 },
}

/// The names that [`OptimizerConfig::named`] knows.
const NAMES: [&str; 4] = ["sgd", "adam", "adamw", "rmsprop"];

impl OptimizerConfig {
    /// An optimiser by name, with PyTorch's defaults for what is not given.
    ///
    /// # Errors
    /// An unknown name.
    pub fn named(name: &str, momentum: f64, weight_decay: f64) -> Result<OptimizerConfig> {
        let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
        match name {
            "sgd" => Ok(OptimizerConfig::Sgd { momentum, nesterov: false, weight_decay }),
            "adam" => Ok(OptimizerConfig::Adam { beta1, beta2, eps, weight_decay }),
            "adamw" => Ok(OptimizerConfig::AdamW { beta1, beta2, eps, weight_decay }),
            "rmsprop" => Ok(OptimizerConfig::RmsProp { alpha: 0.99, eps, momentum, weight_decay }),
            _ => {
                let hint = nearest(name, &NAMES).map(|n| format!("did you mean `{n}`? "));
                let known = NAMES.join(", ");
                Err(Error::argument(
                    "optimizer",
                    format!("unknown `{name}`; {}known: {known}", hint.unwrap_or_default()),
                ))
            }
        }
    }
}

/// An optimiser with the state that it keeps for each parameter, by the parameter's name.
pub struct Optimizer {
    config: OptimizerConfig,
    slots: BTreeMap<String, Slot>,
}

/// What is kept for one parameter.
struct Slot {
    /// Steps taken.
    steps: u64,
    /// Momentum, or the first moment; absent where the optimiser has none.
    first: Option<Tensor>,
    /// The second moment; absent where the optimiser has none.
    second: Option<Tensor>,
}

impl Optimizer {
    /// An optimiser that has taken no step.
    pub fn new(config: OptimizerConfig) -> Optimizer {
        Optimizer { config, slots: BTreeMap::new() }
    }

    /// Updates every parameter that has a gradient.
    pub fn step(&mut self, parameters: &[(String, Parameter)], gradients: &Gradients, lr: f64) -> Result<()> {
        for (name, parameter) in parameters {
            let Some(gradient) = gradients.get(&parameter.get()) else { continue };
            if !self.slots.contains_key(name) {
                self.slots.insert(name.clone(), Slot::new(self.config, gradient));
            }
            let slot = self.slots.get_mut(name).expect("just inserted");
            slot.steps += 1;
            parameter.update(|value| slot.update(self.config, value, gradient, lr))?;
        }
        Ok(())
    }

    /// Everything that a resumed optimiser needs, as named tensors.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for (name, slot) in &self.slots {
            let device = slot.first.as_ref().or(slot.second.as_ref()).map(Tensor::device).unwrap_or_default();
            state.insert(format!("{name}.{STEPS}"), Tensor::scalar(slot.steps as i32, device));
            let moments = [(FIRST, &slot.first), (SECOND, &slot.second)];
            for (key, tensor) in moments.into_iter().filter_map(|(key, t)| Some((key, t.as_ref()?))) {
                state.insert(format!("{name}.{key}"), tensor.clone());
            }
        }
        state
    }

    /// Takes over what [`Optimizer::state`] returned; other names are ignored.
    ///
    /// # Errors
    /// A state that this optimiser did not write.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let suffix = format!(".{STEPS}");
        for (key, steps) in state {
            let Some(name) = key.strip_suffix(&suffix) else { continue };
            let moment = |key: &str| state.get(&format!("{name}.{key}")).cloned();
            let slot = Slot { steps: steps.item()? as u64, first: moment(FIRST), second: moment(SECOND) };
            let expected = Slot::new(self.config, &Tensor::zeros([0], DType::F32, steps.device()));
            if slot.first.is_some() != expected.first.is_some() || slot.second.is_some() != expected.second.is_some() {
                let reason = format!("the saved state of `{name}` is of another optimiser than {:?}", self.config);
                return Err(Error::argument("optimizer", reason));
            }
            self.slots.insert(name.to_string(), slot);
        }
        Ok(())
    }
}

const STEPS: &str = "step";
const FIRST: &str = "first_moment";
const SECOND: &str = "second_moment";

impl Slot {
    fn new(config: OptimizerConfig, like: &Tensor) -> Slot {
        let zeros = |wanted: bool| wanted.then(|| Tensor::zeros(*like.shape(), like.dtype(), like.device()));
        let (first, second) = match config {
            OptimizerConfig::Sgd { momentum, .. } => (momentum > 0.0, false),
            OptimizerConfig::RmsProp { momentum, .. } => (momentum > 0.0, true),
            OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => (true, true),
        };
        Slot { steps: 0, first: zeros(first), second: zeros(second) }
    }

    fn update(&mut self, config: OptimizerConfig, value: &mut Tensor, gradient: &Tensor, lr: f64) -> Result<()> {
        let backend = gradient.backend();
        let (first, second) = (self.first.as_mut(), self.second.as_mut());
        match (config, first, second) {
            (OptimizerConfig::Sgd { momentum, nesterov, weight_decay }, first, _) => {
                let p = Sgd { lr, momentum, nesterov, weight_decay, first_step: self.steps == 1 };
                backend.sgd(p, value, gradient, first)
            }
            (OptimizerConfig::RmsProp { alpha, eps, momentum, weight_decay }, first, Some(second)) => {
                backend.rmsprop(RmsProp { lr, alpha, eps, weight_decay, momentum }, value, gradient, second, first)
            }
            (OptimizerConfig::Adam { beta1, beta2, eps, weight_decay }, Some(m), Some(v)) => {
                let p = Adam { lr, beta1, beta2, eps, weight_decay, decoupled: false, step: self.steps };
                backend.adam(p, value, gradient, m, v)
            }
            (OptimizerConfig::AdamW { beta1, beta2, eps, weight_decay }, Some(m), Some(v)) => {
                let p = Adam { lr, beta1, beta2, eps, weight_decay, decoupled: true, step: self.steps };
                backend.adam(p, value, gradient, m, v)
            }
            _ => unreachable!("a slot holds the moments of its optimiser"),
        }
    }
}
