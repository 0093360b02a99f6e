//! The training that DAFL and DFAD share: a generator makes every batch, the frozen teacher answers, and student and generator learn in
//! turn. It is a job of the run like any other: its steps are in the metrics, its epochs are evaluated and saved, and a run that was
//! stopped goes on from its last epoch to the same bits.

use super::super::Lab;
use super::generator::generator;
use super::{bytes, show, state};
use crate::autograd::no_grad;
use crate::compress::Compression;
use crate::data::Dataset;
use crate::distill::{Hyperparameter, Settings};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{load_state, Context, Module, Parameter, Sequential};
use crate::optim::{Optimizer, OptimizerConfig};
use crate::tensor::io::{load_safetensors, save_safetensors};
use crate::tensor::{DType, Rng, Tensor};
use crate::train::{
    interrupt, prefixed, save_model, streams, under, Checkpoint, EpochRecord, Job, JobResult, Position, StepRecord,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// How the generator is built and trained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Generating {
    latent: usize,
    width: usize,
    iterations: usize,
    lr: f64,
}

pub(super) const LATENT: Hyperparameter =
    Hyperparameter::count("latent", [1, 4096], 100, "random numbers that an image is made from");
pub(super) const WIDTH: Hyperparameter = Hyperparameter::count(
    "width",
    [1, 1024],
    32,
    "channels of the generator's last hidden layer; 64 in the authors' code",
);

impl Generating {
    pub(super) fn from_settings(settings: &Settings) -> Generating {
        Generating {
            latent: settings.count("latent"),
            width: settings.count("width"),
            iterations: settings.count("iterations"),
            lr: settings.number("generator-lr"),
        }
    }
}

/// The three networks while they are trained.
pub(super) struct Contest {
    pub teacher: Model,
    pub student: Model,
    generator: Sequential,
    of_student: (Optimizer, Vec<(String, Parameter)>),
    of_generator: (Optimizer, Vec<(String, Parameter)>),
    clip_norm: Option<f64>,
    generating: Generating,
    batch: usize,
}

/// One iteration of a method: it makes images, updates who is to learn, and returns its terms by name, the loss to show first.
pub(super) type Round<'a> = dyn Fn(&mut Contest, f64, Rng) -> Result<Vec<(&'static str, Tensor)>> + 'a;

impl Contest {
    fn new(lab: &Lab, job: &Job, generating: Generating) -> Result<Contest> {
        let (teacher, device) = (lab.teacher()?.frozen()?, lab.device);
        let weights = Rng::new(job.seed, streams::WEIGHTS);
        let student = Model::new(&job.model, teacher.task(), weights, device)?.normalising(job.normalisation.clone());
        let adapters = Rng::new(job.seed, streams::ADAPTERS);
        let generator = generator(generating.latent, generating.width, teacher.task().input, adapters, device)?;
        Ok(Contest {
            of_student: (Optimizer::new(job.optimizer), student.parameters()),
            of_generator: (Optimizer::new(OptimizerConfig::named("adam", 0.9, 0.0)?), generator.parameters()),
            clip_norm: job.clip_norm,
            batch: lab.regime.batch_size,
            teacher,
            student,
            generator,
            generating,
        })
    }

    /// Fresh images, `[batch, c, h, w]` in [0, 1], with the generator's history.
    pub fn images(&self, rng: Rng) -> Result<Tensor> {
        let device = self.of_generator.1[0].1.get().device();
        let latent = [self.batch, self.generating.latent];
        let z = Tensor::normal(latent, 0.0, 1.0, DType::F32, device, rng)?;
        self.generator.forward(&z, &mut Context::train(rng.derive(0)))
    }

    /// The student's logits, with dropout if it has some.
    pub fn student_says(&self, images: &Tensor, rng: Rng) -> Result<Tensor> {
        self.student.forward(images, &mut Context::train(rng.derive(1)))
    }

