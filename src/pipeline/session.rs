//! An open run: its data, its folder, and how to train what it needs.

use super::sides::Sides;
use super::RunConfig;
use crate::backend::{self, precision};
use crate::compress::Compression;
use crate::data::Dataset;
use crate::distill::{Plan, Scheduled, TermConfig, Value};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::recipes::{Cohort, Lab, Prospect, RecipeChoice, RecipeConfig};
use crate::report::{self, Summary};
use crate::tensor::io::write_atomically;
use crate::tensor::Device;
use crate::train::{
    load_model, JobResult, Lesson, MetricsLog, Progress, Pupil, Rehearsal, RunDir, Setting, StepRecord, TeacherCache,
    Update,
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
        precision::choose(config.precision()?, device)?;
        progress.stage(&format!("loading {}", config.data));
        for text in [config.unheard_temperature(), config.cut_warm_up()].into_iter().flatten() {
            progress.note(&text);
        }
        let sides = Sides::load(&config, device)?;
        // The methods of a leaderboard are checked one by one: one that cannot be used is listed, and the others go on.
        match config.is_leaderboard() && config.methods.is_some() {
            true => check_images(&config, &sides)?,
            false => check_student(&config, &sides)?,
        }
        if config.budget.is_some() {
            super::search::check_budget(&config, sides.student.task())?;
        }
        let run = RunDir::open(out, resume)?;
        if resume {
            check_command(command, &run)?;
            check_unchanged(&config, &run.config_path())?;
        }
        write_atomically(&run.config_path(), config.to_toml().as_bytes())?;
        let log = MetricsLog::open(&run.metrics_path(), run.metrics_bytes()?)?;
        let summary = super::describe::new_summary(command, &config, &sides.student, out);
        let teacher_cache = TeacherCache::new(run.path(), config.eval_batch_size, device);
        Ok(Session { config, summary, sides, device, run, progress, started, log, teacher_cache })
    }

    /// Trains the teacher on its view of all images (or of those of `--teacher-limit`), or reads it from the file that was given.
    pub fn teacher(&mut self) -> Result<Teacher> {
        if let Some(file) = self.config.teacher.clone() {
            let model = load_model(&file, Some(&self.config.teacher_model), self.sides.teacher.task(), self.device)?;
            return Ok(Teacher { model: Arc::new(model), result: None, file });
        }
        self.teacher_of(self.config.teacher_epochs, "teacher")
    }

    /// Trains a teacher for so many epochs, as a job of this name.
    ///
    /// # Errors
    /// The training fails or is interrupted.
    pub(super) fn teacher_of(&mut self, epochs: usize, job: &str) -> Result<Teacher> {
        let pupil = Pupil { epochs, job: job.to_string(), ..teacher_pupil(&self.config, &self.sides) };
        let (model, result) = self.lab(pupil, None).train_student()?;
        Ok(Teacher { model: Arc::new(model), result: Some(result), file: self.run.model_path(job) })
    }

    /// The students' images.
    pub(super) fn images(&self) -> Arc<Dataset> {
        self.sides.student.train.clone()
    }

    /// Does something with other images for the students, about which no teacher was asked yet.
    ///
    /// # Errors
    /// Teacher and student see different things of an image, or what `work` returns.
    pub(super) fn with_images<R>(
        &mut self,
        images: Arc<Dataset>,
        work: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        if self.sides.differ() {
            let reason =
                "a study of the images needs one view and the same classes for both networks; leave --teacher-view, \
                          --student-view and --student-classes out";
            return Err(Error::argument("study", reason));
        }
        let cache = TeacherCache::in_memory(self.config.eval_batch_size, self.device);
        let own_cache = std::mem::replace(&mut self.teacher_cache, cache);
        let own_images = self.sides.show(images.clone(), images);
        let result = work(self);
        self.sides.show(own_images.0, own_images.1);
        self.teacher_cache = own_cache;
        result
    }

    /// Trains a student, by its plan's recipe if it has one. Students with the same seed start from the same weights and see the
    /// same batches.
    pub fn student(&mut self, name: &str, plan: StudentPlan, teacher: &Teacher) -> Result<(Model, JobResult)> {
        let pupil = plan.pupil(name, &self.config.student_model, &self.sides.student.train)?;
        let recipe = plan.recipe.as_ref().map(|recipe| RecipeChoice::from_config(recipe)?.build()).transpose()?;
        let mut lab = self.lab(pupil, Some(&teacher.model));
        match recipe {
            None => lab.train_student(),
            Some(recipe) => recipe.run(&mut lab),
        }
    }

    /// Trains students of one seed and as many epochs, that learn from the same taps: each as [`Session::student`] would, to the same
    /// bits. A device that runs ahead has room for several of these small networks, and trains them side by side.
    pub(super) fn students(&mut self, plans: Vec<(String, StudentPlan)>, teacher: &Teacher) -> Result<Vec<JobResult>> {
        let single = plans.len() < 2 || plans.iter().any(|(_, plan)| plan.recipe.is_some());
        if single || !backend::of(self.device).runs_ahead() || !self.are_together(&plans)? {
            return plans.into_iter().map(|(name, plan)| Ok(self.student(&name, plan, teacher)?.1)).collect();
        }
        let pupil = |(name, plan): &(String, StudentPlan)| {
            plan.pupil(name, &self.config.student_model, &self.sides.student.train)
        };
        let pupils = plans.iter().map(pupil).collect::<Result<Vec<_>>>()?;
        self.progress.stage(&format!("training {} students side by side", pupils.len()));
        let mut lab = self.lab(pupils[0].clone(), Some(&teacher.model));
        let learner = pupils.iter().find(|pupil| pupil.plan.needs_teacher());
        let answers = learner.map(|pupil| lab.ask(&teacher.model, pupil)).transpose()?;
        let members = pupils.into_iter().map(|pupil| (pupil, Lesson::Teacher)).collect();
        let trained = lab.train_together(&Cohort { members, update: Update::AtOnce }, answers.as_ref())?;
        Ok(trained.into_iter().map(|(_, result)| result).collect())
    }

    /// Whether these students were begun together, or not at all.
    fn are_together(&self, plans: &[(String, StudentPlan)]) -> Result<bool> {
        if self.run.networks_of(&plans[0].0)? == Some(plans.len()) {
            return Ok(true);
        }
        let begun =
            |(name, _): &(String, StudentPlan)| self.is_finished(name) || self.run.checkpoint_path(name).exists();
        Ok(!plans.iter().any(begun))
    }

    /// What a student is trained with that has a teacher, or the teacher itself.
    fn lab(&mut self, student: Pupil, teacher: Option<&Arc<Model>>) -> Lab<'_> {
        let side = if teacher.is_some() { &self.sides.student } else { &self.sides.teacher };
        Lab {
            student,
            teacher: teacher.cloned(),
            teacher_pupil: teacher_pupil(&self.config, &self.sides),
            all: side.all.clone(),
            shown_to_teacher: self.sides.shown_to_teacher.clone(),
            test: &side.test,
            test_set: &side.test_set,
            regime: &side.regime,
            teacher_regime: &self.sides.teacher.regime,
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
        let regime = config.regime(self.sides.student.regime.normalisation.clone())?;
        let own_regime = std::mem::replace(&mut self.sides.student.regime, regime);
        let own_config = std::mem::replace(&mut self.config, config.clone());
        let result = work(self);
        (self.config, self.sides.student.regime) = (own_config, own_regime);
        result
    }

    /// Refuses a configuration whose methods cannot use the networks or the images.
    pub(super) fn check(&self, config: &RunConfig) -> Result<()> {
        check_student(config, &self.sides)
    }

    /// Whether a job needs no training any more.
    pub(super) fn is_finished(&self, job: &str) -> bool {
        self.run.result(job).is_ok_and(|result| result.is_some())
    }

    /// Steps on labels alone and steps of the configured student, for timing: they leave nothing behind. `None` for a recipe whose
    /// training is more than the steps of one cohort.
    pub(super) fn rehearse<R>(
        &mut self,
        teacher: &Teacher,
        work: impl FnOnce(&mut Rehearsal, &mut Rehearsal) -> Result<R>,
    ) -> Result<Option<R>> {
        let plan = self.student_plan();
        let pupil = plan.pupil("timing", &self.config.student_model, &self.sides.student.train)?;
        let recipe = plan.recipe.as_ref().map(|recipe| RecipeChoice::from_config(recipe)?.build()).transpose()?;
        let mut lab = self.lab(pupil.clone(), Some(&teacher.model));
        let (cohort, answers) = match recipe.map(|recipe| recipe.cohort(&lab)) {
            None => (Cohort::alone(pupil.clone()), Some(lab.ask(&teacher.model, &pupil)?)),
            Some(Some(cohort)) => (cohort, None),
            Some(None) => return Ok(None),
        };
        let side = &self.sides.student;
        let loader = side.regime.loader(&pupil, None, self.device)?;
        let jobs = |cohort: &Cohort| cohort.jobs(&side.regime, loader.batches_per_epoch());
        let labels = Cohort::alone(Pupil { plan: Plan::labels(), ..pupil });
        let (of_labels, of_method) = (jobs(&labels)?, jobs(&cohort)?);
        let (test, run, device) = (&side.test_set, &self.run, self.device);
        let setting = Setting { loader: &loader, test, teacher: answers.as_ref(), run, device };
        let (alone, taught) = (labels.taught(&of_labels), cohort.taught(&of_method));
        let mut alone = Rehearsal::new(&alone, labels.update, setting)?;
        work(&mut alone, &mut Rehearsal::new(&taught, cohort.update, setting)?).map(Some)
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
    pub(super) fn of(config: &RunConfig) -> StudentPlan {
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
        let StudentPlan { epochs, seed, compression, .. } = *self;
        let (job, model, images) = (job.to_string(), model.to_string(), images.clone());
        Ok(Pupil { job, model, plan, epochs, seed, images, start: None, compression })
    }
}

