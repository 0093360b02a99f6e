//! The training loop.

use super::checkpoint::{save_model, Checkpoint, Position};
use super::diagnose::{first_non_finite, non_finite_loss};
use super::{
    interrupt, streams, EpochRecord, Job, JobResult, MetricsLog, Progress, RunDir, StepRecord, TeacherOutputs, TestSet,
};
use crate::autograd::no_grad;
use crate::data::{Batch, Loader};
use crate::distill::{Features, Loss, Mixture, Networks, Objective, StepInputs};
use crate::error::{Error, Result};
use crate::models::{tap_shapes, Model, Task};
use crate::nn::{Context, Module, Parameter};
use crate::optim::Optimizer;
use crate::tensor::io::load_safetensors;
use crate::tensor::{Device, Rng, Tensor};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A checkpoint is written at the end of each epoch, and in between whenever this much time has passed.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);

/// What a job is trained with.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The training images.
    pub loader: &'a Loader,
    /// The images that each epoch is evaluated on.
    pub test: &'a TestSet,
    /// What the teacher says about the training images, for methods that need one.
    pub teacher: Option<&'a TeacherOutputs>,
    /// Where the job's files go.
    pub run: &'a RunDir,
    /// Where it is computed.
    pub device: Device,
}

/// Trains a job, or continues it from its checkpoint, or loads it if it was finished. The result depends only on the job, the
/// data and the teacher: not on the number of threads, and not on where it was stopped and resumed.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, with everything saved; [`Error::NonFinite`] if the loss is not a number.
pub fn fit(
    job: &Job,
    setting: Setting,
    log: &mut MetricsLog,
    progress: &mut dyn Progress,
) -> Result<(Model, JobResult)> {
    let Setting { loader, run, .. } = setting;
    let task = Task { input: loader.dataset().image_shape(), classes: loader.dataset().classes.len() };
    let model = Model::new(&job.model, task, Rng::new(job.seed, streams::WEIGHTS), setting.device)?;
    let model = model.normalising(job.normalisation.clone());
    if let Some(result) = run.result(&job.name)? {
        let path = run.model_path(&job.name);
        model.load_state(&load_safetensors(&path)?.0, &path)?;
        return Ok((model, result));
    }
    run.create_job(&job.name)?;
    let mut training = Training::resume(job, model, setting)?;
    let steps = (job.epochs * loader.batches_per_epoch()) as u64;
    progress.job_started(job, training.step(), steps);
    while training.position.epoch < job.epochs {
        training.epoch(log, progress)?;
    }
    let metrics_bytes = log.sync()?;
    save_model(&training.model, &run.model_path(&job.name))?;
    let result = JobResult {
        name: job.name.clone(),
        model: job.model.clone(),
        method: job.plan.name(),
        history: training.position.history,
        metrics_bytes,
    };
    run.finish(&result)?;
    progress.job_finished(job);
    Ok((training.model, result))
}

/// A job under way.
struct Training<'a> {
    job: &'a Job,
    model: Model,
    objective: Objective,
    parameters: Vec<(String, Parameter)>,
    optimizer: Optimizer,
    setting: Setting<'a>,
    position: Position,
    last_saved: Instant,
}