    /// A step of the student.
    pub fn teach_student(&mut self, loss: &Tensor, lr: f64) -> Result<()> {
        let (gradients, (optimizer, parameters)) = (loss.backward()?, &mut self.of_student);
        match self.clip_norm {
            Some(norm) => optimizer.clipped_step(parameters, &gradients, norm, lr),
            None => optimizer.step(parameters, &gradients, lr),
        }
    }

    /// A step of the generator.
    pub fn teach_generator(&mut self, loss: &Tensor) -> Result<()> {
        let (gradients, (optimizer, parameters)) = (loss.backward()?, &mut self.of_generator);
        optimizer.step(parameters, &gradients, self.generating.lr)
    }

    /// Everything that a stopped job needs: of the student, then of the generator.
    fn state(&self) -> Vec<BTreeMap<String, Tensor>> {
        let parts = [(self.student.state(), &self.of_student.0), (self.generator.state(), &self.of_generator.0)];
        let together = |(mut state, optimizer): (BTreeMap<String, Tensor>, &Optimizer)| {
            state.extend(prefixed(OPTIMIZER, optimizer.state()));
            state
        };
        parts.into_iter().map(together).collect()
    }

    fn load(&mut self, networks: &[BTreeMap<String, Tensor>], path: &Path) -> Result<()> {
        let [student, generator] = networks else {
            let reason = "is not of a student and a generator; remove it to start the job again";
            return Err(Error::checkpoint(path, reason));
        };
        let weights = |state: &BTreeMap<String, Tensor>| -> BTreeMap<String, Tensor> {
            let own = state.iter().filter(|(name, _)| !name.starts_with(OPTIMIZER));
            own.map(|(name, tensor)| (name.clone(), tensor.clone())).collect()
        };
        self.student.load_state(&weights(student), path)?;
        self.of_student.0.load_state(&under(OPTIMIZER, student))?;
        self.of_generator.0.load_state(&under(OPTIMIZER, generator))?;
        load_generator(&self.generator, &weights(generator), path)
    }
}

/// In front of the names of an optimiser's tensors in checkpoints.
const OPTIMIZER: &str = "optimizer/";
/// The student's place among the networks of a checkpoint; the generator comes after it.
const STUDENT: usize = 0;

fn load_generator(generator: &Sequential, state: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    crate::nn::check_state(generator, state)
        .map_err(|mismatch| Error::checkpoint(path, format!("does not fit the generator: {mismatch}")))?;
    load_state(generator, state)
}

/// Trains the student that is asked for, or goes on from its last epoch, or loads it; then shows what the generator makes.
///
/// # Errors
/// As a training: the loss is not finite, the folder cannot be written, or the user interrupts.
pub(super) fn play(lab: &mut Lab, method: &str, generating: Generating, round: &Round) -> Result<(Model, JobResult)> {
    if lab.regime.augment.is_active() {
        let reason = format!(
            "{method} makes its images and changes none; leave shift, rotate, crop, flip, cutout and mixup out"
        );
        return Err(Error::argument("augmentation", reason));
    }
    let job = lab.regime.job(&lab.student, generating.iterations)?;
    let mut contest = Contest::new(lab, &job, generating)?;
    let generator_path = lab.run.job_file(&job.name, "generator.safetensors");
    let result = match lab.run.result(&job.name)? {
        Some(result) => {
            let path = lab.run.model_path(&job.name);
            contest.student.load_state(&load_safetensors(&path)?.0, &path)?;
            load_generator(&contest.generator, &load_safetensors(&generator_path)?.0, &generator_path)?;
            result
        }
        None => {
            let position = train(lab, &job, &mut contest, round)?;
            let metrics_bytes = lab.log.sync()?;
            save_model(&contest.student, Compression::default(), &lab.run.model_path(&job.name))?;
            save_safetensors(&generator_path, &contest.generator.state(), &BTreeMap::new())?;
            let (name, model) = (job.name.clone(), job.model.clone());
            let history = position.courses.into_iter().nth(STUDENT).unwrap_or_default().history;
            let result = JobResult { name, model, method: method.to_string(), history, metrics_bytes };
            lab.run.finish(&result)?;
            lab.progress.job_finished(&job);
            result
        }
    };
    let teacher = lab.teacher()?;
    let images = sheet(lab, &contest)?;
    show(lab, &teacher, &images, "What the generator makes of random numbers at the end of the training.")?;
    state(lab);
    Ok((contest.student, result))
}

