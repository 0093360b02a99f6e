//! What a distillation method is to the training loop: a loss of what both networks say about a batch.

use super::taps::TapPair;
use super::Settings;
use crate::error::{Error, Result};
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
            rng: Rng::new(0, 0),
        }
    }

    /// The teacher's logits, for a method that needs them.
    pub fn teacher_logits(&self) -> Result<&'a Tensor> {
        self.teacher_logits.ok_or_else(|| Error::argument("teacher", "its logits are needed (--teacher FILE)"))
    }

    /// The feature maps of a pair of taps, the student's first.
    pub fn features(&self, pair: &TapPair) -> Result<(&'a Tensor, &'a Tensor)> {
        let find = |whose: &str, features: &'a Features, name: &str| {
            let missing = || Error::argument(format!("{whose} tap"), format!("`{name}` was not recorded in this step"));
            features.get(name).ok_or_else(missing)
        };
        let student = find("student", self.student_features, &pair.student)?;
        Ok((student, find("teacher", self.teacher_features, &pair.teacher)?))
    }
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
    /// The number of classes.
    pub classes: usize,
    /// The class of each sample of the training set.
    pub labels: &'a [i32],
    /// Initial values of trainable tensors.
    pub init: Init,
    /// Where it is computed.
    pub device: Device,
}

/// A distillation method, made for two networks.
pub trait Method: Send + Sync {
    /// The loss of one batch, without the cross-entropy with the labels beside it.
    fn loss(&self, inputs: &StepInputs) -> Result<Loss>;

    /// `hard_weight · cross-entropy + weight · loss` in one kernel, for methods that have one.
    fn loss_with_labels(&self, _: &StepInputs, _hard_weight: f64, _weight: f64) -> Result<Option<Loss>> {
        Ok(None)
    }

    /// Shows the visitor the method's own trainable tensors and buffers: regressors, memory banks.
    fn visit(&self, _: &mut Visitor) {}

    /// Called after the optimiser's step, for methods that remember batches.
    fn after_step(&self) -> Result<()> {
        Ok(())
    }
}