/// The teacher, as it is trained where no file is given.
fn teacher_pupil(config: &RunConfig, sides: &Sides) -> Pupil {
    Pupil {
        job: "teacher".to_string(),
        model: config.teacher_model.clone(),
        plan: Plan::labels(),
        epochs: config.teacher_epochs,
        seed: config.seed,
        images: sides.teacher.train.clone(),
        start: None,
        compression: Compression::default(),
    }
}

/// Refuses methods and recipes that cannot use the networks or the images, before anything is trained.
fn check_student(config: &RunConfig, sides: &Sides) -> Result<()> {
    check_images(config, sides)?;
    let student = StudentPlan::of(config).pupil("student", &config.student_model, &sides.student.train)?;
    let by_answers = student.plan.terms.iter().find(|term| term.info.needs.teacher_logits);
    if let (true, Some(term)) = (sides.other_task(), by_answers) {
        let reason = format!(
            "{} compares answers, but --student-classes {} asks the student another question than the teacher; choose a \
             method of features or relations (`kdengine methods`) and leave --soft-weight out",
            term.info.name, config.student_classes
        );
        return Err(Error::argument("method", reason));
    }
    let prospect = Prospect {
        student,
        teacher: teacher_pupil(config, sides),
        teacher_task: sides.teacher.task(),
        all: sides.student.all.clone(),
        augment: config.augmentation(),
    };
    match &config.recipe {
        None => prospect.check_learning(&config.student_model, &config.teacher_model),
        Some(recipe) if sides.differ() => {
            let reason = format!(
                "{} trains several networks on the same images and classes; leave --teacher-view, --student-view and \
                 --student-classes out",
                recipe.method
            );
            Err(Error::argument("method", reason))
        }
        Some(recipe) => RecipeChoice::from_config(recipe)?.build()?.check(&prospect),
    }
}

/// Refuses images that are too small for their random changes.
fn check_images(config: &RunConfig, sides: &Sides) -> Result<()> {
    let augment = config.augmentation();
    [&sides.teacher, &sides.student].iter().try_for_each(|side| augment.validate(side.train.height, side.train.width))
}

/// What may change when a run is continued: the number of threads, on which nothing depends, and which students there are, since a
/// student's name decides what it learns from.
const MAY_CHANGE: [&str; 6] = ["threads", "methods", "seeds", "grid", "trials", "studies"];

/// A run that was finished by one command is no run of another: its report would be lost.
fn check_command(command: &str, run: &RunDir) -> Result<()> {
    match report::command_of(run.path()).filter(|before| before != command) {
        None => Ok(()),
        Some(before) => {
            let path = run.path().display();
            let reason = format!(
                "{path} is a run of `{before}`: go on with kdengine {before} --resume {path}, or choose another --out"
            );
            Err(Error::argument("resume", reason))
        }
    }
}

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
