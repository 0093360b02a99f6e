//! What a distillation method is to the training loop: a loss of what both networks say about a batch.

use super::taps::{TapPair, TeacherFeature};
use super::{Scheduled, Settings};
use crate::error::{Error, Result};
use crate::models::TapShape;
use crate::nn::{Init, Visitor};
use crate::tensor::{Device, Rng, Tensor};
use std::collections::BTreeMap;

/// Feature maps by the name of their tap.
pub type Features = BTreeMap<String, Tensor>;

/// What a method sees of one batch. Tensors of the teacher carry no history.
#[derive(Clone, Copy)]
pub struct StepInputs<'a> {
    /// The student's logits, `[n, classes]`.
    pub student_logits: &'a Tensor,
    /// The teacher's logits, where a method asked for them.
    pub teacher_logits: Option<&'a Tensor>,
    /// The labels, `[n]`, `I32`.
    pub labels: &'a Tensor,
    /// The student's feature maps that were asked for.
    pub student_features: &'a Features,
    /// The teacher's.
    pub teacher_features: &'a Features,
    /// Which samples of the training set these are.
    pub samples: &'a [u32],
    /// The epoch, from 1.
    pub epoch: usize,
    /// How many epochs there will be.
    pub epochs: usize,
    /// Random numbers of this step.
    pub rng: Rng,
}

static NO_FEATURES: Features = Features::new();

impl<'a> StepInputs<'a> {
    /// A step of which only logits and labels are known.
    pub fn of_logits(student: &'a Tensor, teacher: Option<&'a Tensor>, labels: &'a Tensor) -> StepInputs<'a> {
        StepInputs {
            student_logits: student,
            teacher_logits: teacher,
            labels,
            student_features: &NO_FEATURES,
            teacher_features: &NO_FEATURES,
            samples: &[],
            epoch: 1,
            epochs: 1,
            rng: Rng::new(0, 0),
        }
    }

    /// The value of a scheduled number in this epoch.
    pub fn now(&self, scheduled: Scheduled) -> f64 {
        scheduled.at(self.epoch, self.epochs)
    }

    /// One of the student's feature maps.
    pub fn student_feature(&self, tap: &str) -> Result<&'a Tensor> {
        recorded("student", self.student_features, tap)
    }

    /// The teacher's logits, for a method that needs them.
    pub fn teacher_logits(&self) -> Result<&'a Tensor> {
        self.teacher_logits.ok_or_else(|| Error::argument("teacher", "its logits are needed (--teacher FILE)"))
    }

    /// The feature maps of a pair of taps, the student's first.
    pub fn features(&self, pair: &TapPair) -> Result<(&'a Tensor, &'a Tensor)> {
        Ok((self.student_feature(&pair.student)?, recorded("teacher", self.teacher_features, &pair.teacher)?))
    }

    /// What was asked for of a teacher's feature map: as it was kept, or made of the map.
    ///
    /// # Errors
    /// Neither was recorded in this step.
    pub fn teacher_feature(&self, feature: &TeacherFeature) -> Result<Tensor> {
        match self.teacher_features.get(&feature.name()) {
            Some(kept) => Ok(kept.clone()),
            None => feature.of(&recorded("teacher", self.teacher_features, &feature.tap)?.detach()),
        }
    }

    /// Which rows of a memory of the training set this batch's samples are, `[n]`, `I32`.
    ///
    /// # Errors
    /// The batch does not say which samples it consists of.
    pub fn rows(&self, method: &'static str) -> Result<Tensor> {
        let rows: Vec<i32> = self.samples.iter().map(|&sample| sample as i32).collect();
        match rows.len() == self.student_logits.shape()[0] {
            true => Tensor::from_slice(&rows, [rows.len()], self.student_logits.device()),
            false => Err(Error::argument(method, "has to know which training samples the batch consists of")),
        }
    }
}

fn recorded<'a>(whose: &str, features: &'a Features, tap: &str) -> Result<&'a Tensor> {
    let missing = || Error::argument(format!("{whose} tap"), format!("`{tap}` was not recorded in this step"));
    features.get(tap).ok_or_else(missing)
}

/// A loss as the sum that is differentiated and the named terms it consists of.
pub struct Loss {
    /// The scalar that is differentiated.
    pub total: Tensor,
    /// The unweighted terms, for metrics and plots; scalars without history.
    pub terms: Vec<(String, Tensor)>,
}

impl Loss {
    /// A loss of one term.
    pub fn single(name: &str, value: Tensor) -> Loss {
        Loss { terms: vec![(name.to_string(), value.detach())], total: value }
    }

    /// `Σ weight · term`; a weight of 0 leaves a term out of the sum but in the metrics.
    ///
    /// # Errors
    /// There is no term.
    pub fn weighted(terms: Vec<(&str, f64, Tensor)>) -> Result<Loss> {
        let mut total: Option<Tensor> = None;
        for (_, weight, term) in &terms {
            total = Some(plus(total, &times(term, *weight)?)?);
        }
        let total = total.ok_or_else(|| Error::argument("loss", "has no terms"))?;
        Ok(Loss { total, terms: terms.into_iter().map(|(name, _, x)| (name.to_string(), x.detach())).collect() })
    }

    /// The mean of losses that have the same terms; a single one is itself.
    ///
    /// # Errors
    /// There is none.
    pub fn mean(losses: Vec<Loss>) -> Result<Loss> {
        let factor = 1.0 / losses.len().max(1) as f64;
        let mut sum: Option<Loss> = None;
        for Loss { total, terms } in losses {
            sum = Some(match sum {
                None => Loss { total, terms },
                Some(sum) => {
                    let pairs = sum.terms.into_iter().zip(&terms);
                    let terms = pairs.map(|((name, a), (_, b))| Ok((name, a.add(b)?))).collect::<Result<_>>()?;
                    Loss { total: sum.total.add(&total)?, terms }
                }
            });
        }
        let Loss { total, terms } = sum.ok_or_else(|| Error::argument("loss", "there is nothing to learn from"))?;
        let terms = terms.into_iter().map(|(name, term)| Ok((name, times(&term, factor)?))).collect::<Result<_>>()?;
        Ok(Loss { total: times(&total, factor)?, terms })
    }

