//! What all trainings of a run have in common.

use super::Job;
use super::TeacherOutputs;
use crate::compress::Compression;
use crate::data::{AugmentConfig, Curriculum, Dataset, Loader, LoaderConfig};
use crate::distill::Plan;
use crate::error::Result;
use crate::models::Model;
use crate::optim::{OptimizerConfig, Schedule};
use crate::tensor::Device;
use std::sync::Arc;

/// How every network of a run is trained.
#[derive(Clone, Debug)]
pub struct Regime {
    /// Images a training step.
    pub batch_size: usize,
    /// Images an evaluation step.
    pub eval_batch_size: usize,
    /// Random changes to training images.
    pub augment: AugmentConfig,
    /// The optimiser and its settings.
    pub optimizer: OptimizerConfig,
    /// The name of the learning-rate schedule.
    pub schedule: String,
    /// The learning rate that the schedule starts from.
    pub lr: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: f64,
    /// Limits the gradient's global norm.
    pub clip_norm: Option<f64>,
    /// Mean and deviation of each input channel to normalise by; empty for none.
    pub normalisation: Vec<[f32; 2]>,
    /// The share of the epochs over which networks that learn from a teacher see more and more images, the easy ones first; 0 for all
    /// at once.
    pub curriculum: f64,
}

/// One network to be trained: what distinguishes it from the others of its run.
#[derive(Clone)]
pub struct Pupil {
    /// The job's name, unique within the run.
    pub job: String,
    /// The architecture.
    pub model: String,
    /// What is learned from.
    pub plan: Plan,
    /// Passes over the images.
    pub epochs: usize,
    /// Determines initial weights, batch order and dropout.
    pub seed: u64,
    /// The training images.
    pub images: Arc<Dataset>,
    /// The weights that it starts from; without, fresh ones.
    pub start: Option<Arc<Model>>,
    /// What is done to its weights while it is trained.
    pub compression: Compression,
}

impl Pupil {
    /// The same network, but number `k` of several that start from different weights and see batches in different orders; number 0
    /// is the network itself.
    pub fn reseeded(&self, k: usize) -> Pupil {
        Pupil { seed: self.seed.wrapping_add((k as u64) << 32), ..self.clone() }
    }

    /// The same network as another job of the run, `<job>-<suffix>`.
    pub fn named(&self, suffix: &str) -> Pupil {
        Pupil { job: format!("{}-{suffix}", self.job), ..self.clone() }
    }
}

impl Regime {
    /// The learning rates of a job of `epochs` epochs of `steps_per_epoch` steps.
    ///
    /// # Errors
    /// An unknown schedule.
    pub fn schedule(&self, epochs: usize, steps_per_epoch: usize) -> Result<Schedule> {
        let total = (epochs * steps_per_epoch).max(1) as u64;
        let warmup = (self.warmup_epochs * steps_per_epoch as f64).round() as u64;
        Schedule::named(&self.schedule, self.lr, total, warmup)
    }

    /// The batches that a pupil sees. With a curriculum and a teacher's answers, those images come first of which the teacher is surest.
    ///
    /// # Errors
    /// The images do not fit on the device, or are too small for the augmentation; or the teacher cannot be computed.
    pub fn loader(&self, pupil: &Pupil, answers: Option<&TeacherOutputs>, device: Device) -> Result<Loader> {
        let config = LoaderConfig { batch_size: self.batch_size, seed: pupil.seed, augment: self.augment };
        let loader = Loader::new(pupil.images.clone(), config, device)?;
        match answers.filter(|_| self.curriculum > 0.0) {
            None => Ok(loader),
            Some(answers) => loader.with_curriculum(Curriculum {
                easiest_first: answers.easiest_first(&pupil.images, self.eval_batch_size, device)?,
                growing_epochs: self.curriculum * pupil.epochs as f64,
            }),
        }
    }

    /// The job of a pupil that sees so many batches an epoch.
    ///
    /// # Errors
    /// An unknown schedule.
    pub fn job(&self, pupil: &Pupil, batches_per_epoch: usize) -> Result<Job> {
        Ok(Job {
            name: pupil.job.clone(),
            model: pupil.model.clone(),
            plan: pupil.plan.clone(),
            epochs: pupil.epochs,
            eval_batch_size: self.eval_batch_size,
            optimizer: self.optimizer,
            schedule: self.schedule(pupil.epochs, batches_per_epoch)?,
            clip_norm: self.clip_norm,
            seed: pupil.seed,
            start: pupil.start.clone(),
            normalisation: self.normalisation.clone(),
            compression: pupil.compression,
        })
    }
}