impl<'a> Training<'a> {
    fn resume(job: &'a Job, model: Model, setting: Setting<'a>) -> Result<Training<'a>> {
        if job.plan.needs_teacher() && setting.teacher.is_none() {
            return Err(Error::argument(job.plan.name(), "needs a teacher (--teacher FILE)"));
        }
        let objective = Objective::new(
            &job.plan,
            &Networks {
                student: &tap_shapes(model.name(), model.task())?,
                teacher: setting.teacher.map_or(&[], |teacher| teacher.shapes()),
                classes: model.task().classes,
                labels: &setting.loader.dataset().labels,
            },
            Rng::new(job.seed, streams::ADAPTERS),
            setting.device,
        )?;
        let mut optimizer = Optimizer::new(job.optimizer);
        let mut position = Position::default();
        let path = setting.run.checkpoint_path(&job.name);
        if path.exists() {
            let checkpoint = Checkpoint::load(&path)?;
            model.load_state(&checkpoint.model, &path)?;
            optimizer.load_state(&checkpoint.extra)?;
            objective.load_state(&under(METHOD, checkpoint.extra))?;
            position = checkpoint.position;
        }
        let mut parameters = model.parameters();
        parameters.extend(prefixed(METHOD, objective.parameters()));
        let last_saved = Instant::now();
        Ok(Training { job, model, objective, parameters, optimizer, setting, position, last_saved })
    }

    /// Steps done since the job began.
    fn step(&self) -> u64 {
        (self.position.epoch * self.setting.loader.batches_per_epoch() + self.position.batch) as u64
    }

    /// Runs what is left of the epoch under way, evaluates, and saves.
    fn epoch(&mut self, log: &mut MetricsLog, progress: &mut dyn Progress) -> Result<()> {
        let number = self.position.epoch + 1;
        let earlier = self.position.seconds;
        let started = Instant::now();
        for batch in self.setting.loader.epoch_from(self.position.epoch as u64, self.position.batch) {
            let batch = batch?;
            let record = self.train_step(number, &batch)?;
            log.append(&record)?;
            self.position.batch += 1;
            self.position.loss_sum += record.loss;
            self.position.seconds = earlier + started.elapsed().as_secs_f64();
            progress.step(&record, batch.labels.len());
            if interrupt::requested() {
                self.save(log)?;
                let place = format!("{} is saved at step {}; go on with --resume", self.job.name, record.step);
                return Err(Error::Interrupted(place));
            }
            if self.last_saved.elapsed() > CHECKPOINT_INTERVAL {
                self.save(log)?;
            }
        }
        let accuracy = self.setting.test.accuracy(&self.model, self.job.eval_batch_size)?;
        let record = EpochRecord {
            epoch: number,
            train_loss: self.position.loss_sum / self.setting.loader.batches_per_epoch() as f64,
            test_accuracy: accuracy,
            seconds: earlier + started.elapsed().as_secs_f64(),
        };
        progress.epoch(self.job, &record);
        let mut history = std::mem::take(&mut self.position.history);
        history.push(record);
        self.position = Position { epoch: number, history, ..Position::default() };
        self.save(log)
    }

    /// Forward, loss, backward, update.
    fn train_step(&mut self, epoch: usize, batch: &Batch) -> Result<StepRecord> {
        let step = self.step();
        let lr = self.job.schedule.lr(step);
        let loss = self.loss(step, batch)?;
        let value = loss.total.item()?;
        if !value.is_finite() {
            return Err(self.diagnose(step, epoch, value, batch));
        }
        let gradients = loss.total.backward()?;
        let terms = loss.terms.iter().map(|(name, term)| Ok((name.clone(), term.item()?)));
        let terms = terms.collect::<Result<_>>()?;
        drop(loss);
        match self.job.clip_norm {
            Some(max_norm) => self.optimizer.clipped_step(&self.parameters, &gradients, max_norm, lr)?,
            None => self.optimizer.step(&self.parameters, &gradients, lr)?,
        }
        self.objective.after_step()?;
        Ok(StepRecord { job: self.job.name.clone(), epoch, step: step + 1, lr, loss: value, terms })
    }

    fn loss(&self, step: u64, batch: &Batch) -> Result<Loss> {
        let rng = |stream| Rng::new(self.job.seed, stream).derive(step);
        let taps = self.objective.student_taps();
        let mut cx = Context::train(rng(streams::DROPOUT)).with_taps(&taps);
        let student_logits = self.model.forward(&batch.images, &mut cx)?;
        let student_features: Features =
            taps.iter().filter_map(|tap| Some((tap.to_string(), cx.tapped(tap)?.clone()))).collect();
        let teacher = match (self.objective.needs_teacher(), self.setting.teacher) {
            (true, Some(teacher)) => Some(no_grad(|| teacher.of_batch(batch))?),
            _ => None,
        };
        let (teacher_logits, teacher_features) = teacher.unzip();
        let on_device = |labels: &[i32]| Tensor::from_slice(labels, [labels.len()], self.setting.device);
        let labels = on_device(&batch.labels)?;
        let inputs = StepInputs {
            student_logits: &student_logits,
            teacher_logits: teacher_logits.as_ref(),
            labels: &labels,
            student_features: &student_features,
            teacher_features: &teacher_features.unwrap_or_default(),
            samples: &batch.index,
            epoch: self.position.epoch + 1,
            epochs: self.job.epochs,
            rng: rng(streams::METHOD),
        };
        match &batch.mix {
            None => self.objective.loss(&inputs, None),
            Some(mix) => {
                let labels = on_device(&mix.labels)?;
                self.objective.loss(&inputs, Some(Mixture { labels: &labels, share: mix.lambda }))
            }
        }
    }

    fn diagnose(&self, step: u64, epoch: usize, value: f64, batch: &Batch) -> Error {
        let forward = || no_grad(|| self.loss(step, batch)).map(drop);
        let found = first_non_finite(&self.model, forward).unwrap_or_else(|error| error.to_string());
        let path = self.setting.run.checkpoint_path(&self.job.name);
        let kept = match path.exists() {
            true => format!("the last good checkpoint is {}", path.display()),
            false => "there was no checkpoint yet".to_string(),
        };
        non_finite_loss(&self.job.name, value, step + 1, epoch, &found, &kept)
    }

    fn save(&mut self, log: &mut MetricsLog) -> Result<()> {
        self.position.metrics_bytes = log.sync()?;
        let mut extra = self.optimizer.state();
        extra.extend(prefixed(METHOD, self.objective.state()));
        let checkpoint = Checkpoint { position: self.position.clone(), model: self.model.state(), extra };
        checkpoint.save(&self.setting.run.checkpoint_path(&self.job.name))?;
        self.last_saved = Instant::now();
        Ok(())
    }
}

/// In front of the names of what methods train, in checkpoints and in the optimiser's state.
const METHOD: &str = "method/";

/// The same things with `prefix` in front of their names.
fn prefixed<T>(prefix: &str, named: impl IntoIterator<Item = (String, T)>) -> impl Iterator<Item = (String, T)> {
    let prefix = prefix.to_string();
    named.into_iter().map(move |(name, thing)| (format!("{prefix}{name}"), thing))
}

/// The things whose names begin with `prefix`, without it.
fn under<T>(prefix: &str, named: BTreeMap<String, T>) -> BTreeMap<String, T> {
    let named = named.into_iter();
    named.filter_map(|(name, thing)| Some((name.strip_prefix(prefix)?.to_string(), thing))).collect()
}