    /// `share · self + (1 − share) · other`, term by term: the loss of images that are mixtures (mixup).
    pub fn blend(self, other: Loss, share: f64) -> Result<Loss> {
        let mix = |a: &Tensor, b: &Tensor| a.affine(share, 0.0)?.add(&b.affine(1.0 - share, 0.0)?);
        let pairs = self.terms.iter().zip(&other.terms);
        let terms = pairs.map(|((name, a), (_, b))| Ok((name.clone(), mix(a, b)?))).collect::<Result<_>>()?;
        Ok(Loss { total: mix(&self.total, &other.total)?, terms })
    }
}

/// `x · factor`; `x` itself where the factor is 1, so that nothing is rounded.
pub(super) fn times(x: &Tensor, factor: f64) -> Result<Tensor> {
    match factor == 1.0 {
        true => Ok(x.clone()),
        false => x.affine(factor, 0.0),
    }
}

/// The sum so far and `x`.
pub(super) fn plus(sum: Option<Tensor>, x: &Tensor) -> Result<Tensor> {
    match sum {
        Some(sum) => sum.add(x),
        None => Ok(x.clone()),
    }
}

/// What a method is made for: two networks, a training set, and the values of its hyperparameters.
pub struct Setup<'a> {
    /// The method's hyperparameters.
    pub settings: &'a Settings,
    /// The feature maps it compares.
    pub pairs: Vec<TapPair>,
    /// All of the student's taps, in order.
    pub student: &'a [TapShape],
    /// The number of classes.
    pub classes: usize,
    /// The class of each sample of the training set.
    pub labels: &'a [i32],
    /// Whether batches are of mixtures of samples (mixup).
    pub mixed: bool,
    /// Initial values of trainable tensors.
    pub init: Init,
    /// Where it is computed.
    pub device: Device,
}

impl Setup<'_> {
    /// Refuses batches of mixtures, for a method that remembers each sample; `instead` says what to do.
    ///
    /// # Errors
    /// Batches are of mixtures.
    pub(super) fn require_samples(&self, method: &str, instead: &str) -> Result<()> {
        match self.mixed {
            true => {
                Err(Error::argument(method, format!("remembers each training image, and a mixture is none; {instead}")))
            }
            false => Ok(()),
        }
    }
}

/// How a method shares an epoch with the other terms and the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is one term of the sum.
    Joint,
    /// Nothing else is learned in this epoch.
    Alone,
    /// The same, and what is learned is another thing than the term's weight is meant for.
    Preparing,
    /// Its stage is over; it is no longer learned.
    Over,
}

/// The epochs of a first stage that is to have so many: half of all are left to what follows.
pub(super) fn first_stage(wanted: usize, epochs: usize) -> usize {
    wanted.min(epochs / 2)
}

/// The epochs that a method has for itself before all else, if it has any; after them it is over.
pub(super) struct TwoStages(Option<usize>);

impl TwoStages {
    /// Of a method whose `stages` are `two` or `joint`, and the epochs of the first those that `epochs` names.
    pub(super) fn new(settings: &Settings, epochs: &str) -> TwoStages {
        TwoStages(TwoStages::are_asked_for(settings).then(|| settings.count(epochs)))
    }

    fn are_asked_for(settings: &Settings) -> bool {
        settings.is("stages", "two")
    }

    /// Refuses two stages of a method in a single epoch.
    pub(super) fn check_epochs(settings: &Settings, method: &'static str, epochs: usize) -> Result<()> {
        match epochs < 2 && TwoStages::are_asked_for(settings) {
            true => {
                let reason =
                    "comes before the rest of the loss, and one epoch is no two stages; take more --epochs, or \
                              stages=joint";
                Err(Error::argument(method, reason))
            }
            false => Ok(()),
        }
    }

    /// For [`Method::stage`].
    pub(super) fn stage(&self, epoch: usize, epochs: usize) -> Stage {
        match self.0 {
            None => Stage::Joint,
            Some(first) if epoch <= first_stage(first, epochs) => Stage::Alone,
            Some(_) => Stage::Over,
        }
    }
}

/// A distillation method, made for two networks.
pub trait Method: Send + Sync {
    /// The loss of one batch, without the cross-entropy with the labels beside it.
    fn loss(&self, inputs: &StepInputs) -> Result<Loss>;

    /// `hard_weight · cross-entropy + weight · loss` in one kernel, for methods that have one.
    fn loss_with_labels(&self, _: &StepInputs, _hard_weight: f64, _weight: f64) -> Result<Option<Loss>> {
        Ok(None)
    }

    /// What it is to the rest of the loss in epoch `epoch` (from 1) of `epochs`, for methods that come before the others.
    fn stage(&self, _epoch: usize, _epochs: usize) -> Stage {
        Stage::Joint
    }

    /// Shows the visitor the method's own trainable tensors and buffers: regressors, memory banks.
    fn visit(&self, _: &mut Visitor) {}

    /// Called after the optimiser's step, for methods that remember batches or train something by an optimiser of their own.
    fn after_step(&self) -> Result<()> {
        Ok(())
    }

    /// The state of an optimiser of its own, for checkpoints.
    fn optimizer_state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    /// Takes over what [`Method::optimizer_state`] returned.
    fn load_optimizer_state(&self, _: &BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}
