//! An open run: its data, its folder, and how to train what it needs.

use super::RunConfig;
use crate::compress::Compression;
use crate::data::{self, Dataset, Splits};
use crate::distill::{Plan, Scheduled, TermConfig, Value};
use crate::error::{Error, Result};
use crate::models::{Model, Task};
use crate::recipes::{Lab, Prospect, RecipeChoice, RecipeConfig};
use crate::report::{self, Summary};
use crate::tensor::io::write_atomically;
use crate::tensor::{Device, Rng};
use crate::train::{
    load_model, streams, JobResult, MetricsLog, Progress, Pupil, Regime, RunDir, StepRecord, TeacherCache, TestSet,
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
    /// The same on the device, for the accuracy after each epoch.
    test_set: TestSet,
    pub(super) device: Device,
    pub(super) run: RunDir,
    pub(super) progress: &'a mut dyn Progress,
    pub(super) started: Instant,
    regime: Regime,
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
        let train = Arc::new(train);
        let subset = match config.train_limit {
            0 => train.clone(),
            limit => Arc::new(train.limit(limit, Rng::new(config.seed, streams::SUBSET))?),
        };
        config.augmentation().validate(train.height, train.width)?;
        let normalisation = if config.normalize { train.moments() } else { Vec::new() };
        let regime = config.regime(normalisation)?;
        check_student(&config, &subset, &train)?;
        let run = RunDir::open(out, resume)?;
        match resume {
            true => check_unchanged(&config, &run.config_path())?,
            false => write_atomically(&run.config_path(), config.to_toml().as_bytes())?,
        }
        let log = MetricsLog::open(&run.metrics_path(), run.metrics_bytes()?)?;
        let summary = super::describe::new_summary(command, &config, &subset, &test, out);
        let (all, limited) = (train, subset);
        let test_set = TestSet::new(&test, device)?;
        let teacher_cache = TeacherCache::new(run.path(), config.eval_batch_size, device);
        Ok(Session {
            config,
            summary,
            test,
            test_set,
            device,
            run,
            progress,
            started,
            regime,
            log,
            all,
            limited,
            teacher_cache,
        })
    }

    /// Trains the teacher on all images, or reads it from the file that was given.
    pub fn teacher(&mut self) -> Result<Teacher> {
        if let Some(file) = self.config.teacher.clone() {
            let task = Task { input: self.test.image_shape(), classes: self.test.classes.len() };
            let model = load_model(&file, Some(&self.config.teacher_model), task, self.device)?;
            return Ok(Teacher { model: Arc::new(model), result: None, file });
        }
        let pupil = teacher_pupil(&self.config, &self.all);
        let (model, result) = self.lab(pupil, None).train_student()?;
        Ok(Teacher { model: Arc::new(model), result: Some(result), file: self.run.model_path("teacher") })
    }

    /// Trains a student, by its plan's recipe if it has one. Students with the same seed start from the same weights and see the
    /// same batches.
    pub fn student(&mut self, name: &str, plan: StudentPlan, teacher: &Teacher) -> Result<(Model, JobResult)> {
        let pupil = plan.pupil(name, &self.config.student_model, &self.limited)?;
        let recipe = plan.recipe.as_ref().map(|recipe| RecipeChoice::from_config(recipe)?.build()).transpose()?;
        let mut lab = self.lab(pupil, Some(&teacher.model));
        match recipe {
            None => lab.train_student(),
            Some(recipe) => recipe.run(&mut lab),
        }
    }

    /// What a pupil is trained with.
    fn lab(&mut self, student: Pupil, teacher: Option<&Arc<Model>>) -> Lab<'_> {
        Lab {
            student,
            teacher: teacher.cloned(),
            teacher_pupil: teacher_pupil(&self.config, &self.all),
            test: &self.test,
            test_set: &self.test_set,
            regime: &self.regime,
            run: &self.run,
            device: self.device,
            progress: self.progress,
            extras: &mut self.summary.extras,
            log: &mut self.log,
            teacher_cache: &mut self.teacher_cache,
        }
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

    /// The plan of the student that the configuration describes.
    pub fn student_plan(&self) -> StudentPlan {
        StudentPlan::of(&self.config)
    }
}

