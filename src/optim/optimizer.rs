//! Optimisers, with PyTorch's semantics and defaults.

use super::clip::clip_factor;
use crate::autograd::{segment_ends, Gradients, Phase};
use crate::backend::params::{Adam, OptimizerSlot, RmsProp, Rule, Sgd};
use crate::error::{Error, Result};
use crate::nn::Parameter;
use crate::suggest::nearest;
use crate::tensor::{Device, Shape, Tensor};
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

impl OptimizerConfig {
    /// The name that [`OptimizerConfig::named`] knows it by.
    fn name(self) -> &'static str {
        match self {
            OptimizerConfig::Sgd { .. } => "sgd",
            OptimizerConfig::Adam { .. } => "adam",
            OptimizerConfig::AdamW { .. } => "adamw",
            OptimizerConfig::RmsProp { .. } => "rmsprop",
        }
    }

    /// Whether there is a first and a second moment for each parameter.
    fn moments(self) -> [bool; 2] {
        match self {
            OptimizerConfig::Sgd { momentum, .. } => [momentum > 0.0, false],
            OptimizerConfig::RmsProp { momentum, .. } => [momentum > 0.0, true],
            OptimizerConfig::Adam { .. } | OptimizerConfig::AdamW { .. } => [true, true],
        }
    }

    /// The rule of step number `step`, from 1.
    fn rule(self, lr: f64, step: u64) -> Rule {
        match self {
            OptimizerConfig::Sgd { momentum, nesterov, weight_decay } => {
                Rule::Sgd(Sgd { lr, momentum, nesterov, weight_decay, first_step: step == 1 })
            }
            OptimizerConfig::RmsProp { alpha, eps, momentum, weight_decay } => {
                Rule::RmsProp(RmsProp { lr, alpha, eps, weight_decay, momentum })
            }
            OptimizerConfig::Adam { beta1, beta2, eps, weight_decay } => {
                Rule::Adam(Adam { lr, beta1, beta2, eps, weight_decay, decoupled: false, step })
            }
            OptimizerConfig::AdamW { beta1, beta2, eps, weight_decay } => {
                Rule::Adam(Adam { lr, beta1, beta2, eps, weight_decay, decoupled: true, step })
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

    /// Updates every parameter that has a gradient; one that goes by several names, once.
    pub fn step(&mut self, parameters: &[(String, Parameter)], gradients: &Gradients, lr: f64) -> Result<()> {
        self.scaled_step(parameters, gradients, 1.0, lr)
    }

    /// [`step`](Optimizer::step) after [`clip_grad_norm`](super::clip_grad_norm), without writing the clipped gradients down.
    ///
    /// # Errors
    /// `max_norm` is not above 0.
    pub fn clipped_step(
        &mut self,
        parameters: &[(String, Parameter)],
        gradients: &Gradients,
        max_norm: f64,
        lr: f64,
    ) -> Result<()> {
        let (_, factor) = clip_factor(parameters, gradients, max_norm)?;
        self.scaled_step(parameters, gradients, factor, lr)
    }

    fn scaled_step(
        &mut self,
        parameters: &[(String, Parameter)],
        gradients: &Gradients,
        gradient_scale: f64,
        lr: f64,
    ) -> Result<()> {
        let mut due = BTreeMap::new();
        for (name, parameter) in parameters {
            let Some(gradient) = gradients.get(&parameter.get()) else { continue };
            if due.values().any(|(other, _): &(&Parameter, &Tensor)| other.is(parameter)) {
                continue;
            }
            due.insert(name.as_str(), (parameter, gradient));
            match self.slots.get_mut(name) {
                Some(slot) => slot.move_to(gradient.device())?,
                None => {
                    self.slots.insert(name.clone(), Slot::new(self.config, gradient)?);
                }
            }
        }
        let mut due: Vec<_> = self
            .slots
            .iter_mut()
            .filter_map(|(name, slot)| {
                let (parameter, gradient) = due.get(name.as_str())?;
                slot.steps += 1;
                Some((slot, parameter.write(), *gradient))
            })
            .collect();
        // Parameters may have joined at different times; those that have taken the same number of steps share one call.
        due.sort_by_key(|(slot, ..)| slot.steps);
        for group in due.chunk_by_mut(|(a, ..), (b, ..)| a.steps == b.steps) {
            let (rule, backend) = (self.config.rule(lr, group[0].0.steps), group[0].2.backend());
            let mut slots: Vec<OptimizerSlot> = group
                .iter_mut()
                .map(|(slot, value, gradient)| OptimizerSlot {
                    value,
                    gradient,
                    first: slot.first.as_mut(),
                    second: slot.second.as_mut(),
                })
                .collect();
            backend.optimize(rule, gradient_scale, &mut slots)?;
        }
        segment_ends(Phase::Optimizer, self.config.name(), Shape::SCALAR);
        Ok(())
    }

    /// Everything that a resumed optimiser needs, as named tensors.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for (name, slot) in &self.slots {
            let steps = Tensor::scalar(slot.steps as i32, Device::Cpu).expect("host memory is always there");
            state.insert(format!("{name}.{STEPS}"), steps);
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
            let [first, second] = self.config.moments();
            if slot.first.is_some() != first || slot.second.is_some() != second {
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
    fn new(config: OptimizerConfig, like: &Tensor) -> Result<Slot> {
        let zeros =
            |wanted: bool| wanted.then(|| Tensor::zeros(*like.shape(), like.dtype(), like.device())).transpose();
        let [first, second] = config.moments();
        Ok(Slot { steps: 0, first: zeros(first)?, second: zeros(second)? })
    }

    /// A loaded state lies on the host until its parameter is first updated.
    fn move_to(&mut self, device: Device) -> Result<()> {
        for moment in [&mut self.first, &mut self.second].into_iter().flatten() {
            if moment.device() != device {
                *moment = moment.to_device(device)?;
            }
        }
        Ok(())
    }
}
