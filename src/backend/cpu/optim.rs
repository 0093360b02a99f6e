//! The optimisers' rules as calls of their kernels.

use super::kernels::optim;
use super::written;
use crate::backend::params::{OptimizerSlot, Rule};

/// One step on one `f32` parameter.
pub(super) fn optimise(rule: Rule, gradient_scale: f64, slot: &mut OptimizerSlot) {
    let value = written(slot.value);
    let gradient = optim::Gradient { values: slot.gradient.slice(), scale: gradient_scale as f32 };
    let first = slot.first.as_deref_mut().map_or(&mut [][..], written);
    let second = slot.second.as_deref_mut().map_or(&mut [][..], written);
    match rule {
        Rule::Sgd(p) => {
            if p.first_step {
                first.fill(0.0);
            }
            let kernel = optim::Sgd {
                learning_rate: p.lr as f32,
                momentum: p.momentum as f32,
                weight_decay: p.weight_decay as f32,
                nesterov: p.nesterov,
            };
            kernel.update(value, gradient, first);
        }
        Rule::Adam(p) => {
            let kernel = optim::Adam {
                learning_rate: p.lr as f32,
                beta1: p.beta1 as f32,
                beta2: p.beta2 as f32,
                epsilon: p.eps as f32,
                weight_decay: p.weight_decay as f32,
                decoupled: p.decoupled,
                step: u32::try_from(p.step).unwrap_or(u32::MAX),
            };
            kernel.update(value, gradient, first, second);
        }
        Rule::RmsProp(p) => {
            let kernel = optim::RmsProp {
                learning_rate: p.lr as f32,
                alpha: p.alpha as f32,
                epsilon: p.eps as f32,
                momentum: p.momentum as f32,
                weight_decay: p.weight_decay as f32,
            };
            kernel.update(value, gradient, second, first);
        }
    }
}