/// What distinguishes one student from another.
#[derive(Clone, Debug, PartialEq)]
pub struct StudentPlan {
    /// T of the soft term.
    pub temperature: Scheduled,
    /// Weight of the labels.
    pub hard_weight: Scheduled,
    /// Weight of the teacher; 0 trains on labels alone.
    pub soft_weight: Scheduled,
    /// What else is learned from.
    pub terms: Vec<TermConfig>,
    /// How it is trained, if not by learning these things from the teacher.
    pub recipe: Option<RecipeConfig>,
    /// What is done to its weights meanwhile.
    pub compression: Compression,
    /// Passes over the training set.
    pub epochs: usize,
    /// Determines initial weights, batch order and dropout.
    pub seed: u64,
}

impl StudentPlan {
    /// The student that a configuration describes.
    fn of(config: &RunConfig) -> StudentPlan {
        let RunConfig { temperature, hard_weight, soft_weight, epochs, seed, .. } = *config;
        let (terms, recipe) = (config.term.clone(), config.recipe.clone());
        // A configuration is checked when it is read.
        let compression = config.compression().unwrap_or_default();
        StudentPlan { temperature, hard_weight, soft_weight, terms, recipe, compression, epochs, seed }
    }

    /// The same student without the teacher.
    pub fn on_labels_alone(&self) -> StudentPlan {
        let (hard_weight, soft_weight) = (1.0.into(), 0.0.into());
        StudentPlan { hard_weight, soft_weight, terms: Vec::new(), recipe: None, ..self.clone() }
    }

    /// The same student with another temperature in every term that has one.
    pub fn at_temperature(&self, temperature: f64) -> StudentPlan {
        let mut plan = StudentPlan { temperature: temperature.into(), ..self.clone() };
        for value in plan.terms.iter_mut().filter_map(|term| term.values.get_mut("temperature")) {
            *value = Value::Number(temperature);
        }
        if let Some(value) = plan.recipe.as_mut().and_then(|recipe| recipe.values.get_mut("temperature")) {
            *value = Value::Number(temperature);
        }
        plan
    }

    /// The network that is to be trained.
    fn pupil(&self, job: &str, model: &str, images: &Arc<Dataset>) -> Result<Pupil> {
        let plan = super::methods::plan(self.hard_weight, self.soft_weight, self.temperature, &self.terms)?;
        let StudentPlan { epochs, seed, compression, .. } = *self;
        let (job, model, images) = (job.to_string(), model.to_string(), images.clone());
        Ok(Pupil { job, model, plan, epochs, seed, images, compression })
    }
}

/// The teacher, as it is trained where no file is given.
fn teacher_pupil(config: &RunConfig, all: &Arc<Dataset>) -> Pupil {
    Pupil {
        job: "teacher".to_string(),
        model: config.teacher_model.clone(),
        plan: Plan::labels(),
        epochs: config.teacher_epochs,
        seed: config.seed,
        images: all.clone(),
        compression: Compression::default(),
    }
}

/// Refuses methods and recipes that cannot use the networks or the images, before anything is trained.
fn check_student(config: &RunConfig, images: &Arc<Dataset>, all: &Arc<Dataset>) -> Result<()> {
    let student = StudentPlan::of(config).pupil("student", &config.student_model, images)?;
    let prospect = Prospect { student, teacher: teacher_pupil(config, all) };
    match &config.recipe {
        None => prospect.check_learning(&config.student_model, &config.teacher_model),
        Some(recipe) => RecipeChoice::from_config(recipe)?.build()?.check(&prospect),
    }
}

/// A run is continued with the settings that it was started with; only the number of threads may change.
fn check_unchanged(config: &RunConfig, saved: &Path) -> Result<()> {
    let text = fs::read_to_string(saved).map_err(|e| Error::io("read", saved, e))?;
    let now: toml::Table = config.to_toml().parse().expect("just written");
    let before: toml::Table =
        text.parse().map_err(|_| Error::data(saved, "is damaged; restore it or start a new run"))?;
    let keys = now.keys().chain(before.keys());
    match keys.into_iter().find(|key| *key != "threads" && now.get(*key) != before.get(*key)) {
        None => Ok(()),
        Some(key) => {
            let show = |table: &toml::Table| table.get(key).map_or("unset".to_string(), |value| value.to_string());
            let reason = format!("is {} now but was {} when the run began; leave it out", show(&now), show(&before));
            Err(Error::argument(format!("resume: {key}"), format!("{reason}, or start a new run")))
        }
    }
}
