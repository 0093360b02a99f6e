//! An open run: its data, its folder, and how to train what it needs.

use super::RunConfig;
use crate::data::{self, Dataset, Loader, LoaderConfig, Splits};
use crate::distill::{Networks, Objective, Plan, TermConfig, Value};
use crate::error::{Error, Result};
use crate::models::{tap_shapes, Model, Task};
use crate::report::{self, Summary};
use crate::tensor::io::write_atomically;
use crate::tensor::{Device, Rng};
use crate::train::{
    fit, load_model, streams, Job, JobResult, MetricsLog, Progress, Rehearsal, RunDir, Setting, StepRecord,
    TeacherCache, TeacherOutputs, TestSet,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// The teacher of a run.
pub struct Teacher {
    /// The frozen network.
    pub model: Arc<Model>,
    /// How it was trained; `None` if it came from a file.
    pub result: Option<JobResult>,
    /// The file that it is in.
    pub file: PathBuf,
}

/// An open run.
pub struct Session<'a> {
    /// Every value that the run uses.
    pub config: RunConfig,
    /// What the report will say.
    pub summary: Summary,
    /// The images that models are compared on.
    pub test: Dataset,
    /// The same on the device, for the accuracy after each epoch; in a search, the validation images instead.
    test_set: TestSet,
    validation_images: usize,
    pub(super) device: Device,
    pub(super) run: RunDir,
    pub(super) progress: &'a mut dyn Progress,
    pub(super) started: Instant,
    log: MetricsLog,
    /// All training images, for the teacher.
    all: Arc<Dataset>,
    /// The students' images: all, or the random subset of `--train-limit`.
    limited: Arc<Dataset>,
    /// What the teacher has said about the students' images.
    teacher_cache: TeacherCache,
}

impl<'a> Session<'a> {
    /// Loads the data and opens the run's folder.
    ///
    /// # Errors
    /// The data cannot be read, the folder cannot be written, or `resume` continues a run with other settings.
    pub fn open(
        command: &str,
        config: RunConfig,
        out: &Path,
        resume: bool,
        progress: &'a mut dyn Progress,
    ) -> Result<Self> {
        let started = Instant::now();
        let device = config.device()?;
        progress.stage(&format!("loading {}", config.data));
        let Splits { train, test } = data::load(&config.data, config.data_dir.as_deref())?;
        let (train, limit, validation) = match config.validation {
            None => (train, config.train_limit, None),
            Some(share) => {
                // The share counts what students may use: `--train-limit` is all the labels that there are.
                let labelled = if config.train_limit == 0 { train.len() } else { config.train_limit.min(train.len()) };
                let judges = ((share * labelled as f64).round() as usize).clamp(1, labelled.max(2) - 1);
                let share = judges as f64 / train.len() as f64;
                let (validation, rest) = train.split(share, Rng::new(config.seed, streams::VALIDATION))?;
                (rest, config.train_limit.saturating_sub(judges), Some(validation))
            }
        };
        let train = Arc::new(train);
        let subset = match limit {
            0 => train.clone(),
            limit => Arc::new(train.limit(limit, Rng::new(config.seed, streams::SUBSET))?),
        };
        config.augmentation().validate(train.height, train.width)?;
        check_methods(&config, &subset)?;
        let run = RunDir::open(out, resume)?;
        if resume {
            check_unchanged(&config, &run.config_path())?;
        }
        write_atomically(&run.config_path(), config.to_toml().as_bytes())?;
        let log = MetricsLog::open(&run.metrics_path(), run.metrics_bytes()?)?;
        let summary = super::describe::new_summary(command, &config, &subset, &test, out);
        let (all, limited) = (train, subset);
        let validation_images = validation.as_ref().map_or(0, Dataset::len);
        let test_set = TestSet::new(validation.as_ref().unwrap_or(&test), device)?;
        let teacher_cache = TeacherCache::new(run.path(), config.eval_batch_size, device);
        Ok(Session {
            config,
            summary,
            test,
            test_set,
            validation_images,
            device,
            run,
            progress,
            started,
            log,
            all,
            limited,
            teacher_cache,
        })
    }

