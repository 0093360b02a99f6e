//! What a recipe works with: the student that was asked for, the teacher, the images, and a way to train networks.

use crate::data::{AugmentConfig, Dataset};
use crate::distill::{Networks, Objective};
use crate::error::{Error, Result};
use crate::models::{tap_shapes, Model, Task};
use crate::report::Extras;
use crate::tensor::{Device, Rng};
use crate::train::{
    evaluate, fit, fit_together, streams, Evaluation, Job, JobResult, Lesson, Member, MetricsLog, Progress, Pupil,
    Regime, RunDir, Setting, TeacherCache, TeacherOutputs, TestSet, Update,
};
use std::sync::Arc;

/// What a recipe is asked for, before there is a run.
pub struct Prospect {
    /// The student that is asked for.
    pub student: Pupil,
    /// How the run's teacher is trained, if it does not come from a file.
    pub teacher: Pupil,
    /// What the teacher is built for.
    pub teacher_task: Task,
    /// All training images, of which [`Pupil::images`] may be a part (`--train-limit`).
    pub all: Arc<Dataset>,
    /// Random changes to the training images.
    pub augment: AugmentConfig,
}

impl Prospect {
    /// Whether a network of one architecture can learn from one of another by the plan's terms.
    ///
    /// # Errors
    /// A term cannot use the networks' feature maps; the error says what to do.
    pub fn check_learning(&self, student: &str, teacher: &str) -> Result<()> {
        let (task, plan) = (task_of(&self.student.images), &self.student.plan);
        let (student, teacher) = (tap_shapes(student, task)?, tap_shapes(teacher, self.teacher_task)?);
        let labels = &self.student.images.labels;
        let (classes, mixed) = (task.classes, self.augment.mixup > 0.0);
        let networks = Networks { student: &student, teacher: &teacher, classes, labels, mixed };
        Objective::new(plan, &networks, Rng::new(self.student.seed, streams::ADAPTERS), Device::Cpu).map(drop)
    }
}

/// The workplace of a recipe within a run.
pub struct Lab<'a> {
    /// The student that is asked for. A recipe's other jobs are named after it: [`Pupil::named`].
    pub student: Pupil,
    /// The run's teacher.
    pub teacher: Option<Arc<Model>>,
    /// How it was trained, or would have been if it is not from a file.
    pub teacher_pupil: Pupil,
    /// All training images, of which the student's may be a part (`--train-limit`).
    pub all: Arc<Dataset>,
    /// The run's teacher's view of the student's images.
    pub shown_to_teacher: Arc<Dataset>,
    /// The images that models are judged by.
    pub test: &'a Dataset,
    /// The same on the device.
    pub test_set: &'a TestSet,
    /// How the student is trained, and every network of a recipe that is its own.
    pub regime: &'a Regime,
    /// How the run's teacher is trained, whatever a grid varies for students.
    pub teacher_regime: &'a Regime,
    /// The run's folder.
    pub run: &'a RunDir,
    /// Where it is computed.
    pub device: Device,
    /// Who is told what happens.
    pub progress: &'a mut dyn Progress,
    /// What the report will say besides what it says of the student.
    pub extras: &'a mut Extras,
    /// The run's metrics.
    pub log: &'a mut MetricsLog,
    /// What the run's teacher has said about the student's images.
    pub teacher_cache: &'a mut TeacherCache,
}

