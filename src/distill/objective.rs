//! The loss of a training: cross-entropy with the labels and any number of methods' terms, made for two networks.

use super::info::MethodInfo;
use super::method::{plus, times, Loss, Method, Setup, Stage, StepInputs};
use super::plan::Plan;
use super::scheduled::Scheduled;
use super::taps::TapPair;
use crate::error::{Error, Result};
use crate::models::TapShape;
use crate::nn::{Init, Parameter, Visitor};
use crate::tensor::{Device, Rng, Tensor};
use std::collections::BTreeMap;

/// What an objective is made for.
pub struct Networks<'a> {
    /// The student's taps.
    pub student: &'a [TapShape],
    /// The teacher's taps; empty without a teacher.
    pub teacher: &'a [TapShape],
    /// The number of classes.
    pub classes: usize,
    /// The class of each sample of the training set.
    pub labels: &'a [i32],
    /// Whether batches are of mixtures of samples (mixup).
    pub mixed: bool,
}

/// A loss that can be computed. Its methods' trainable tensors live here.
pub struct Objective {
    hard_weight: Scheduled,
    terms: Vec<Made>,
}

/// One term with its method made.
struct Made {
    /// Unique among the terms: the method's name, numbered if it is there twice.
    name: String,
    info: &'static MethodInfo,
    weight: Scheduled,
    method: Box<dyn Method>,
    pairs: Vec<TapPair>,
}

/// The other half of a batch of mixtures: its labels, and the share of the first half.
#[derive(Clone, Copy)]
pub struct Mixture<'a> {
    /// `[n]`, `I32`.
    pub labels: &'a Tensor,
    /// The first half's share, in [0, 1].
    pub share: f64,
}

impl Objective {
    /// Makes every method of a plan. Initial values of trainable tensors are drawn from `rng`.
    ///
    /// # Errors
    /// A method cannot use the networks; the error says what to do.
    pub fn new(plan: &Plan, networks: &Networks, rng: Rng, device: Device) -> Result<Objective> {
        let mut terms: Vec<Made> = Vec::new();
        for (i, term) in plan.terms.iter().enumerate() {
            let pairs = term.pairs(networks.student, networks.teacher)?;
            let mut setup = Setup {
                settings: &term.settings,
                pairs: pairs.clone(),
                student: networks.student,
                classes: networks.classes,
                labels: networks.labels,
                mixed: networks.mixed,
                init: Init::new(rng.derive(i as u64), device),
                device,
            };
            let twins = terms.iter().filter(|made| made.info.name == term.info.name).count();
            let name = match twins {
                0 => term.info.name.to_string(),
                n => format!("{}-{}", term.info.name, n + 1),
            };
            let method = (term.info.build)(&mut setup)?;
            terms.push(Made { name, info: term.info, weight: term.weight, method, pairs });
        }
        let ends = |made: &Made| made.method.stage(usize::MAX, usize::MAX) == Stage::Over;
        if let (true, Some(first)) = (plan.hard_weight.is_zero() && terms.iter().all(ends), terms.first()) {
            let reason = "has a first stage but nothing is learned after it; give --hard-weight or --soft-weight";
            return Err(Error::argument(first.info.name, reason));
        }
        Ok(Objective { hard_weight: plan.hard_weight, terms })
    }

    /// The student's taps that are needed.
    pub fn student_taps(&self) -> Vec<&str> {
        let mut taps: Vec<&str> = self.terms.iter().flat_map(Made::student_taps).collect();
        taps.sort_unstable();
        taps.dedup();
        taps
    }

    /// Whether there must be a teacher.
    pub fn needs_teacher(&self) -> bool {
        self.terms.iter().any(|made| made.info.needs.teacher())
    }

