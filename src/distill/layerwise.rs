//! Hints at several layers at once, `L = Σ_l w_l · mean (W_l f_s,l − f_t,l)²`: with equal weights, weights that grow with depth, or learned
//! ones, `w = softmax(raw)`.
//!
//! Learned weights collapse onto the layer that is easiest to copy; the term `−H(w) = Σ_l w_l log w_l` works against it, and the
//! weights are among the metrics.

use super::adapter::Regressors;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps, NON_NEGATIVE};
use super::math::constant;
use super::{Loss, Method, StepInputs};
use crate::error::{Error, Result};
use crate::nn::{Parameter, Visitor};
use crate::ops::case::sample_normal;
use crate::ops::{Case, OpSpec};
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "layerwise",
    paper: "after Romero et al. 2015",
    family: Family::Feature,
    about: "hints at all layers, with fixed, growing or learned weights",
    formula: "Σ_l w_l · mean (W_l f_s,l − f_t,l)² + e · Σ_l w_l log w_l, w = softmax(raw)",
    needs: Needs::features(Taps::Stages),
    weight: 1.0,
    hard_weight: 1.0,
    cost: 2.2,
    when: "When it is not known which layer's hint is worth something.",
    traps: &["Learned weights collapse onto the easiest layer; entropy-weight keeps them apart."],
    hyperparameters: &[
        Hyperparameter::choice("weights", &["learned", "equal", "linear"], "learned, all equal, or growing with depth"),
        Hyperparameter::between("entropy-weight", NON_NEGATIVE, 0.1, "e, against the collapse of learned weights"),
    ],
    build: |setup| {
        let (settings, layers) = (setup.settings, setup.pairs.len());
        let raw = match (settings.is("weights", "learned"), settings.is("weights", "linear")) {
            (true, _) => Weights::Learned(setup.init.constant([layers], 0.0)?),
            (_, true) => Weights::Fixed((1..=layers).map(|l| l as f32).collect()),
            _ => Weights::Fixed(vec![1.0; layers]),
        };
        let taps = setup.pairs.iter().map(|pair| format!("weight-{}", pair.student)).collect();
        let regressors = Regressors::new(&mut setup.init, setup.pairs.clone())?;
        Ok(Box::new(Layerwise { regressors, weights: raw, taps, entropy: settings.number("entropy-weight") }))
    },
    specs: SPECS,
};

/// `Σ_l weights_l · losses_l`.
///
/// # Errors
/// Not one weight for each loss.
pub fn layerwise(weights: &Tensor, losses: &[Tensor]) -> Result<Tensor> {
    let losses = losses.iter().map(|loss| loss.reshape([1])).collect::<Result<Vec<_>>>()?;
    weights.mul(&Tensor::concat(&losses.iter().collect::<Vec<_>>(), 0)?)?.sum_all()
}

enum Weights {
    /// Before softmax.
    Learned(Parameter),
    /// In proportion.
    Fixed(Vec<f32>),
}

struct Layerwise {
    regressors: Regressors,
    weights: Weights,
    taps: Vec<String>,
    entropy: f64,
}

impl Method for Layerwise {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let mut losses = Vec::new();
        for aligned in self.regressors.aligned(inputs) {
            let (mapped, teacher) = aligned?;
            losses.push(mapped.mse_loss(&teacher)?);
        }
        let first = losses.first().ok_or_else(|| Error::argument(INFO.name, "there is nothing to compare"))?;
        let (weights, learned) = match &self.weights {
            Weights::Learned(raw) => (raw.get().softmax(1.0)?, true),
            Weights::Fixed(parts) => {
                let sum: f32 = parts.iter().sum();
                let shares: Vec<f32> = parts.iter().map(|part| part / sum).collect();
                (constant(&shares, [shares.len()], first)?, false)
            }
        };
        let mut terms = vec![(INFO.name, 1.0, layerwise(&weights, &losses)?)];
        if learned {
            let negative_entropy = weights.mul(&weights.log()?)?.sum_all()?;
            terms.push(("entropy", self.entropy, negative_entropy));
        }
        let mut loss = Loss::weighted(terms)?;
        for (l, name) in self.taps.iter().enumerate() {
            loss.terms.push((name.clone(), weights.detach().narrow(0, l, 1)?.sum_all()?));
        }
        Ok(loss)
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.regressors.visit(visitor);
        if let Weights::Learned(raw) = &self.weights {
            visitor.parameter("raw_weights", raw);
        }
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "layerwise_weighted",
    run: |case| {
        case.require("weights", "softmax(raw_weights)")?;
        let loss = |l: usize| {
            let student = case.tensor(&format!("student{l}"))?;
            student.mse_loss(&case.tensor(&format!("teacher{l}"))?.detach())
        };
        let losses = (0..case.count("layers")?).map(loss).collect::<Result<Vec<_>>>()?;
        Ok(vec![("loss", layerwise(&case.tensor("raw_weights")?.softmax(1.0)?, &losses)?)])
    },
    sample: Some(|random| {
        let case = Case::new().input("raw_weights", sample_normal(random, &[2]));
        let case = case.attr("layers", 2).attr("weights", "softmax(raw_weights)");
        let mut map = |c: usize| sample_normal(random, &[2, c, 2, 2]);
        let case = case.input("student0", map(2)).input("teacher0", map(2));
        case.input("student1", map(3)).input("teacher1", map(3)).attr("detached", vec!["teacher0", "teacher1"])
    }),
}];
