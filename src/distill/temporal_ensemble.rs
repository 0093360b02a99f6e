//! Laine & Aila, "Temporal Ensembling for Semi-Supervised Learning", 2017: each sample's answers are averaged over the epochs, and the student
//! stays close to that average. After each visit `Z ← α · Z + (1 − α) · p`, corrected for its start at 0, `ẑ = Z / (1 − αᵏ)` after k
//! visits; `L = w(t) · mean (p_s − ẑ)²` over samples and classes, `w(t) = exp(−5 (1 − t)²)` rising over the first part of the training
//! (section 2 and appendix A).

use super::info::{Family, Hyperparameter, MethodInfo, Needs};
use super::math::at_least;
use super::memory::Memory;
use super::method::times;
use super::{Loss, Method, Setup, StepInputs};
use crate::error::Result;
use crate::nn::Visitor;
use crate::ops::case::{sample_extent, sample_normal, sample_positive};
use crate::ops::{Case, OpSpec};
use crate::tensor::{DType, Tensor};

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "temporal-ensemble",
    paper: "Laine & Aila 2017",
    family: Family::Own,
    about: "stay close to the average of one's own answers over the epochs",
    formula: "w(t) · mean (p_s − Z / (1 − αᵏ))², Z ← α · Z + (1 − α) · p_s, w(t) = exp(−5 (1 − t)²)",
    needs: Needs::NOTHING,
    weight: 30.0,
    hard_weight: 1.0,
    cost: 1.1,
    when: "Without a teacher, with augmentation or dropout, so that answers about a sample vary and their average is better.",
    traps: &[
        "Without the ramp-up the first, poor answers are held on to.",
        "It averages probabilities over classes, too: with many classes it needs a larger weight.",
    ],
    hyperparameters: &[
        Hyperparameter::between("alpha", [0.0, 0.999], 0.6, "α, how much of the past the average keeps"),
        Hyperparameter::between("ramp-up", [0.0, 1.0], 0.27, "share of the epochs over which w rises; 80 of 300 in the paper"),
    ],
    build,
    specs: SPECS,
};

fn build(setup: &mut Setup) -> Result<Box<dyn Method>> {
    setup.require_samples(INFO.name, "leave --mixup out")?;
    let (settings, samples) = (setup.settings, setup.labels.len().max(1));
    let zeros = |width: usize| Tensor::zeros([samples, width], DType::F32, setup.device);
    Ok(Box::new(TemporalEnsemble {
        sum: Memory::new(&zeros(setup.classes)?),
        mass: Memory::new(&zeros(1)?),
        alpha: settings.number("alpha"),
        ramp_up: settings.number("ramp-up"),
    }))
}

/// `exp(−5 (1 − t)²)`, t the share of the ramp that is over before epoch `epoch` (from 1); 1 after it.
pub fn ramp(epoch: usize, epochs: usize, share: f64) -> f64 {
    let length = share * epochs as f64;
    let t = if length > 0.0 { (epoch.saturating_sub(1) as f64 / length).min(1.0) } else { 1.0 };
    (-5.0 * (1.0 - t) * (1.0 - t)).exp()
}

/// `mean (softmax(logits) − sum / mass)²` over samples and classes; samples of mass 0 have no average yet and lose nothing. `logits` and
/// `sum` are `[n, classes]`, `mass` is `[n, 1]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn consistency(logits: &Tensor, sum: &Tensor, mass: &Tensor) -> Result<Tensor> {
    let known = mass.detach().is_positive()?;
    let average = sum.detach().div(&at_least(&mass.detach(), 1e-6)?)?;
    logits.softmax(1.0)?.sub(&average)?.mul(&known)?.square()?.mean_all()
}

struct TemporalEnsemble {
    /// The averages Z, `[samples, classes]`.
    sum: Memory,
    /// What the weights in each sample's Z sum to, `[samples, 1]`: 1 − αᵏ, whatever k is for that sample.
    mass: Memory,
    alpha: f64,
    ramp_up: f64,
}

impl Method for TemporalEnsemble {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let (sum, mass) = (self.sum.recall(INFO.name, inputs)?, self.mass.recall(INFO.name, inputs)?);
        let loss = consistency(inputs.student_logits, &sum, &mass)?;
        let p = inputs.student_logits.detach().softmax(1.0)?;
        let sum = sum.affine(self.alpha, 0.0)?.add(&p.affine(1.0 - self.alpha, 0.0)?)?;
        self.sum.remember(INFO.name, inputs, &sum)?;
        self.mass.remember(INFO.name, inputs, &mass.affine(self.alpha, 1.0 - self.alpha)?)?;
        let loss = Loss::single(INFO.name, loss);
        Ok(Loss { total: times(&loss.total, ramp(inputs.epoch, inputs.epochs, self.ramp_up))?, ..loss })
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.sum.visit("sum", visitor);
        self.mass.visit("mass", visitor);
    }

    fn after_step(&self) -> Result<()> {
        self.sum.commit()?;
        self.mass.commit()
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "temporal_ensemble",
    run: |case| {
        let (sum, mass) = (case.tensor("sum")?, case.tensor("mass")?);
        Ok(vec![("loss", consistency(&case.tensor("logits")?, &sum, &mass)?)])
    },
    sample: Some(|random| {
        let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 2, 6));
        Case::new()
            .input("logits", sample_normal(random, &[n, classes]))
            .input("sum", sample_positive(random, &[n, classes]))
            .input("mass", sample_positive(random, &[n, 1]))
            .attr("detached", vec!["sum", "mass"])
    }),
}];
