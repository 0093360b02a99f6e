//! Training: of one network, or of several that see the same batches and learn from one another.

use super::checkpoint::{fill, save_model};
use super::cohort::Cohort;
use super::{streams, Job, JobResult, MetricsLog, Progress, RunDir, TeacherOutputs, TestSet};
use crate::data::Loader;
use crate::error::{Error, Result};
use crate::models::{Model, Task};
use crate::nn::Module;
use crate::tensor::{Device, Rng};
use std::path::Path;

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

/// One of several networks that are trained together.
#[derive(Clone)]
pub struct Member<'a> {
    /// What is trained. All members have as many epochs.
    pub job: &'a Job,
    /// How.
    pub lesson: Lesson,
}

/// How a member of a cohort gets its weights. Members go by their numbers, from 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Lesson {
    /// It learns by its plan from the teacher of the setting.
    Teacher,
    /// It learns by its plan from other members, as they are at this batch; the loss is the mean over them. No gradient reaches them.
    Members(Vec<usize>),
    /// It is the moving average of another member's weights and buffers, with this momentum and a warm-up.
    Average { of: usize, momentum: f64 },
}

/// When the members of a cohort change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// All learn from what the others said before any of them changed.
    AtOnce,
    /// One after another; each learns from what the others say after their turn.
    InTurn,
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
    let member = Member { job, lesson: Lesson::Teacher };
    fit_together(&[member], Update::AtOnce, setting, log, progress).map(|mut trained| trained.remove(0))
}

/// The same for several networks in lockstep. The first is what progress is reported of; the checkpoint of all is in its folder.
///
/// # Errors
/// See [`fit`]; or the cohort is empty, or a member's lesson names a member that it cannot learn from.
pub fn fit_together(
    members: &[Member],
    update: Update,
    setting: Setting,
    log: &mut MetricsLog,
    progress: &mut dyn Progress,
) -> Result<Vec<(Model, JobResult)>> {
    let run = setting.run;
    let first = members.first().ok_or_else(|| Error::argument("cohort", "has no members"))?.job;
    check_lessons(members)?;
    let models = members.iter().map(|member| fresh_model(member.job, setting)).collect::<Result<Vec<_>>>()?;
    if run.result(&first.name)?.is_some() {
        return models.into_iter().zip(members).map(|(model, member)| load(model, member.job, run)).collect();
    }
    members.iter().try_for_each(|member| run.create_job(&member.job.name))?;
    for (model, member) in models.iter().zip(members) {
        if let Some(quantization) = member.job.compression.quantization {
            quantization.begin(model);
        }
    }
    let mut cohort = Cohort::resume(members, models, update, setting)?;
    progress.job_started(first, cohort.step(), (first.epochs * setting.loader.batches_per_epoch()) as u64);
    cohort.train(log, progress)?;
    let metrics_bytes = log.sync()?;
    let mut trained = Vec::new();
    for ((model, history), member) in cohort.into_trained().into_iter().zip(members) {
        let Job { name, model: architecture, plan, compression, .. } = member.job;
        if let Some(quantization) = compression.quantization {
            quantization.finish(&model)?;
        }
        save_model(&model, *compression, &run.model_path(name))?;
        let (name, method) = (name.clone(), plan.name());
        trained.push((model, JobResult { name, model: architecture.clone(), method, history, metrics_bytes }));
    }
    // The first is marked last: once it is, the checkpoint of all is gone.
    trained.iter().rev().try_for_each(|(_, result)| run.finish(result))?;
    progress.job_finished(first);
    Ok(trained)
}

/// Members learn from others of the cohort, and averages follow one that learns.
pub(super) fn check_lessons(members: &[Member]) -> Result<()> {
    for (number, member) in members.iter().enumerate() {
        let fits = match &member.lesson {
            Lesson::Teacher => true,
            Lesson::Members(others) => {
                !others.is_empty() && others.iter().all(|&other| other != number && other < members.len())
            }
            Lesson::Average { of, .. } => {
                members.get(*of).is_some_and(|leader| !matches!(leader.lesson, Lesson::Average { .. }))
            }
        };
        if !fits {
            let reason = format!("member {number} of {} cannot have the lesson {:?}", members.len(), member.lesson);
            return Err(Error::argument("cohort", reason));
        }
    }
    Ok(())
}

/// The job's network before its training.
pub(super) fn fresh_model(job: &Job, setting: Setting) -> Result<Model> {
    let data = setting.loader.dataset();
    let task = Task { input: data.image_shape(), classes: data.classes.len() };
    let model = Model::new(&job.model, task, Rng::new(job.seed, streams::WEIGHTS), setting.device)?;
    if let Some(start) = &job.start {
        model.load_state(&start.state(), Path::new("the network to start from"))?;
    }
    Ok(model.normalising(job.normalisation.clone()))
}

/// A finished job.
fn load(model: Model, job: &Job, run: &RunDir) -> Result<(Model, JobResult)> {
    let path = run.model_path(&job.name);
    let missing =
        || Error::data(&path, "was trained together with others that are finished; remove their folders, too");
    let result = run.result(&job.name)?.ok_or_else(missing)?;
    let damaged = |error| match error {
        Error::Data { path, reason } => {
            Error::data(&path, format!("{reason}, or remove its folder to train the job again"))
        }
        other => other,
    };
    fill(&model, &path).map_err(damaged)?;
    Ok((model, result))
}
