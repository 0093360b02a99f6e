//! An open run: its data, its folder, and how to train what it needs.

use super::sides::{Side, Sides};
use super::RunConfig;
use crate::data::{Dataset, Loader, LoaderConfig};
use crate::distill::{Networks, Objective, Plan, TermConfig, Value};
use crate::error::{Error, Result};
use crate::models::{tap_shapes, Model};
use crate::report::{self, Summary};
use crate::tensor::io::write_atomically;
use crate::tensor::{Device, Rng};
use crate::train::{
    fit, load_model, streams, Job, JobResult, MetricsLog, Progress, RunDir, Setting, StepRecord, TeacherCache,
    TeacherOutputs,
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
    /// What teacher and student see.
    pub(super) sides: Sides,
    pub(super) device: Device,
    pub(super) run: RunDir,
    pub(super) progress: &'a mut dyn Progress,
    pub(super) started: Instant,
    log: MetricsLog,
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
        let sides = Sides::load(&config, device)?;
        for side in [&sides.teacher, &sides.student] {
            config.augmentation().validate(side.train.height, side.train.width)?;
        }
        check_methods(&config, &sides)?;
        let run = RunDir::open(out, resume)?;
        match resume {
            true => check_unchanged(&config, &run.config_path())?,
            false => write_atomically(&run.config_path(), config.to_toml().as_bytes())?,
        }
        let log = MetricsLog::open(&run.metrics_path(), run.metrics_bytes()?)?;
        let summary = super::describe::new_summary(command, &config, &sides.student, out);
        let teacher_cache = TeacherCache::new(run.path(), config.eval_batch_size, device);
        Ok(Session { config, summary, sides, device, run, progress, started, log, teacher_cache })
    }

    /// Trains the teacher on its view of all images (or of those of `--teacher-limit`), or reads it from the file that was given.
    pub fn teacher(&mut self) -> Result<Teacher> {
        let architecture = self.config.teacher_model.clone();
        if let Some(file) = self.config.teacher.clone() {
            let model = load_model(&file, Some(&architecture), self.sides.teacher.task(), self.device)?;
            return Ok(Teacher { model: Arc::new(model), result: None, file });
        }
        let (epochs, seed) = (self.config.teacher_epochs, self.config.seed);
        let side = &self.sides.teacher;
        let loader = self.loader(&side.train, seed)?;
        let job = self.job("teacher", &architecture, Plan::labels(), epochs, seed, (side, &loader))?;
        let setting =
            Setting { loader: &loader, test: &side.test_set, teacher: None, run: &self.run, device: self.device };
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
        let side = &self.sides.student;
        let loader = self.loader(&side.train, plan.seed)?;
        let job = self.job(name, &architecture, learned_from, plan.epochs, plan.seed, (side, &loader))?;
        let setting = Setting {
            loader: &loader,
            test: &side.test_set,
            teacher: answers.as_ref(),
            run: &self.run,
            device: self.device,
        };
        fit(&job, setting, &mut self.log, self.progress)
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
        let RunConfig { temperature, hard_weight, soft_weight, epochs, seed, .. } = self.config;
        StudentPlan { temperature, hard_weight, soft_weight, terms: self.config.term.clone(), epochs, seed }
    }

    /// What the teacher says about the students' images, as far as a plan needs it.
    fn ask_teacher(&mut self, teacher: &Teacher, plan: &Plan) -> Result<TeacherOutputs> {
        let (model, sides) = (&teacher.model, &self.sides);
        let student = tap_shapes(&self.config.student_model, sides.student.task())?;
        let taps = plan.teacher_taps(&student, &tap_shapes(model.name(), model.task())?)?;
        if self.config.augmentation().is_active() {
            return TeacherOutputs::online(model, &taps);
        }
        self.teacher_cache.outputs(model, &sides.shown_to_teacher, &taps, self.progress)
    }

    fn job(
        &self,
        name: &str,
        model: &str,
        plan: Plan,
        epochs: usize,
        seed: u64,
        (side, loader): (&Side, &Loader),
    ) -> Result<Job> {
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
            normalisation: side.normalisation.clone(),
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

    fn learned_from(&self) -> Result<Plan> {
        super::methods::plan(self.hard_weight, self.soft_weight, self.temperature, &self.terms)
    }
}

/// Refuses methods that cannot use the networks, before anything is trained.
fn check_methods(config: &RunConfig, sides: &Sides) -> Result<()> {
    let plan = super::methods::plan(config.hard_weight, config.soft_weight, config.temperature, &config.term)?;
    if let (true, Some(term)) = (sides.other_task(), plan.terms.iter().find(|term| term.info.needs.teacher_logits)) {
        let reason = format!(
            "{} compares answers, but --student-classes {} asks the student another question than the teacher; choose a \
             method of features or relations (`kdengine methods`) and leave --soft-weight out",
            term.info.name, config.student_classes
        );
        return Err(Error::argument("method", reason));
    }
    let (student, teacher) = (sides.student.task(), sides.teacher.task());
    let networks = Networks {
        student: &tap_shapes(&config.student_model, student)?,
        teacher: &tap_shapes(&config.teacher_model, teacher)?,
        classes: student.classes,
        labels: &sides.student.train.labels,
    };
    Objective::new(&plan, &networks, Rng::new(config.seed, streams::ADAPTERS), Device::Cpu).map(drop)
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