    /// Trains the teacher on all images, or reads it from the file that was given.
    pub fn teacher(&mut self) -> Result<Teacher> {
        let architecture = self.config.teacher_model.clone();
        if let Some(file) = self.config.teacher.clone() {
            let task = Task { input: self.test.image_shape(), classes: self.test.classes.len() };
            let model = load_model(&file, Some(&architecture), task, self.device)?;
            return Ok(Teacher { model: Arc::new(model), result: None, file });
        }
        let (epochs, seed) = (self.config.teacher_epochs, self.config.seed);
        let loader = self.loader(&self.all, seed)?;
        let job = self.job("teacher", &architecture, Plan::labels(), epochs, seed, &loader)?;
        let setting =
            Setting { loader: &loader, test: &self.test_set, teacher: None, run: &self.run, device: self.device };
        let (model, result) = fit(&job, setting, &mut self.log, self.progress)?;
        Ok(Teacher { model: Arc::new(model), result: Some(result), file: self.run.model_path("teacher") })
    }

    /// Trains a student. Students with the same seed start from the same weights and see the same batches.
    pub fn student(&mut self, name: &str, plan: StudentPlan, teacher: &Teacher) -> Result<(Model, JobResult)> {
        let learned_from = plan.learned_from()?;
        let answers = match learned_from.needs_teacher() {
            true => Some(self.ask_teacher(teacher, &learned_from)?),
            false => None,
        };
        let architecture = self.config.student_model.clone();
        let loader = self.loader(&self.limited, plan.seed)?;
        let job = self.job(name, &architecture, learned_from, plan.epochs, plan.seed, &loader)?;
        let setting = Setting {
            loader: &loader,
            test: &self.test_set,
            teacher: answers.as_ref(),
            run: &self.run,
            device: self.device,
        };
        fit(&job, setting, &mut self.log, self.progress)
    }

    /// Does something with another configuration of the same run: another student, from the same data and in the same folder.
    pub(super) fn with_config<R>(&mut self, config: &RunConfig, work: impl FnOnce(&mut Self) -> R) -> R {
        let own = std::mem::replace(&mut self.config, config.clone());
        let result = work(self);
        self.config = own;
        result
    }

    /// Refuses a configuration whose methods cannot use the networks.
    pub(super) fn check(&self, config: &RunConfig) -> Result<()> {
        check_methods(config, &self.limited)
    }

    /// How many images judge the trials of a search.
    pub(super) fn validation_images(&self) -> usize {
        self.validation_images
    }

    /// Whether a job needs no training any more.
    pub(super) fn is_finished(&self, job: &str) -> bool {
        self.run.result(job).is_ok_and(|result| result.is_some())
    }

    /// Steps on labels alone and steps of the configured student, for timing: they leave nothing behind.
    pub(super) fn rehearse<R>(
        &mut self,
        teacher: &Teacher,
        work: impl FnOnce(&mut Rehearsal, &mut Rehearsal) -> Result<R>,
    ) -> Result<R> {
        let plan = self.student_plan();
        let learned_from = plan.learned_from()?;
        let answers = self.ask_teacher(teacher, &learned_from)?;
        let loader = self.loader(&self.limited, plan.seed)?;
        let architecture = self.config.student_model.clone();
        let job = |plan: Plan| self.job("timing", &architecture, plan, self.config.epochs, self.config.seed, &loader);
        let (labels, method) = (job(Plan::labels())?, job(learned_from)?);
        let (test, run, device) = (&self.test_set, &self.run, self.device);
        let setting = Setting { loader: &loader, test, teacher: Some(&answers), run, device };
        work(&mut Rehearsal::new(&labels, setting)?, &mut Rehearsal::new(&method, setting)?)
    }

    /// The steps of a job, as the metrics log has them.
    pub fn steps(&mut self, job: &str) -> Result<Vec<StepRecord>> {
        self.log.sync()?;
        MetricsLog::read(&self.run.metrics_path(), job)
    }

    /// Writes the report of what is known so far, and returns its path.
    pub fn write_report(&mut self) -> Result<PathBuf> {
        let seconds = self.started.elapsed().as_secs_f64();
        self.summary.environment.insert("wall time".to_string(), format!("{seconds:.1} s"));
        report::write(self.run.path(), &self.summary)
    }

    fn loader(&self, data: &Arc<Dataset>, seed: u64) -> Result<Loader> {
        let config = LoaderConfig { batch_size: self.config.batch_size, seed, augment: self.config.augmentation() };
        Loader::new(data.clone(), config, self.device)
    }

    /// The plan of the student that the configuration describes.
    pub fn student_plan(&self) -> StudentPlan {
        self.config.student_plan()
    }

