//! One network under training: what it says about a batch, its loss, and its update.

use super::diagnose::first_non_finite;
use super::fit::{Lesson, Member, Setting};
use super::taken::StepTaken;
use super::{streams, Job};
use crate::autograd::no_grad;
use crate::compress::{input_ranges, set_input_ranges, Masks};
use crate::data::Batch;
use crate::distill::{Features, Loss, Mixture, Networks, Objective, StepInputs};
use crate::error::{Error, Result};
use crate::models::{tap_shapes, Model, TapShape};
use crate::nn::{Context, InputRange, Module, Parameter};
use crate::optim::Optimizer;
use crate::tensor::{Device, Rng, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// What a network says about a batch: logits `[n, classes]` and feature maps.
#[derive(Default)]
pub(super) struct Answers {
    logits: Option<Tensor>,
    features: Features,
}

impl From<(Tensor, Features)> for Answers {
    fn from((logits, features): (Tensor, Features)) -> Answers {
        Answers { logits: Some(logits), features }
    }
}

impl Answers {
    /// The same without history: what others may learn from.
    pub(super) fn detached(&self) -> Answers {
        let features = self.features.iter().map(|(tap, x)| (tap.clone(), x.detach()));
        Answers { logits: self.logits.as_ref().map(Tensor::detach), features: features.collect() }
    }
}

/// A network under training.
pub(super) struct Trainee<'a> {
    job: &'a Job,
    model: Model,
    /// The feature maps that it or others compare.
    taps: Vec<String>,
    /// `None` for an average, which only follows.
    learning: Option<Learning>,
    device: Device,
}

/// What a network that learns has besides its weights.
struct Learning {
    /// From whom (a member of the cohort, or the teacher), and what.
    lessons: Vec<(Option<usize>, Objective)>,
    parameters: Vec<(String, Parameter)>,
    optimizer: Optimizer,
    /// Where weights are pruned.
    masks: Option<Masks>,
}

