//! What is to be trained, and what came of it.

use crate::compress::Compression;
use crate::distill::Plan;
use crate::models::Model;
use crate::optim::{OptimizerConfig, Schedule};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One training: everything that its result depends on, besides the data and the teacher.
pub struct Job {
    /// The folder's name, unique within a run: `teacher`, `distilled-1`, `sweep-t3`.
    pub name: String,
    /// The architecture that is trained.
    pub model: String,
    /// What is learned from.
    pub plan: Plan,
    /// Passes over the training set.
    pub epochs: usize,
    /// Images a step of evaluation.
    pub eval_batch_size: usize,
    /// The optimiser and its settings.
    pub optimizer: OptimizerConfig,
    /// The learning rate of each step.
    pub schedule: Schedule,
    /// Scales the gradient down to this global norm, if it is larger.
    pub clip_norm: Option<f64>,
    /// Determines initial weights and dropout; the loader has the seed of the batch order.
    pub seed: u64,
    /// The weights that it starts from; without, fresh ones.
    pub start: Option<Arc<Model>>,
    /// Mean and deviation of each input channel to normalise by; empty for none.
    pub normalisation: Vec<[f32; 2]>,
    /// What is done to its weights meanwhile.
    pub compression: Compression,
}

/// One epoch of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Mean loss of the epoch's steps.
    pub train_loss: f64,
    /// Percent of the test set classified correctly.
    pub test_accuracy: f64,
    /// The same for each group of a test set that has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<f64>,
    /// Wall-clock time of the epoch, evaluation included.
    pub seconds: f64,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// The job's name.
    pub name: String,
    /// The architecture that was trained.
    pub model: String,
    /// The methods' names.
    pub method: String,
    /// All epochs in order.
    pub history: Vec<EpochRecord>,
    /// Where this job's lines end in the run's metrics log, in bytes.
    pub metrics_bytes: u64,
}

impl JobResult {
    /// Test accuracy after the last epoch, in percent.
    pub fn accuracy(&self) -> f64 {
        self.history.last().map_or(f64::NAN, |epoch| epoch.test_accuracy)
    }

    /// Wall-clock time of all epochs.
    pub fn seconds(&self) -> f64 {
        self.history.iter().map(|epoch| epoch.seconds).sum()
    }
}
