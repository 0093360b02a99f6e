//! What a training step costs: its time relative to the same step on labels alone, and its memory.

use super::cohort::Cohort;
use super::fit::{fresh_model, Member, Setting, Update};
use super::measure::quantile;
use crate::backend;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::tensor::Device;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What a step of a student costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepCost {
    /// The median time of a step.
    pub ms: f64,
    /// The median time of the steps on labels alone that were timed in between.
    pub labels_ms: f64,
    /// The most bytes that a step needs besides what is there before it: weights, optimiser, batch, the teacher's answers.
    pub peak_bytes: usize,
}

impl StepCost {
    /// The time relative to a step on labels alone.
    pub fn relative(&self) -> f64 {
        self.ms / self.labels_ms
    }
}

/// Different batches that steps are timed on.
const BATCHES: usize = 4;
/// Steps of each before the first that counts.
const WARM_UP: usize = 3;
/// Timed steps of each: at least, and at most.
const STEPS: [usize; 2] = [9, 60];
/// After the least number of steps, timing ends when it has taken so long.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A job that leaves nothing behind: whole steps (forward, loss, backward, update) over a few batches that are there already.
pub struct Rehearsal<'a> {
    cohort: Cohort<'a>,
    device: Device,
    batches: Vec<Batch>,
    next: usize,
}

impl<'a> Rehearsal<'a> {
    /// Fresh weights, and the first batches of the job's first epoch.
    ///
    /// # Errors
    /// The method cannot use the networks, or the device has not enough memory.
    pub fn new(member: &'a [Member<'a>; 1], setting: Setting<'a>) -> Result<Rehearsal<'a>> {
        let models = vec![fresh_model(member[0].job, setting)?];
        let cohort = Cohort::new(member, models, Update::AtOnce, setting)?;
        let batches = setting.loader.epoch_from(0, 0).take(BATCHES).collect::<Result<Vec<_>>>()?;
        // A last batch that is smaller than the others would be a step of another kind.
        let full = batches.first().map_or(0, |batch| batch.labels.len());
        let batches = batches.into_iter().filter(|batch| batch.labels.len() == full).collect();
        Ok(Rehearsal { cohort, device: setting.device, batches, next: 0 })
    }

    /// One step.
    ///
    /// # Errors
    /// The loss is not finite.
    pub fn step(&mut self) -> Result<()> {
        let batch = self.batches.get(self.next % self.batches.len().max(1));
        let batch = batch.ok_or_else(|| Error::argument("data", "there is no batch to time a step on"))?;
        self.next += 1;
        self.cohort.train_step(1, batch).map(drop)
    }
}

/// Times steps of two jobs in turn, so that whatever else the machine does slows both.
///
/// # Errors
/// A step fails.
pub fn step_cost(labels: &mut Rehearsal, method: &mut Rehearsal) -> Result<StepCost> {
    let backend = backend::of(method.device);
    for _ in 0..WARM_UP {
        labels.step()?;
        method.step()?;
    }
    let peak_bytes = backend.peak_memory(&mut || method.step())?;
    let (mut of_labels, mut of_method) = (Vec::new(), Vec::new());
    let started = Instant::now();
    while of_method.len() < STEPS[0] || (of_method.len() < STEPS[1] && started.elapsed() < PATIENCE) {
        of_labels.push(1e3 * backend.time(&mut || labels.step())?);
        of_method.push(1e3 * backend.time(&mut || method.step())?);
    }
    Ok(StepCost { ms: quantile(&mut of_method, 50), labels_ms: quantile(&mut of_labels, 50), peak_bytes })
}