    /// The loss of a batch; of a batch of mixtures, what depends on labels is the mean of both halves' by their shares.
    ///
    /// # Errors
    /// A method cannot be computed on this batch.
    pub fn loss(&self, inputs: &StepInputs, mixture: Option<Mixture>) -> Result<Loss> {
        let of_labels = |loss: &dyn Fn(&StepInputs) -> Result<Loss>| match mixture {
            None => loss(inputs),
            Some(Mixture { labels, share }) => loss(inputs)?.blend(loss(&StepInputs { labels, ..*inputs })?, share),
        };
        let mut parts = Vec::new();
        // What is left to do of the labels' cross-entropy: the first method that has a kernel for both takes it along.
        let mut hard_weight = Some(self.hard_weight);
        let stages: Vec<Stage> = self.terms.iter().map(|made| made.method.stage(inputs.epoch, inputs.epochs)).collect();
        let comes_first = |stage: &Stage| matches!(stage, Stage::Alone | Stage::Preparing);
        let first = stages.iter().any(comes_first);
        if first {
            hard_weight = None;
        }
        let present = |stage: &Stage| if first { comes_first(stage) } else { *stage == Stage::Joint };
        for (made, stage) in self.terms.iter().zip(stages).filter(|(_, stage)| present(stage)) {
            if let Some(hard) = hard_weight {
                if let Some(loss) = made.with_labels(inputs, mixture, inputs.now(hard))? {
                    parts.push((None, loss));
                    hard_weight = None;
                    continue;
                }
            }
            let weight = match stage {
                // It is over before a weight that grows has begun.
                Stage::Alone => made.weight.largest(),
                Stage::Preparing => 1.0,
                Stage::Joint | Stage::Over => inputs.now(made.weight),
            };
            let weighted = |inputs: &StepInputs| {
                let loss = made.method.loss(inputs)?;
                Ok(Loss { total: times(&loss.total, weight)?, terms: loss.terms })
            };
            let loss = if made.info.needs.labels { of_labels(&weighted)? } else { weighted(inputs)? };
            parts.push((Some(made), loss));
        }
        if let Some(weight) = hard_weight.filter(|weight| !weight.is_zero()) {
            let hard = |inputs: &StepInputs| {
                let hard = inputs.student_logits.cross_entropy(inputs.labels, 0.0)?;
                Ok(Loss { terms: vec![(HARD.to_string(), hard.detach())], total: times(&hard, inputs.now(weight))? })
            };
            parts.insert(0, (None, of_labels(&hard)?));
        }
        let (mut total, mut terms) = (None, Vec::new());
        for (made, loss) in parts {
            total = Some(plus(total, &loss.total)?);
            terms.extend(
                loss.terms.into_iter().map(|(name, value)| (made.map_or(name.clone(), |m| m.label(&name)), value)),
            );
        }
        let total = total.ok_or_else(|| Error::argument("loss", "has no terms"))?;
        Ok(Loss { total, terms })
    }

    /// Trainable tensors of the methods, by name.
    pub fn parameters(&self) -> Vec<(String, Parameter)> {
        self.visitor().into_parameters()
    }

    /// Trainable tensors and buffers of the methods, by name: what a checkpoint needs.
    pub fn cells(&self) -> Vec<(String, Parameter)> {
        self.visitor().into_cells()
    }

    fn visitor(&self) -> Visitor {
        let mut visitor = Visitor::default();
        for made in &self.terms {
            visitor.group(&made.name, |visitor| made.method.visit(visitor));
        }
        visitor
    }

    /// Everything that the methods have learned, by name.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let cells = self.cells().into_iter().map(|(name, cell)| (name, cell.get().detach()));
        let own = |made: &Made| {
            let prefix = made.optimizer_prefix();
            made.method.optimizer_state().into_iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
        };
        cells.chain(self.terms.iter().flat_map(own)).collect()
    }

    /// Takes over what [`Objective::state`] returned; other names are ignored.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load_state(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, cell) in self.cells() {
            let now = cell.get();
            let missing =
                || Error::argument("checkpoint", format!("the method's `{name}` is missing; start the job again"));
            let saved = state.get(&name).ok_or_else(missing)?;
            cell.set(&saved.to_dtype(now.dtype())?.to_device(now.device())?)?;
        }
        for made in &self.terms {
            let prefix = made.optimizer_prefix();
            let own = state.iter().filter_map(|(name, x)| Some((name.strip_prefix(&prefix)?.to_string(), x.clone())));
            made.method.load_optimizer_state(&own.collect())?;
        }
        Ok(())
    }

    /// To be called after the optimiser's step.
    pub fn after_step(&self) -> Result<()> {
        self.terms.iter().try_for_each(|made| made.method.after_step())
    }
}

const HARD: &str = "hard";

impl Made {
    /// The taps of the student that it looks at: where the student is its own teacher, both of each pair.
    fn student_taps(&self) -> impl Iterator<Item = &str> {
        let own = self.info.needs.taps.of_student_alone();
        let teachers = self.pairs.iter().filter(move |_| own).map(|pair| pair.teacher.as_str());
        self.pairs.iter().map(|pair| pair.student.as_str()).chain(teachers)
    }

    /// In front of the names of what an optimiser of the method's own keeps.
    fn optimizer_prefix(&self) -> String {
        format!("{}.optimizer/", self.name)
    }

    /// The method's loss with the labels' cross-entropy in one kernel, if it has one.
    fn with_labels(&self, inputs: &StepInputs, mixture: Option<Mixture>, hard_weight: f64) -> Result<Option<Loss>> {
        let weight = inputs.now(self.weight);
        let of = |inputs: &StepInputs| self.method.loss_with_labels(inputs, hard_weight, weight);
        match (of(inputs)?, mixture) {
            (Some(first), Some(Mixture { labels, share })) => {
                of(&StepInputs { labels, ..*inputs })?.map(|second| first.blend(second, share)).transpose()
            }
            (loss, _) => Ok(loss),
        }
    }

    /// The name of one of the method's terms in metrics: `at` for a method of one term, `dkd.tckd` for one of several.
    fn label(&self, term: &str) -> String {
        match term == self.info.name {
            true => self.name.clone(),
            false => format!("{}.{term}", self.name),
        }
    }
}