fn train(lab: &mut Lab, job: &Job, contest: &mut Contest, round: &Round) -> Result<Position> {
    lab.run.create_job(&job.name)?;
    let path = lab.run.checkpoint_path(&job.name);
    let mut position = Position::new(2);
    if path.exists() {
        let checkpoint = Checkpoint::load(&path)?;
        contest.load(&checkpoint.networks, &path)?;
        position = checkpoint.position;
    }
    let iterations = contest.generating.iterations;
    let steps = (job.epochs * iterations) as u64;
    lab.progress.job_started(job, (position.epoch * iterations) as u64, steps);
    while position.epoch < job.epochs {
        let (epoch, started, mut sum) = (position.epoch + 1, Instant::now(), 0.0);
        for iteration in 0..iterations {
            if interrupt::requested() {
                let place = format!("{} is saved at epoch {}; go on with --resume", job.name, position.epoch);
                return Err(Error::Interrupted(place));
            }
            let step = (position.epoch * iterations + iteration) as u64;
            let lr = job.schedule.lr(step);
            let rng = Rng::new(job.seed, streams::METHOD).derive(step);
            let record =
                StepRecord { job: job.name.clone(), epoch, step: step + 1, lr, ..recorded(round(contest, lr, rng)?)? };
            if !record.loss.is_finite() {
                let reason = format!(
                    "the loss of {} is {} at step {}; lower generator-lr or --lr",
                    job.name,
                    record.loss,
                    step + 1
                );
                return Err(Error::NonFinite(reason));
            }
            sum += record.loss;
            lab.log.append(&record)?;
            lab.progress.step(&record, contest.batch);
        }
        let record = EpochRecord {
            epoch,
            train_loss: sum / iterations as f64,
            test_accuracy: lab.test_set.accuracy(&contest.student, job.eval_batch_size)?,
            groups: Vec::new(),
            seconds: started.elapsed().as_secs_f64(),
        };
        lab.progress.epoch(job, &record);
        position.courses[STUDENT].history.push(record);
        (position.epoch, position.metrics_bytes) = (epoch, lab.log.sync()?);
        Checkpoint { position: position.clone(), networks: contest.state() }.save(&path)?;
    }
    Ok(position)
}

/// A step's terms as the metrics have them.
fn recorded(terms: Vec<(&'static str, Tensor)>) -> Result<StepRecord> {
    let terms: Vec<(String, f64)> =
        terms.iter().map(|(name, term)| Ok((name.to_string(), term.item()?))).collect::<Result<_>>()?;
    let loss = terms.first().map_or(f64::NAN, |(_, loss)| *loss);
    Ok(StepRecord { job: String::new(), epoch: 0, step: 0, lr: 0.0, loss, terms: terms.into_iter().collect() })
}

/// A batch of images of the trained generator, as bytes.
fn sheet(lab: &Lab, contest: &Contest) -> Result<Dataset> {
    let latent = [contest.batch, contest.generating.latent];
    let z = Tensor::normal(latent, 0.0, 1.0, DType::F32, lab.device, Rng::new(0, streams::METHOD))?;
    let images = no_grad(|| contest.generator.forward(&z, &mut Context::eval()))?;
    let pixels = bytes(&images)?;
    let classes = lab.test.classes.clone();
    Dataset::new("made images", lab.test.image_shape(), pixels, vec![0; contest.batch], classes)
}
