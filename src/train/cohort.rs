//! The training loop, for one network or several in lockstep.

use super::checkpoint::{Checkpoint, Position};
use super::diagnose::non_finite_loss;
use super::fit::{Lesson, Member, Setting, Update};
use super::taken::{Asked, StepTaken, Unread};
use super::trainee::{Answers, Trainee};
use super::{interrupt, EpochRecord, MetricsLog, Progress};
use crate::autograd::no_grad;
use crate::backend;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::models::{summarise_architecture, Model};
use crate::optim::{follow, warmed_up};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A checkpoint is written at the end of each epoch, and in between whenever this much time has passed.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);

/// Steps that are taken before their losses are asked for, on a device that computes meanwhile: as many as it takes in this time, at most so
/// many. They are read when the next ones are asked for, so that the device need not wait for the program.
const STEPS_AHEAD: usize = 32;
const READ_INTERVAL: Duration = Duration::from_millis(200);

/// Such a device is given so many steps at once where one has fewer floating-point operations than this: a large GPU does them in some
/// ten microseconds, in which nothing else can be started.
const STEPS_AT_ONCE: usize = 4;
const TINY_STEP: f64 = 1e9;

/// Networks under training, all at the same step.
pub(super) struct Cohort<'a> {
    members: &'a [Member<'a>],
    trainees: Vec<Trainee<'a>>,
    update: Update,
    setting: Setting<'a>,
    position: Position,
    last_saved: Instant,
    /// Steps that the device is given at once.
    at_once: usize,
}