impl Lab<'_> {
    /// The run's teacher.
    ///
    /// # Errors
    /// There is none.
    pub fn teacher(&self) -> Result<Arc<Model>> {
        self.teacher.clone().ok_or_else(|| Error::argument("teacher", "is needed (--teacher FILE)"))
    }

    /// Trains the student that is asked for from the run's teacher.
    ///
    /// # Errors
    /// See [`fit`].
    pub fn train_student(&mut self) -> Result<(Model, JobResult)> {
        let teacher = self.teacher.clone();
        self.train(&self.student.clone(), teacher.as_ref())
    }

    /// Trains a network from a teacher, which its plan may not need; continues it from its checkpoint, or loads it if it was finished.
    ///
    /// # Errors
    /// See [`fit`].
    pub fn train(&mut self, pupil: &Pupil, teacher: Option<&Arc<Model>>) -> Result<(Model, JobResult)> {
        let answers = match (teacher, pupil.plan.needs_teacher() && self.run.result(&pupil.job)?.is_none()) {
            (Some(teacher), true) => Some(self.ask(teacher, pupil)?),
            _ => None,
        };
        self.train_with(pupil, answers.as_ref())
    }

    /// Trains a teacher beside the run's own: on labels, and as that is trained, so that all students of the run can share it.
    ///
    /// # Errors
    /// See [`fit`].
    pub fn train_teacher(&mut self, pupil: &Pupil) -> Result<(Model, JobResult)> {
        let own = std::mem::replace(&mut self.regime, self.teacher_regime);
        let trained = self.train(pupil, None);
        self.regime = own;
        trained
    }

    /// The same as [`Lab::train`] with a teacher's answers.
    ///
    /// # Errors
    /// See [`fit`].
    pub fn train_with(&mut self, pupil: &Pupil, answers: Option<&TeacherOutputs>) -> Result<(Model, JobResult)> {
        self.train_judged(pupil, answers, self.test_set)
    }

    /// The same with other test images, or other groups of classes among them.
    ///
    /// # Errors
    /// See [`fit`].
    pub fn train_judged(
        &mut self,
        pupil: &Pupil,
        answers: Option<&TeacherOutputs>,
        test: &TestSet,
    ) -> Result<(Model, JobResult)> {
        let loader = self.regime.loader(pupil, answers, self.device)?;
        let job = self.regime.job(pupil, loader.batches_per_epoch())?;
        let (run, device) = (self.run, self.device);
        let setting = Setting { loader: &loader, test, teacher: answers, run, device };
        fit(&job, setting, self.log, self.progress)
    }

    /// Trains several networks in lockstep, on the images and in the order of the first, with a teacher's answers for those that learn from
    /// it.
    ///
    /// # Errors
    /// See [`fit_together`].
    pub fn train_together(
        &mut self,
        cohort: &Cohort,
        answers: Option<&TeacherOutputs>,
    ) -> Result<Vec<(Model, JobResult)>> {
        let first = &cohort.members.first().ok_or_else(|| Error::argument("cohort", "has no members"))?.0;
        let loader = self.regime.loader(first, answers, self.device)?;
        let jobs = cohort.jobs(self.regime, loader.batches_per_epoch())?;
        let (test, run, device) = (self.test_set, self.run, self.device);
        let setting = Setting { loader: &loader, test, teacher: answers, run, device };
        fit_together(&cohort.taught(&jobs), cohort.update, setting, self.log, self.progress)
    }

    /// What a teacher says about a pupil's images, as far as its plan needs it: computed once if they are always the same.
    ///
    /// # Errors
    /// The networks cannot be compared, or the answers are not finite.
    pub fn ask(&mut self, teacher: &Arc<Model>, pupil: &Pupil) -> Result<TeacherOutputs> {
        let task = task_of(&pupil.images);
        let shapes = [tap_shapes(&pupil.model, task)?, tap_shapes(teacher.name(), teacher.task())?];
        if self.regime.augment.is_active() {
            return TeacherOutputs::online(teacher, &pupil.plan.teacher_taps(&shapes[0], &shapes[1])?);
        }
        let features = pupil.plan.teacher_features(&shapes[0], &shapes[1])?;
        let of_the_run = self.teacher.as_ref().is_some_and(|own| Arc::ptr_eq(own, teacher))
            && Arc::ptr_eq(&pupil.images, &self.student.images);
        if of_the_run {
            return self.teacher_cache.outputs(teacher, &self.shown_to_teacher, &features, self.progress);
        }
        let mut cache = TeacherCache::in_memory(self.regime.eval_batch_size, self.device);
        cache.outputs(teacher, &pupil.images, &features, self.progress)
    }

    /// What a model says about the test images.
    ///
    /// # Errors
    /// The model cannot be computed.
    pub fn evaluate(&self, model: &Model) -> Result<Evaluation> {
        evaluate(model, self.test, self.regime.eval_batch_size, self.device)
    }
}

/// Networks that are trained in lockstep.
pub struct Cohort {
    /// Who learns, and how; the first is the student that the recipe returns.
    pub members: Vec<(Pupil, Lesson)>,
    /// When they change.
    pub update: Update,
}

impl Cohort {
    /// A network and the teacher of its setting.
    pub fn alone(pupil: Pupil) -> Cohort {
        Cohort { members: vec![(pupil, Lesson::Teacher)], update: Update::AtOnce }
    }

    /// The members' jobs, with so many batches an epoch.
    ///
    /// # Errors
    /// An unknown schedule.
    pub fn jobs(&self, regime: &Regime, batches_per_epoch: usize) -> Result<Vec<Job>> {
        self.members.iter().map(|(pupil, _)| regime.job(pupil, batches_per_epoch)).collect()
    }

    /// The members with their [`Cohort::jobs`].
    pub fn taught<'a>(&self, jobs: &'a [Job]) -> Vec<Member<'a>> {
        jobs.iter().zip(&self.members).map(|(job, (_, lesson))| Member { job, lesson: lesson.clone() }).collect()
    }
}

/// What a network for these images is built for.
pub fn task_of(images: &Dataset) -> Task {
    Task { input: images.image_shape(), classes: images.classes.len() }
}
