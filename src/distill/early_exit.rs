//! Zhang et al., "Be Your Own Teacher", 2019: classifiers at shallower stages of the student learn from the labels, from the deepest
//! classifier's answers, and from the deepest features (eqs. 3–5), which trains the shallow stages better:
//! `L = Σ_i (1 − α) · CE(z_i, y) + α · T² · KL(softmax(z/T) ‖ softmax(z_i/T)) + λ · mean (F_i − F)²`, beside the deepest classifier's own
//! cross-entropy. The deepest answers and features are constants to the others. The shallow classifiers are thrown away at deployment.
//!
//! A shallow classifier is a bottleneck from its stage to the shape of the deepest features, whose output F_i is compared with them, and the
//! layers that the student itself has from there on.

use super::branch::Branch;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps, NON_NEGATIVE};
use super::math::soft_targets;
use super::method::plus;
use super::taps::TapPair;
use super::{Loss, Method, Scheduled, Setup, StepInputs};
use crate::error::{Error, Result};
use crate::nn::Visitor;
use crate::ops::case::{sample_extent, sample_labels, sample_normal};
use crate::ops::{Case, OpSpec};
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "early-exit",
    paper: "Zhang et al. 2019",
    family: Family::Own,
    about: "be your own teacher: deep layers teach classifiers at shallow ones",
    formula: "Σ_i (1 − α) · CE(z_i, y) + α · T² · KL(p^T ‖ p_i^T) + λ · mean (F_i − F)²",
    needs: Needs { labels: true, ..Needs::features(Taps::OwnStages) },
    weight: 1.0,
    hard_weight: 1.0,
    cost: 2.8,
    when: "Without a teacher, for networks of several stages.",
    traps: &[
        "The paper sums the squared differences of features; here they are averaged, so that λ does not depend on their number.",
        "A step costs a head for each stage; the student that is saved costs nothing more.",
    ],
    hyperparameters: &[
        Hyperparameter::between("alpha", [0.0, 1.0], 0.3, "α, the deepest classifier's share beside the labels"),
        Hyperparameter::between("lambda", NON_NEGATIVE, 0.03, "λ, weight of the features"),
        Hyperparameter::temperature(3.0, "T of both distributions"),
    ],
    build: |setup| Ok(Box::new(EarlyExit::new(setup)?)),
    specs: SPECS,
};

/// Cross-entropy with the labels, soft targets and squared feature distance of one shallow classifier. The deepest logits and features
/// get no gradient.
///
/// # Errors
/// Shapes that do not fit.
pub fn exit_terms(
    [logits, features]: [&Tensor; 2],
    [deepest_logits, deepest_features]: [&Tensor; 2],
    labels: &Tensor,
    temperature: f64,
) -> Result<[Tensor; 3]> {
    Ok([
        logits.cross_entropy(labels, 0.0)?,
        soft_targets(logits, &deepest_logits.detach(), temperature)?,
        features.mse_loss(&deepest_features.detach())?,
    ])
}

struct EarlyExit {
    exits: Vec<(TapPair, Branch)>,
    alpha: f64,
    lambda: f64,
    temperature: Scheduled,
}

impl EarlyExit {
    fn new(setup: &mut Setup) -> Result<EarlyExit> {
        let (settings, init) = (setup.settings, &mut setup.init);
        let mut exits = Vec::new();
        for pair in &setup.pairs {
            let deepest = setup.student.iter().skip_while(|tap| tap.name != pair.teacher);
            let through: Vec<&[usize]> =
                deepest.filter(|tap| tap.name != "logits").map(|tap| tap.shape.as_slice()).collect();
            exits.push((pair.clone(), Branch::new(init, &pair.student_shape, &through, setup.classes)?));
        }
        Ok(EarlyExit {
            exits,
            alpha: settings.number("alpha"),
            lambda: settings.number("lambda"),
            temperature: settings.scheduled("temperature"),
        })
    }
}

impl Method for EarlyExit {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let mut sums: [Option<Tensor>; 3] = [None, None, None];
        for (pair, branch) in &self.exits {
            let exit = branch.apply(inputs.student_feature(&pair.student)?)?;
            let deepest = [inputs.student_logits, inputs.student_feature(&pair.teacher)?];
            let terms = exit_terms([&exit.logits, &exit.first], deepest, inputs.labels, inputs.now(self.temperature))?;
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum = Some(plus(sum.take(), &term)?);
            }
        }
        let [Some(labels), Some(soft), Some(features)] = sums else {
            return Err(Error::argument(INFO.name, "has no shallow classifier; name stages with student-taps"));
        };
        Loss::weighted(vec![
            ("labels", 1.0 - self.alpha, labels),
            ("soft", self.alpha, soft),
            ("features", self.lambda, features),
        ])
    }

    fn visit(&self, visitor: &mut Visitor) {
        for (pair, branch) in &self.exits {
            visitor.group(&pair.student, |visitor| branch.visit(visitor));
        }
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "early_exit",
    run: |case| {
        let (logits, features) = (case.tensor("logits")?, case.tensor("features")?);
        let (deepest_logits, deepest_features) = (case.tensor("deepest_logits")?, case.tensor("deepest_features")?);
        let deepest = [&deepest_logits, &deepest_features];
        let temperature = case.number("temperature")?;
        let [labels, soft, features] = exit_terms([&logits, &features], deepest, &case.tensor("labels")?, temperature)?;
        let terms = vec![("labels", 0.7, labels), ("soft", 0.3, soft), ("features", 0.5, features)];
        Ok(vec![("loss", Loss::weighted(terms)?.total)])
    },
    sample: Some(|random| {
        let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 2, 6));
        Case::new()
            .input("logits", sample_normal(random, &[n, classes]))
            .input("features", sample_normal(random, &[n, 2, 2, 2]))
            .input("deepest_logits", sample_normal(random, &[n, classes]))
            .input("deepest_features", sample_normal(random, &[n, 2, 2, 2]))
            .input("labels", sample_labels(random, &[n], classes))
            .attr("temperature", 3.0)
            .attr("detached", vec!["deepest_logits", "deepest_features"])
    }),
}];