    /// What the teacher says about the students' images, as far as a plan needs it.
    fn ask_teacher(&mut self, teacher: &Teacher, plan: &Plan) -> Result<TeacherOutputs> {
        let (model, task) = (&teacher.model, teacher.model.task());
        let taps =
            plan.teacher_taps(&tap_shapes(&self.config.student_model, task)?, &tap_shapes(model.name(), task)?)?;
        if self.config.augmentation().is_active() {
            return TeacherOutputs::online(model, &taps);
        }
        self.teacher_cache.outputs(model, &self.limited, &taps, self.progress)
    }

    fn job(&self, name: &str, model: &str, plan: Plan, epochs: usize, seed: u64, loader: &Loader) -> Result<Job> {
        Ok(Job {
            name: name.to_string(),
            model: model.to_string(),
            plan,
            epochs,
            eval_batch_size: self.config.eval_batch_size,
            optimizer: self.config.optimizer_config()?,
            schedule: self.config.schedule(epochs, loader.batches_per_epoch())?,
            clip_norm: self.config.clip_norm,
            seed,
            normalisation: if self.config.normalize { self.all.moments() } else { Vec::new() },
        })
    }
}

/// What distinguishes one student from another.
#[derive(Clone, Debug, PartialEq)]
pub struct StudentPlan {
    /// T of the soft term.
    pub temperature: f64,
    /// Weight of the labels.
    pub hard_weight: f64,
    /// Weight of the teacher; 0 trains on labels alone.
    pub soft_weight: f64,
    /// What else is learned from.
    pub terms: Vec<TermConfig>,
    /// Passes over the training set.
    pub epochs: usize,
    /// Determines initial weights, batch order and dropout.
    pub seed: u64,
}

impl RunConfig {
    /// The plan of the student that it describes.
    pub(super) fn student_plan(&self) -> StudentPlan {
        let RunConfig { temperature, hard_weight, soft_weight, epochs, seed, .. } = *self;
        StudentPlan { temperature, hard_weight, soft_weight, terms: self.term.clone(), epochs, seed }
    }
}

impl StudentPlan {
    /// The same student without the teacher.
    pub fn on_labels_alone(&self) -> StudentPlan {
        StudentPlan { hard_weight: 1.0, soft_weight: 0.0, terms: Vec::new(), ..self.clone() }
    }

    /// The same student with another temperature in every term that has one.
    pub fn at_temperature(&self, temperature: f64) -> StudentPlan {
        let mut plan = StudentPlan { temperature, ..self.clone() };
        for value in plan.terms.iter_mut().filter_map(|term| term.values.get_mut("temperature")) {
            *value = Value::Number(temperature);
        }
        plan
    }

    pub(super) fn learned_from(&self) -> Result<Plan> {
        super::methods::plan(self.hard_weight, self.soft_weight, self.temperature, &self.terms)
    }
}

/// Refuses methods that cannot use the networks, before anything is trained.
fn check_methods(config: &RunConfig, data: &Dataset) -> Result<()> {
    let plan = super::methods::plan(config.hard_weight, config.soft_weight, config.temperature, &config.term)?;
    let task = Task { input: data.image_shape(), classes: data.classes.len() };
    let (student, teacher) = (tap_shapes(&config.student_model, task)?, tap_shapes(&config.teacher_model, task)?);
    let networks = Networks { student: &student, teacher: &teacher, classes: task.classes, labels: &data.labels };
    Objective::new(&plan, &networks, Rng::new(config.seed, streams::ADAPTERS), Device::Cpu).map(drop)
}

/// What may change when a run is continued: the number of threads, on which nothing depends, and which students there are, since a
/// student's name decides what it learns from.
const MAY_CHANGE: [&str; 5] = ["threads", "methods", "seeds", "grid", "trials"];

/// A run is continued with the settings that it was started with.
fn check_unchanged(config: &RunConfig, saved: &Path) -> Result<()> {
    let text = fs::read_to_string(saved).map_err(|e| Error::io("read", saved, e))?;
    let now: toml::Table = config.to_toml().parse().expect("just written");
    let before: toml::Table =
        text.parse().map_err(|_| Error::data(saved, "is damaged; restore it or start a new run"))?;
    let keys = now.keys().chain(before.keys());
    match keys.into_iter().find(|key| !MAY_CHANGE.contains(&key.as_str()) && now.get(*key) != before.get(*key)) {
        None => Ok(()),
        Some(key) => {
            let show = |table: &toml::Table| table.get(key).map_or("unset".to_string(), |value| value.to_string());
            let reason = format!("is {} now but was {} when the run began; leave it out", show(&now), show(&before));
            Err(Error::argument(format!("resume: {key}"), format!("{reason}, or start a new run")))
        }
    }
}
