//! An open run: its data, its folder, and how to train what it needs.

use super::RunConfig;
use crate::data::{self, Dataset, Splits};
use crate::distill::{Plan, TermConfig, Value};
use crate::error::{Error, Result};
use crate::models::{Model, Task};
use crate::recipes::{Lab, Prospect, RecipeChoice, RecipeConfig};
use crate::report::{self, Summary};
use crate::tensor::io::write_atomically;
use crate::tensor::{Device, Rng};
use crate::train::{
    load_model, streams, JobResult, Lesson, Member, MetricsLog, Progress, Pupil, Regime, Rehearsal, RunDir, Setting,
    StepRecord, TeacherCache, TestSet,
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
    /// The images that models are compared on: the test set, but in a search the validation images.
    pub test: Dataset,
    /// The same on the device, for the accuracy after each epoch.
    test_set: TestSet,
    /// In a search, the test set.
    pub(super) untouched: Option<Dataset>,
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
        let (train, limit, test, untouched) = match config.validation {
            None => (train, config.train_limit, test, None),
            Some(share) => {
                let (train, limit, validation) = hold_out(train, share, &config)?;
                (train, limit, validation, Some(test))
            }
        };
        let train = Arc::new(train);
        let subset = match limit {
            0 => train.clone(),
            limit => Arc::new(train.limit(limit, Rng::new(config.seed, streams::SUBSET))?),
        };
        config.augmentation().validate(train.height, train.width)?;
        let normalisation = if config.normalize { train.moments() } else { Vec::new() };
        let regime = config.regime(normalisation)?;
        check_student(&config, &subset, &train)?;
        let run = RunDir::open(out, resume)?;
        if resume {
            check_unchanged(&config, &run.config_path())?;
        }
        write_atomically(&run.config_path(), config.to_toml().as_bytes())?;
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
            untouched,
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
        self.teacher_of(self.config.teacher_epochs, "teacher")
    }

    /// Trains a teacher for so many epochs, as a job of this name.
    ///
    /// # Errors
    /// The training fails or is interrupted.
    pub(super) fn teacher_of(&mut self, epochs: usize, job: &str) -> Result<Teacher> {
        let pupil = Pupil { job: job.to_string(), epochs, ..teacher_pupil(&self.config, &self.all) };
        let (model, result) = self.lab(pupil, None).train_student()?;
        Ok(Teacher { model: Arc::new(model), result: Some(result), file: self.run.model_path(job) })
    }

    /// The students' images.
    pub(super) fn images(&self) -> Arc<Dataset> {
        self.limited.clone()
    }

    /// Does something with other images for the students, about which no teacher was asked yet.
    ///
    /// # Errors
    /// What `work` returns.
    pub(super) fn with_images<R>(
        &mut self,
        images: Arc<Dataset>,
        work: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        let cache = TeacherCache::in_memory(self.config.eval_batch_size, self.device);
        let own = (std::mem::replace(&mut self.limited, images), std::mem::replace(&mut self.teacher_cache, cache));
        let result = work(self);
        (self.limited, self.teacher_cache) = own;
        result
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

    /// Does something with another configuration of the same run: another student, from the same data and in the same folder.
    ///
    /// # Errors
    /// An unknown optimiser, or what `work` returns.
    pub(super) fn with_config<R>(
        &mut self,
        config: &RunConfig,
        work: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        let regime = config.regime(self.regime.normalisation.clone())?;
        let own = (std::mem::replace(&mut self.config, config.clone()), std::mem::replace(&mut self.regime, regime));
        let result = work(self);
        (self.config, self.regime) = own;
        result
    }

    /// Refuses a configuration whose methods cannot use the networks or the images.
    pub(super) fn check(&self, config: &RunConfig) -> Result<()> {
        check_student(config, &self.limited, &self.all)
    }

    /// Whether a job needs no training any more.
    pub(super) fn is_finished(&self, job: &str) -> bool {
        self.run.result(job).is_ok_and(|result| result.is_some())
    }

    /// Steps on labels alone and steps of the configured student, for timing: they leave nothing behind. `None` for a recipe, whose
    /// training is more than one kind of step.
    pub(super) fn rehearse<R>(
        &mut self,
        teacher: &Teacher,
        work: impl FnOnce(&mut Rehearsal, &mut Rehearsal) -> Result<R>,
    ) -> Result<Option<R>> {
        let plan = self.student_plan();
        if plan.recipe.is_some() {
            return Ok(None);
        }
        let pupil = plan.pupil("timing", &self.config.student_model, &self.limited)?;
        let answers = self.lab(pupil.clone(), Some(&teacher.model)).ask(&teacher.model, &pupil)?;
        let loader = self.regime.loader(&pupil, self.device)?;
        let job = |pupil: &Pupil| self.regime.job(pupil, loader.batches_per_epoch());
        let jobs = [job(&Pupil { plan: Plan::labels(), ..pupil.clone() })?, job(&pupil)?];
        let [labels, method] = jobs.each_ref().map(|job| Member { job, lesson: Lesson::Teacher });
        let (test, run, device) = (&self.test_set, &self.run, self.device);
        let setting = Setting { loader: &loader, test, teacher: Some(&answers), run, device };
        work(&mut Rehearsal::new(&labels, setting)?, &mut Rehearsal::new(&method, setting)?).map(Some)
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
    pub temperature: f64,
    /// Weight of the labels.
    pub hard_weight: f64,
    /// Weight of the teacher; 0 trains on labels alone.
    pub soft_weight: f64,
    /// What else is learned from.
    pub terms: Vec<TermConfig>,
    /// How it is trained, if not by learning these things from the teacher.
    pub recipe: Option<RecipeConfig>,
    /// Passes over the training set.
    pub epochs: usize,
    /// Determines initial weights, batch order and dropout.
    pub seed: u64,
}

impl StudentPlan {
    /// The student that a configuration describes.
    pub(super) fn of(config: &RunConfig) -> StudentPlan {
        let RunConfig { temperature, hard_weight, soft_weight, epochs, seed, .. } = *config;
        let (terms, recipe) = (config.term.clone(), config.recipe.clone());
        StudentPlan { temperature, hard_weight, soft_weight, terms, recipe, epochs, seed }
    }

    /// The same student without the teacher.
    pub fn on_labels_alone(&self) -> StudentPlan {
        StudentPlan { hard_weight: 1.0, soft_weight: 0.0, terms: Vec::new(), recipe: None, ..self.clone() }
    }

    /// The same student with another temperature in every term that has one.
    pub fn at_temperature(&self, temperature: f64) -> StudentPlan {
        let mut plan = StudentPlan { temperature, ..self.clone() };
        for value in plan.terms.iter_mut().filter_map(|term| term.values.get_mut("temperature")) {
            *value = Value::Number(temperature);
        }
        if let Some(value) = plan.recipe.as_mut().and_then(|recipe| recipe.values.get_mut("temperature")) {
            *value = Value::Number(temperature);
        }
        plan
    }

    /// The names of what it learns by, as `--methods` takes them: `born-again+at`.
    ///
    /// # Errors
    /// A value is out of range.
    pub(super) fn name(&self) -> Result<String> {
        let plan = super::methods::plan(self.hard_weight, self.soft_weight, self.temperature, &self.terms)?.name();
        Ok(match &self.recipe {
            Some(recipe) => format!("{}+{plan}", recipe.method),
            None => plan,
        })
    }

    /// The network that is to be trained.
    fn pupil(&self, job: &str, model: &str, images: &Arc<Dataset>) -> Result<Pupil> {
        let plan = super::methods::plan(self.hard_weight, self.soft_weight, self.temperature, &self.terms)?;
        let (epochs, seed) = (self.epochs, self.seed);
        let (job, model, images) = (job.to_string(), model.to_string(), images.clone());
        Ok(Pupil { job, model, plan, epochs, seed, images, start: None })
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
        start: None,
    }
}

/// Takes the share of a search's judges out of the training images. What is left, how many of it students may use, and the judges.
/// The share is of what students may use: `--train-limit` is all the labels that there are.
fn hold_out(train: Dataset, share: f64, config: &RunConfig) -> Result<(Dataset, usize, Dataset)> {
    let labelled = if config.train_limit == 0 { train.len() } else { config.train_limit.min(train.len()) };
    let judges = ((share * labelled as f64).round() as usize).clamp(1, labelled.max(2) - 1);
    let part = judges as f64 / train.len() as f64;
    let (validation, rest) = train.split(part, Rng::new(config.seed, streams::VALIDATION))?;
    Ok((rest, config.train_limit.saturating_sub(judges), validation))
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

/// What may change when a run is continued: the number of threads, on which nothing depends, and which students there are, since a
/// student's name decides what it learns from.
const MAY_CHANGE: [&str; 6] = ["threads", "methods", "seeds", "grid", "trials", "studies"];

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
