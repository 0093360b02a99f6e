//! Optimisers, learning-rate schedules, gradient clipping, averages of weights.

mod clip;
mod ema;
mod optimizer;
mod schedule;
mod specs;

pub use clip::{clip_grad_norm, clip_grad_value};
pub use ema::{follow, warmed_up};
pub use optimizer::{Optimizer, OptimizerConfig};
pub use schedule::Schedule;
pub use specs::registry;

#[cfg(test)]
mod tests;
