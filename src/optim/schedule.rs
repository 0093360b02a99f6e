//! Learning rates over time, in closed form: the rate at a step depends on the step alone.

use crate::error::{Error, Result};
use crate::suggest::nearest;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A learning-rate schedule; steps count from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "schedule", rename_all = "snake_case")]
pub enum Schedule {
    /// Always the same.
    Constant { base_lr: f64 },
    /// Times `gamma` every `step_size` steps.
    Step { base_lr: f64, step_size: u64, gamma: f64 },
    /// Times `gamma` at each milestone.
    MultiStep { base_lr: f64, milestones: Vec<u64>, gamma: f64 },
    /// Half a cosine from `base_lr` to `min_lr` over `total_steps` (Loshchilov & Hutter 2017), after `warmup_steps` in which the
    /// rate grows linearly: `base · (step + 1) / warmup`.
    Cosine { base_lr: f64, min_lr: f64, total_steps: u64, warmup_steps: u64 },
    /// Up from `max_lr / div_factor` to `max_lr` over the share `pct_start` of `total_steps`, then down to
    /// `max_lr / div_factor / final_div_factor`, both as half cosines (Smith & Topin 2019, PyTorch's form).
    OneCycle { max_lr: f64, total_steps: u64, pct_start: f64, div_factor: f64, final_div_factor: f64 },
    /// From `start_factor` to `end_factor` times `base_lr` over `total_steps`, then constant.
    Linear { base_lr: f64, start_factor: f64, end_factor: f64, total_steps: u64 },
}

/// The names that [`Schedule::named`] knows.
const NAMES: [&str; 6] = ["constant", "step", "multi-step", "cosine", "one-cycle", "linear"];

impl Schedule {
    /// A schedule by name for a job of `total_steps` steps. `step` divides the rate by 10 at each third of the job, `multi-step`
    /// at half and three quarters of it; `warmup_steps` applies to `cosine`.
    ///
    /// # Errors
    /// An unknown name.
    pub fn named(name: &str, lr: f64, total_steps: u64, warmup_steps: u64) -> Result<Schedule> {
        Ok(match name {
            "constant" => Schedule::Constant { base_lr: lr },
            "step" => Schedule::Step { base_lr: lr, step_size: total_steps.div_ceil(3).max(1), gamma: 0.1 },
            "multi-step" => {
                let milestones = vec![total_steps / 2, total_steps * 3 / 4];
                Schedule::MultiStep { base_lr: lr, milestones, gamma: 0.1 }
            }
            "cosine" => Schedule::Cosine { base_lr: lr, min_lr: 0.0, total_steps, warmup_steps },
            "one-cycle" => {
                Schedule::OneCycle { max_lr: lr, total_steps, pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 }
            }
            "linear" => Schedule::Linear { base_lr: lr, start_factor: 1.0, end_factor: 0.0, total_steps },
            _ => {
                let hint = nearest(name, &NAMES).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
                let reason = format!("unknown `{name}`; {hint}known: {}", NAMES.join(", "));
                return Err(Error::argument("schedule", reason));
            }
        })
    }

    /// The learning rate of a step.
    pub fn lr(&self, step: u64) -> f64 {
        match self {
            Schedule::Constant { base_lr } => *base_lr,
            Schedule::Step { base_lr, step_size, gamma } => base_lr * gamma.powf((step / (*step_size).max(1)) as f64),
            Schedule::MultiStep { base_lr, milestones, gamma } => {
                let passed = milestones.iter().filter(|&&milestone| step >= milestone).count();
                base_lr * gamma.powf(passed as f64)
            }
            Schedule::Cosine { base_lr, warmup_steps, .. } if step < *warmup_steps => {
                base_lr * (step + 1) as f64 / *warmup_steps as f64
            }
            Schedule::Cosine { base_lr, min_lr, total_steps, warmup_steps } => {
                let share = share(step - warmup_steps, total_steps.saturating_sub(*warmup_steps));
                half_cosine(*base_lr, *min_lr, share)
            }
            Schedule::OneCycle { max_lr, total_steps, pct_start, div_factor, final_div_factor } => {
                let initial = max_lr / div_factor;
                let last = total_steps.saturating_sub(1) as f64;
                let peak = pct_start * *total_steps as f64 - 1.0;
                match step as f64 {
                    s if s <= peak => half_cosine(initial, *max_lr, if peak > 0.0 { s / peak } else { 1.0 }),
                    s => half_cosine(*max_lr, initial / final_div_factor, ((s - peak) / (last - peak)).min(1.0)),
                }
            }
            Schedule::Linear { base_lr, start_factor, end_factor, total_steps } => {
                base_lr * (start_factor + (end_factor - start_factor) * share(step, *total_steps))
            }
        }
    }
}

/// How much of `total` is over, up to 1.
fn share(step: u64, total: u64) -> f64 {
    (step as f64 / total.max(1) as f64).min(1.0)
}

/// From `start` (at 0) to `end` (at 1) along half a cosine.
fn half_cosine(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (PI * share).cos())
}