impl<'a> Trainee<'a> {
    /// Member `number` of a cohort, before its training.
    pub(super) fn new(number: usize, model: Model, members: &'a [Member], setting: Setting) -> Result<Trainee<'a>> {
        let Member { job, lesson } = &members[number];
        let task = model.task();
        let own = tap_shapes(model.name(), task)?;
        let objective = |teacher: &[TapShape]| {
            let (classes, labels) = (task.classes, &setting.loader.dataset().labels);
            let networks = Networks { student: &own, teacher, classes, labels, mixed: setting.loader.mixes() };
            Objective::new(&job.plan, &networks, Rng::new(job.seed, streams::ADAPTERS), setting.device)
        };
        let shapes_of = |other: usize| tap_shapes(&members[other].job.model, task);
        let lessons = match lesson {
            Lesson::Teacher if job.plan.needs_teacher() && setting.teacher.is_none() => {
                return Err(Error::argument(job.plan.name(), "needs a teacher (--teacher FILE)"));
            }
            Lesson::Teacher => vec![(None, objective(setting.teacher.map_or(&[], |teacher| teacher.shapes()))?)],
            Lesson::Members(others) => {
                let lesson = |&other: &usize| Ok((Some(other), objective(&shapes_of(other)?)?));
                others.iter().map(lesson).collect::<Result<_>>()?
            }
            Lesson::Average { .. } => Vec::new(),
        };
        let mut taps: Vec<String> =
            lessons.iter().flat_map(|(_, objective)| objective.student_taps()).map(str::to_string).collect();
        for listener in members {
            if matches!(&listener.lesson, Lesson::Members(others) if others.contains(&number)) {
                taps.extend(listener.job.plan.teacher_taps(&tap_shapes(&listener.job.model, task)?, &own)?);
            }
        }
        taps.sort_unstable();
        taps.dedup();
        let learning = (!lessons.is_empty()).then(|| {
            let mut parameters = model.parameters();
            for (from, objective) in &lessons {
                parameters.extend(prefixed(&method_prefix(*from), objective.parameters()));
            }
            let steps = (job.epochs * setting.loader.batches_per_epoch()) as u64;
            let masks = job.compression.pruning.map(|pruning| Masks::new(pruning, &model, steps));
            Learning { lessons, parameters, optimizer: Optimizer::new(job.optimizer), masks }
        });
        Ok(Trainee { job, model, taps, learning, device: setting.device })
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    pub(super) fn into_model(self) -> Model {
        self.model
    }

    /// Whether it is trained, and does not only follow another network.
    pub(super) fn learns(&self) -> bool {
        self.learning.is_some()
    }

    /// Whether it learns from the teacher of the setting.
    pub(super) fn needs_teacher(&self) -> bool {
        let lessons = self.learning.iter().flat_map(|learning| &learning.lessons);
        lessons.into_iter().any(|(from, objective)| from.is_none() && objective.needs_teacher())
    }

    /// What it says about a batch: in training, with history; of an average, in evaluation and without.
    pub(super) fn answer(&self, step: u64, batch: &Batch) -> Result<Answers> {
        let taps: Vec<&str> = self.taps.iter().map(String::as_str).collect();
        let forward = |cx: Context| {
            let mut cx = cx.with_taps(&taps);
            let logits = self.model.forward(&batch.images, &mut cx)?;
            let features = taps.iter().filter_map(|tap| Some((tap.to_string(), cx.tapped(tap)?.clone())));
            Ok(Answers { logits: Some(logits), features: features.collect() })
        };
        match self.learns() {
            true => forward(Context::train(self.rng(streams::DROPOUT, step))),
            false => no_grad(|| forward(Context::eval())),
        }
    }

    /// Its loss, from its own answers, the other members', and the teacher's; the mean over those that it learns from.
    pub(super) fn loss(
        &self,
        own: &Answers,
        said: &[Answers],
        teacher: Option<&Answers>,
        step: u64,
        epoch: usize,
        batch: &Batch,
    ) -> Result<Loss> {
        let lessons = self.learning.as_ref().map_or(&[][..], |learning| &learning.lessons);
        let on_device = |labels: &[i32]| Tensor::from_slice(labels, [labels.len()], self.device);
        let (labels, none) = (on_device(&batch.labels)?, Answers::default());
        let mixed = batch.mix.as_ref().map(|mix| Ok((on_device(&mix.labels)?, mix.lambda))).transpose()?;
        let student_logits = own.logits.as_ref().ok_or_else(|| Error::argument("student", "gave no logits"))?;
        let of = |(from, objective): &(Option<usize>, Objective)| {
            let other = from.map_or(teacher, |other| said.get(other)).unwrap_or(&none);
            let inputs = StepInputs {
                student_logits,
                teacher_logits: other.logits.as_ref(),
                labels: &labels,
                student_features: &own.features,
                teacher_features: &other.features,
                samples: &batch.index,
                epoch,
                epochs: self.job.epochs,
                rng: self.rng(streams::METHOD, step),
            };
            let mixture = mixed.as_ref().map(|(labels, share)| Mixture { labels, share: *share });
            objective.loss(&inputs, mixture)
        };
        Loss::mean(lessons.iter().map(of).collect::<Result<_>>()?)
    }

    /// Backward and update.
    pub(super) fn learn(&mut self, loss: Loss, step: u64, epoch: usize) -> Result<StepTaken> {
        let lr = self.job.schedule.lr(step);
        let gradients = loss.total.backward()?;
        let Loss { total, terms } = loss;
        let total = total.detach();
        if let Some(Learning { lessons, parameters, optimizer, masks }) = &mut self.learning {
            match self.job.clip_norm {
                Some(max_norm) => optimizer.clipped_step(parameters, &gradients, max_norm, lr)?,
                None => optimizer.step(parameters, &gradients, lr)?,
            }
            if let Some(masks) = masks {
                masks.after_step(step)?;
            }
            lessons.iter().try_for_each(|(_, objective)| objective.after_step())?;
        }
        Ok(StepTaken { job: self.job.name.clone(), epoch, step: step + 1, lr, loss: total, terms })
    }

    /// Where the forward pass or the loss stops being finite.
    pub(super) fn diagnose(
        &self,
        said: &[Answers],
        teacher: Option<&Answers>,
        step: u64,
        epoch: usize,
        batch: &Batch,
    ) -> String {
        let loss = || self.loss(&self.answer(step, batch)?, said, teacher, step, epoch, batch);
        let forward = || no_grad(loss).map(drop);
        first_non_finite(&self.model, forward).unwrap_or_else(|error| error.to_string())
    }

    fn rng(&self, stream: u64, step: u64) -> Rng {
        Rng::new(self.job.seed, stream).derive(step)
    }

    /// Everything that a checkpoint keeps of it: the weights, and behind a prefix with a slash what is not the model's.
    pub(super) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = self.model.state();
        for (name, range) in input_ranges(&self.model) {
            let range = [range.largest, range.batches as f32];
            state.insert(format!("{RANGES}{name}"), Tensor::from_slice(&range, [2], Device::Cpu)?);
        }
        if let Some(Learning { lessons, optimizer, masks, .. }) = &self.learning {
            if let Some(masks) = masks {
                state.extend(prefixed(MASKS, masks.state()?));
            }
            state.extend(prefixed(OPTIMIZER, optimizer.state()));
            for (from, objective) in lessons {
                state.extend(prefixed(&method_prefix(*from), objective.state()));
            }
        }
        Ok(state)
    }

    /// Takes over what [`Trainee::state`] returned.
    pub(super) fn load_state(&mut self, state: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
        let model = state.iter().filter(|(name, _)| !name.contains('/'));
        let ranges = under(RANGES, state).into_iter().map(|(name, range)| match range.to_vec::<f32>()?[..] {
            [largest, batches] => Ok((name, InputRange { largest, batches: batches as u32 })),
            _ => Err(Error::checkpoint(path, format!("has a damaged input range of {name}; remove it to start again"))),
        });
        set_input_ranges(&self.model, &ranges.collect::<Result<_>>()?);
        self.model.load_state(&model.map(|(name, x)| (name.clone(), x.clone())).collect(), path)?;
        if let Some(Learning { lessons, optimizer, masks, .. }) = &mut self.learning {
            if let Some(masks) = masks {
                masks.load_state(&under(MASKS, state))?;
            }
            optimizer.load_state(&under(OPTIMIZER, state))?;
            for (from, objective) in lessons {
                objective.load_state(&under(&method_prefix(*from), state))?;
            }
        }
        Ok(())
    }
}

/// In front of the names of what the optimiser keeps.
const OPTIMIZER: &str = "optimizer/";

/// In front of the names of weights whose layers' inputs are rounded in a range.
const RANGES: &str = "range/";

/// In front of the names of pruned weights' masks.
const MASKS: &str = "mask/";

/// In front of the names of what methods train, in checkpoints and in the optimiser's state.
fn method_prefix(from: Option<usize>) -> String {
    from.map_or("method/".to_string(), |other| format!("method-from-{other}/"))
}

/// The same things with `prefix` in front of their names.
pub(crate) fn prefixed<T>(
    prefix: &str,
    named: impl IntoIterator<Item = (String, T)>,
) -> impl Iterator<Item = (String, T)> {
    let prefix = prefix.to_string();
    named.into_iter().map(move |(name, thing)| (format!("{prefix}{name}"), thing))
}

/// The things whose names begin with `prefix`, without it.
pub(crate) fn under(prefix: &str, named: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let named = named.iter();
    named.filter_map(|(name, thing)| Some((name.strip_prefix(prefix)?.to_string(), thing.clone()))).collect()
}
