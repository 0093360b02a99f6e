//! What a training step costs: its time relative to the same step on labels alone, and its memory.

use super::cohort::Cohort;
use super::fit::{check_lessons, fresh_model, Lesson, Member, Setting, Update};
use super::measure::quantile;
use crate::backend;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::tensor::Device;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What a step of a student costs, or its share of a cohort's step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepCost {
    /// The median time of a step.
    pub ms: f64,
    /// The median time of the steps on labels alone that were timed in between.
    pub labels_ms: f64,
    /// The most bytes that a step, of the whole cohort, needs besides what is there before it: weights, optimiser, batch, the teacher's
    /// answers.
    pub peak_bytes: usize,
    /// How many students share the step.
    pub students: usize,
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

/// Jobs that leave nothing behind: whole steps (forward, loss, backward, update) over a few batches that are there already.
pub struct Rehearsal<'a> {
    cohort: Cohort<'a>,
    /// How many share the time of a step: the members that learn from others, or the only one.
    students: usize,
    device: Device,
    batches: Vec<Batch>,
    next: usize,
}

impl<'a> Rehearsal<'a> {
    /// Fresh weights, and the first batches of the jobs' first epoch.
    ///
    /// # Errors
    /// A lesson names a member that it cannot have, the method cannot use the networks, or the device has not enough memory.
    pub fn new(members: &'a [Member<'a>], update: Update, setting: Setting<'a>) -> Result<Rehearsal<'a>> {
        check_lessons(members)?;
        let models = members.iter().map(|member| fresh_model(member.job, setting)).collect::<Result<Vec<_>>>()?;
        let cohort = Cohort::new(members, models, update, setting)?;
        let students = members.iter().filter(|member| matches!(member.lesson, Lesson::Members(_))).count().max(1);
        let batches = setting.loader.epoch_from(0, 0).take(BATCHES).collect::<Result<Vec<_>>>()?;
        // A last batch that is smaller than the others would be a step of another kind.
        let full = batches.first().map_or(0, |batch| batch.labels.len());
        let batches = batches.into_iter().filter(|batch| batch.labels.len() == full).collect();
        Ok(Rehearsal { cohort, students, device: setting.device, batches, next: 0 })
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
    let students = method.students;
    let ms = quantile(&mut of_method, 50) / students as f64;
    Ok(StepCost { ms, labels_ms: quantile(&mut of_labels, 50), peak_bytes, students })
}
