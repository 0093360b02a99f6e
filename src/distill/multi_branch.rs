//! Lan, Zhu & Gong, "Knowledge Distillation by On-the-Fly Native Ensemble" (ONE), 2018: branches share the student's lower layers; a gate
//! mixes their logits into a stronger teacher, which teaches all of them (eqs. 4–8):
//! `L = Σ_i CE(z_i, y) + CE(z_e, y) + T² · Σ_i KL(softmax(z_e/T) ‖ softmax(z_i/T))`, `z_e = Σ_i g_i · z_i`, `g = softmax(relu(bn(W · x)))`
//! of the trunk's features x. One branch is the student itself, whose cross-entropy is that with the labels; the others and the gate are
//! thrown away at deployment.

use super::branch::Branch;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::{pooled_to, rows, soft_targets};
use super::pairwise::sum_over;
use super::temporal_ensemble::ramp;
use super::{Loss, Method, Scheduled, Setup, StepInputs};
use crate::error::Result;
use crate::nn::{Parameter, Visitor};
use crate::ops::case::{sample_extent, sample_labels, sample_normal};
use crate::ops::{Case, OpSpec};
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "multi-branch",
    paper: "Lan, Zhu & Gong 2018",
    family: Family::Own,
    about: "ONE: branches on one trunk form an ensemble that teaches each of them",
    formula: "Σ CE(z_i, y) + CE(z_e, y) + w(t) · T² · Σ KL(softmax(z_e/T) ‖ softmax(z_i/T)), z_e = Σ g_i · z_i",
    needs: Needs { labels: true, ..Needs::features(Taps::OwnTrunk) },
    weight: 1.0,
    hard_weight: 1.0,
    cost: 4.6,
    when: "Without a teacher, where training may cost more than the student later does.",
    traps: &[
        "The branch point matters: student-taps names the last shared feature map.",
        "w(t) rises over the first part of the training, as in the authors' code; ramp-up=0 is the paper's formula.",
    ],
    hyperparameters: &[
        Hyperparameter::count("branches", [1, 16], 2, "auxiliary branches beside the student"),
        Hyperparameter::temperature(3.0, "T of both distributions"),
        Hyperparameter::between(
            "ramp-up",
            [0.0, 1.0],
            0.27,
            "share of the epochs over which w(t) = exp(−5 (1 − t)²) rises",
        ),
    ],
    build,
    specs: SPECS,
};

fn build(setup: &mut Setup) -> Result<Box<dyn Method>> {
    let settings = setup.settings;
    let pair = setup.pairs.remove(0);
    let channels = pair.channels()[0];
    let init = &mut setup.init;
    let branches: Vec<Branch> = (0..settings.count("branches"))
        .map(|_| Branch::like_the_student(init, setup.student, &pair.student, setup.classes))
        .collect::<Result<_>>()?;
    let gates = branches.len() + 1;
    Ok(Box::new(MultiBranch {
        trunk: pair.student,
        gate: Gate {
            weight: init.kaiming_uniform([gates, channels], channels)?,
            scale: init.constant([gates], 1.0)?,
            shift: init.constant([gates], 0.0)?,
        },
        branches,
        temperature: settings.scheduled("temperature"),
        ramp_up: settings.number("ramp-up"),
    }))
}

/// `Σ_i gate[:, i] · branches[i]` for logits `[n, classes]` and a gate `[n, branches]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn gated_ensemble(branches: &[Tensor], gate: &Tensor) -> Result<Tensor> {
    sum_over(INFO.name, branches.iter().enumerate(), |(i, logits)| logits.mul(&gate.narrow(1, i, 1)?))
}

/// How much each branch counts for each sample.
struct Gate {
    weight: Parameter,
    scale: Parameter,
    shift: Parameter,
}

impl Gate {
    /// `[n, branches]`, summing to 1 for each sample. Normalised by the batch, as it is used in training only; a batch of one sample has
    /// nothing to normalise by.
    fn apply(&self, trunk: &Tensor) -> Result<Tensor> {
        let mean = rows(&pooled_to(trunk, [1, 1])?)?;
        let scores = mean.linear(&self.weight.get(), None)?;
        let [n, gates] = scores.shape()[..] else { unreachable!("a linear layer gives a matrix") };
        let (scale, shift) = (self.scale.get(), self.shift.get());
        let normal = match n {
            1 => scores.mul(&scale)?.add(&shift)?,
            _ => scores.reshape([n, gates, 1, 1])?.batch_norm_train(&scale, &shift, 1e-5)?.y.reshape([n, gates])?,
        };
        normal.relu()?.softmax(1.0)
    }
}

struct MultiBranch {
    trunk: String,
    gate: Gate,
    branches: Vec<Branch>,
    temperature: Scheduled,
    ramp_up: f64,
}

impl Method for MultiBranch {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let trunk = inputs.student_feature(&self.trunk)?;
        let mut logits = vec![inputs.student_logits.clone()];
        for branch in &self.branches {
            logits.push(branch.apply(trunk)?.logits);
        }
        let ensemble = gated_ensemble(&logits, &self.gate.apply(trunk)?)?;
        let labels = sum_over(INFO.name, &logits[1..], |branch| branch.cross_entropy(inputs.labels, 0.0))?;
        let (teacher, temperature) = (ensemble.detach(), inputs.now(self.temperature));
        let soft = sum_over(INFO.name, &logits, |branch| soft_targets(branch, &teacher, temperature))?;
        Loss::weighted(vec![
            ("branches", 1.0, labels),
            ("ensemble", 1.0, ensemble.cross_entropy(inputs.labels, 0.0)?),
            ("soft", ramp(inputs.epoch, inputs.epochs, self.ramp_up), soft),
        ])
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.group("gate", |visitor| {
            visitor.parameter("weight", &self.gate.weight);
            visitor.parameter("scale", &self.gate.scale);
            visitor.parameter("shift", &self.gate.shift);
        });
        for (i, branch) in self.branches.iter().enumerate() {
            visitor.group(&format!("branch{i}"), |visitor| branch.visit(visitor));
        }
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "multi_branch_ensemble",
    run: |case| {
        let gate = case.tensor("scores")?.softmax(1.0)?;
        let ensemble = gated_ensemble(&[case.tensor("logits0")?, case.tensor("logits1")?], &gate)?;
        Ok(vec![("loss", ensemble.cross_entropy(&case.tensor("labels")?, 0.0)?)])
    },
    sample: Some(|random| {
        let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 2, 6));
        Case::new()
            .input("logits0", sample_normal(random, &[n, classes]))
            .input("logits1", sample_normal(random, &[n, classes]))
            .input("scores", sample_normal(random, &[n, 2]))
            .input("labels", sample_labels(random, &[n], classes))
    }),
}];
