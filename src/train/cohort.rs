//! The training loop, for one network or several in lockstep.

use super::checkpoint::{Checkpoint, Position};
use super::diagnose::non_finite_loss;
use super::fit::{Lesson, Member, Setting, Update};
use super::trainee::{Answers, Trainee};
use super::{interrupt, EpochRecord, MetricsLog, Progress, StepRecord};
use crate::autograd::no_grad;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::optim::{follow, warmed_up};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A checkpoint is written at the end of each epoch, and in between whenever this much time has passed.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);

/// Networks under training, all at the same step.
pub(super) struct Cohort<'a> {
    members: &'a [Member<'a>],
    trainees: Vec<Trainee<'a>>,
    update: Update,
    setting: Setting<'a>,
    position: Position,
    last_saved: Instant,
}

impl<'a> Cohort<'a> {
    /// The cohort before its first step.
    pub(super) fn new(
        members: &'a [Member<'a>],
        models: Vec<Model>,
        update: Update,
        setting: Setting<'a>,
    ) -> Result<Cohort<'a>> {
        let trainees =
            models.into_iter().enumerate().map(|(number, model)| Trainee::new(number, model, members, setting));
        let (trainees, position) = (trainees.collect::<Result<Vec<_>>>()?, Position::new(members.len()));
        Ok(Cohort { members, trainees, update, setting, position, last_saved: Instant::now() })
    }

    /// The cohort as its checkpoint has it, or at its beginning.
    pub(super) fn resume(
        members: &'a [Member<'a>],
        models: Vec<Model>,
        update: Update,
        setting: Setting<'a>,
    ) -> Result<Cohort<'a>> {
        let mut cohort = Cohort::new(members, models, update, setting)?;
        let path = setting.run.checkpoint_path(&members[0].job.name);
        if path.exists() {
            let checkpoint = Checkpoint::load(&path)?;
            if checkpoint.position.courses.len() != members.len() {
                return Err(Error::checkpoint(&path, "is of another number of networks; remove it to start again"));
            }
            for (number, trainee) in cohort.trainees.iter_mut().enumerate() {
                trainee.load_state(&checkpoint.networks[number], &path)?;
            }
            cohort.position = checkpoint.position;
        }
        Ok(cohort)
    }

    /// Steps done since the job began.
    pub(super) fn step(&self) -> u64 {
        (self.position.epoch * self.setting.loader.batches_per_epoch() + self.position.batch) as u64
    }

    /// Runs what is left of the training.
    pub(super) fn train(&mut self, log: &mut MetricsLog, progress: &mut dyn Progress) -> Result<()> {
        while self.position.epoch < self.members[0].job.epochs {
            self.epoch(log, progress)?;
        }
        Ok(())
    }

    /// The networks and their epochs.
    pub(super) fn into_trained(self) -> Vec<(Model, Vec<EpochRecord>)> {
        let histories = self.position.courses.into_iter().map(|course| course.history);
        self.trainees.into_iter().map(Trainee::into_model).zip(histories).collect()
    }

    /// Runs what is left of the epoch under way, evaluates, and saves.
    fn epoch(&mut self, log: &mut MetricsLog, progress: &mut dyn Progress) -> Result<()> {
        let number = self.position.epoch + 1;
        let earlier = self.position.seconds;
        let started = Instant::now();
        for batch in self.setting.loader.epoch_from(self.position.epoch as u64, self.position.batch) {
            let batch = batch?;
            let records = self.train_step(number, &batch)?;
            self.position.batch += 1;
            self.position.seconds = earlier + started.elapsed().as_secs_f64();
            for (course, record) in self.position.courses.iter_mut().zip(&records) {
                log.append(record)?;
                course.loss_sum += record.loss;
            }
            progress.step(&records[0], batch.labels.len());
            if interrupt::requested() {
                self.save(log)?;
                let (name, step) = (&self.members[0].job.name, self.step());
                return Err(Error::Interrupted(format!("{name} is saved at step {step}; go on with --resume")));
            }
            if self.last_saved.elapsed() > CHECKPOINT_INTERVAL {
                self.save(log)?;
            }
        }
        for (number_of, (trainee, member)) in self.trainees.iter().zip(self.members).enumerate() {
            let (test_accuracy, groups) = self.setting.test.accuracies(trainee.model(), member.job.eval_batch_size)?;
            let record = EpochRecord {
                epoch: number,
                train_loss: self.position.courses[number_of].loss_sum / self.setting.loader.batches_per_epoch() as f64,
                test_accuracy,
                groups,
                seconds: earlier + started.elapsed().as_secs_f64(),
            };
            if number_of == 0 {
                progress.epoch(member.job, &record);
            }
            self.position.courses[number_of].history.push(record);
        }
        self.position.courses.iter_mut().for_each(|course| course.loss_sum = 0.0);
        (self.position.epoch, self.position.batch, self.position.seconds) = (number, 0, 0.0);
        self.save(log)
    }

    /// One batch: every network answers, learns, and changes. The record of an average is that of the network that it follows.
    pub(super) fn train_step(&mut self, epoch: usize, batch: &Batch) -> Result<Vec<StepRecord>> {
        let step = self.step();
        let teacher = match (self.trainees.iter().any(Trainee::needs_teacher), self.setting.teacher) {
            (true, Some(teacher)) => Some(no_grad(|| teacher.of_batch(batch))?.into()),
            _ => None,
        };
        let mut outputs = Vec::new();
        for trainee in &self.trainees {
            outputs.push(Some(trainee.answer(step, batch)?));
        }
        let heard = |answers: &Option<Answers>| answers.as_ref().map(Answers::detached).unwrap_or_default();
        let mut said: Vec<Answers> = match self.trainees.len() {
            1 => Vec::new(),
            _ => outputs.iter().map(heard).collect(),
        };
        let mut records = vec![None; self.trainees.len()];
        for (number, own) in outputs.iter_mut().enumerate() {
            let Some(own) = own.take().filter(|_| self.trainees[number].learns()) else {
                continue;
            };
            let loss = self.trainees[number].loss(&own, &said, teacher.as_ref(), step, epoch, batch)?;
            let value = loss.total.item()?;
            if !value.is_finite() {
                let found = self.trainees[number].diagnose(&said, teacher.as_ref(), step, epoch, batch);
                return Err(self.not_finite(number, value, epoch, &found));
            }
            drop(own);
            records[number] = Some(self.trainees[number].learn(loss, value, step, epoch)?);
            if self.update == Update::InTurn && number + 1 < self.trainees.len() {
                said[number] = no_grad(|| self.trainees[number].answer(step, batch))?;
            }
        }
        for (number, member) in self.members.iter().enumerate() {
            if let Lesson::Average { of, momentum } = member.lesson {
                follow(self.trainees[number].model(), self.trainees[of].model(), warmed_up(momentum, step))?;
                let job = member.job.name.clone();
                records[number] = records[of].clone().map(|record| StepRecord { job, ..record });
            }
        }
        Ok(records.into_iter().flatten().collect())
    }

    fn not_finite(&self, number: usize, value: f64, epoch: usize, found: &str) -> Error {
        let path = self.setting.run.checkpoint_path(&self.members[0].job.name);
        let kept = match path.exists() {
            true => format!("the last good checkpoint is {}", path.display()),
            false => "there was no checkpoint yet".to_string(),
        };
        non_finite_loss(&self.members[number].job.name, value, self.step() + 1, epoch, found, &kept)
    }

    fn save(&mut self, log: &mut MetricsLog) -> Result<()> {
        self.position.metrics_bytes = log.sync()?;
        let networks: Vec<BTreeMap<_, _>> = self.trainees.iter().map(Trainee::state).collect::<Result<_>>()?;
        let checkpoint = Checkpoint { position: self.position.clone(), networks };
        checkpoint.save(&self.setting.run.checkpoint_path(&self.members[0].job.name))?;
        self.last_saved = Instant::now();
        Ok(())
    }
}