impl<'a> Cohort<'a> {
    /// The cohort before its first step.
    pub(super) fn new(
        members: &'a [Member<'a>],
        models: Vec<Model>,
        update: Update,
        setting: Setting<'a>,
    ) -> Result<Cohort<'a>> {
        let at_once = steps_at_once(&models, setting)?;
        let trainees =
            models.into_iter().enumerate().map(|(number, model)| Trainee::new(number, model, members, setting));
        let (trainees, position) = (trainees.collect::<Result<Vec<_>>>()?, Position::new(members.len()));
        Ok(Cohort { members, trainees, update, setting, position, last_saved: Instant::now(), at_once })
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
        let (mut unread, mut asked, mut last_asked) = (Unread::default(), None, started);
        let (device, runs_ahead, mut window) = (self.setting.device, self.runs_ahead(), 1);
        let mut batches = self.setting.loader.epoch_from(self.position.epoch as u64, self.position.batch);
        loop {
            let before = self.position.batch;
            backend::bundled(self.setting.device, || {
                for batch in batches.by_ref().take(self.at_once) {
                    let batch = batch?;
                    unread.add(self.train_step(number, &batch)?, batch.labels.len());
                    self.position.batch += 1;
                }
                Ok(())
            })?;
            if self.position.batch == before {
                break;
            }
            self.position.seconds = earlier + started.elapsed().as_secs_f64();
            let (stop, due) = (interrupt::requested(), self.last_saved.elapsed() > CHECKPOINT_INTERVAL);
            if stop || due || !runs_ahead || unread.steps() >= window || last_asked.elapsed() > READ_INTERVAL {
                let steps = unread.steps();
                let before = asked.replace(unread.ask(device)?);
                self.read(before, log, progress)?;
                window = next_window(steps, last_asked.elapsed());
                last_asked = Instant::now();
            }
            if stop || due || !runs_ahead {
                self.read(asked.take(), log, progress)?;
            }
            if stop {
                self.save(log)?;
                let (name, step) = (&self.members[0].job.name, self.step());
                return Err(Error::Interrupted(format!("{name} is saved at step {step}; go on with --resume")));
            }
            if due {
                self.save(log)?;
            }
        }
        self.read(asked, log, progress)?;
        self.read(Some(unread.ask(device)?), log, progress)?;
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

    /// Whether steps are taken without waiting for the losses of those before.
    fn runs_ahead(&self) -> bool {
        backend::of(self.setting.device).runs_ahead()
    }

    /// Reads the losses of steps, if some were asked for.
    fn read(&mut self, asked: Option<Asked>, log: &mut MetricsLog, progress: &mut dyn Progress) -> Result<()> {
        let Some(Asked { records, images }) = asked else { return Ok(()) };
        let networks = self.trainees.len();
        for (step, images) in records.get()?.chunks(networks).zip(images) {
            if let Some((number, record)) = step.iter().enumerate().find(|(_, record)| !record.loss.is_finite()) {
                let found = "the device was steps ahead; KDENGINE_LAUNCH=plain --resume finds where it began";
                return Err(self.not_finite(number, record.loss, record.step, record.epoch, found));
            }
            for (course, record) in self.position.courses.iter_mut().zip(step) {
                log.append(record)?;
                course.loss_sum += record.loss;
            }
            progress.step(&step[0], images);
        }
        Ok(())
    }

    /// One batch: every network answers, learns, and changes. What is said of an average is said of the network that it follows.
    pub(super) fn train_step(&mut self, epoch: usize, batch: &Batch) -> Result<Vec<StepTaken>> {
        backend::bundled(self.setting.device, || self.step_together(epoch, batch))
    }

    fn step_together(&mut self, epoch: usize, batch: &Batch) -> Result<Vec<StepTaken>> {
        let (step, device) = (self.step(), self.setting.device);
        let teacher = match (self.trainees.iter().any(Trainee::needs_teacher), self.setting.teacher) {
            (true, Some(teacher)) => Some(no_grad(|| teacher.of_batch(batch))?.into()),
            _ => None,
        };
        // Networks that do not look at one another learn side by side.
        let strangers = self.members.iter().all(|member| member.lesson == Lesson::Teacher);
        let lane_of = |number: usize| if strangers { 1 + number as u32 } else { 0 };
        let mut outputs = Vec::new();
        for (number, trainee) in self.trainees.iter().enumerate() {
            outputs.push(Some(backend::in_lane(device, lane_of(number), || trainee.answer(step, batch))?));
        }
        let heard = |answers: &Option<Answers>| answers.as_ref().map(Answers::detached).unwrap_or_default();
        let mut said: Vec<Answers> = match strangers {
            true => Vec::new(),
            false => outputs.iter().map(heard).collect(),
        };
        let mut taken = vec![None; self.trainees.len()];
        for (number, own) in outputs.iter_mut().enumerate() {
            let Some(own) = own.take().filter(|_| self.trainees[number].learns()) else {
                continue;
            };
            let learn = || self.learn(number, own, &said, teacher.as_ref(), epoch, batch);
            taken[number] = Some(backend::in_lane(device, lane_of(number), learn)?);
            if self.update == Update::InTurn && number + 1 < said.len() {
                said[number] = no_grad(|| self.trainees[number].answer(step, batch))?;
            }
        }
        for (number, member) in self.members.iter().enumerate() {
            if let Lesson::Average { of, momentum } = member.lesson {
                follow(self.trainees[number].model(), self.trainees[of].model(), warmed_up(momentum, step))?;
                let job = member.job.name.clone();
                taken[number] = taken[of].clone().map(|taken| StepTaken { job, ..taken });
            }
        }
        Ok(taken.into_iter().flatten().collect())
    }

    /// One network learns from its own answers, the others', and the teacher's.
    fn learn(
        &mut self,
        number: usize,
        own: Answers,
        said: &[Answers],
        teacher: Option<&Answers>,
        epoch: usize,
        batch: &Batch,
    ) -> Result<StepTaken> {
        let step = self.step();
        let loss = self.trainees[number].loss(&own, said, teacher, step, epoch, batch)?;
        if !self.runs_ahead() {
            let value = loss.total.item()?;
            if !value.is_finite() {
                let found = self.trainees[number].diagnose(said, teacher, step, epoch, batch);
                return Err(self.not_finite(number, value, step + 1, epoch, &found));
            }
        }
        drop(own);
        self.trainees[number].learn(loss, step, epoch)
    }

    fn not_finite(&self, number: usize, loss: f64, step: u64, epoch: usize, found: &str) -> Error {
        let path = self.setting.run.checkpoint_path(&self.members[0].job.name);
        let kept = match path.exists() {
            true => format!("the last good checkpoint is {}", path.display()),
            false => "there was no checkpoint yet".to_string(),
        };
        non_finite_loss(&self.members[number].job.name, loss, step, epoch, found, &kept)
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

/// After how many steps losses are to be asked for next, where so many took this long.
fn next_window(steps: usize, took: Duration) -> usize {
    let in_time = steps as f64 * READ_INTERVAL.as_secs_f64() / took.as_secs_f64().max(f64::MIN_POSITIVE);
    // The first ones take no time: nothing is waited for yet.
    (in_time as usize).clamp(1, STEPS_AHEAD.min(2 * steps.max(1)))
}

/// How many steps of these networks the device is given at once.
fn steps_at_once(models: &[Model], setting: Setting) -> Result<usize> {
    if !backend::of(setting.device).runs_ahead() {
        return Ok(1);
    }
    let mut flops = 0.0;
    for model in models {
        // Backward takes a product for the weights and one for the input.
        let forward = summarise_architecture(model.name(), model.task())?.flops;
        flops += 3.0 * forward * setting.loader.batch_size() as f64;
    }
    Ok(if flops < TINY_STEP { STEPS_AT_ONCE } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_asked_for_five_times_a_second_and_at_least_every_32_steps() {
        let after = |steps, milliseconds| next_window(steps, Duration::from_millis(milliseconds));
        assert_eq!([after(1, 0), after(4, 1), after(32, 1)], [2, 8, 32], "it grows no faster than to twice as many");
        assert_eq!([after(10, 400), after(8, 8_000), after(0, 1)], [5, 1, 1]);
    }
}
