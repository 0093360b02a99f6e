//! Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets" (PS-KD), 2021: the student of the last epoch is the teacher.
//! Targets are the labels, softened by what the student itself said about the sample one epoch ago (eq. 6), and more so the better it has
//! become (eq. 7): `L = CE(p_s, (1 − α_t) · y + α_t · p_{t−1})`, `α_t = α_T · t / T` in epoch t of T.
//!
//! As in the authors' code, p_{t−1} is what was said while training, and in the first epoch it is the labels.

use super::info::{Family, Hyperparameter, MethodInfo, Needs};
use super::math::one_hot;
use super::memory::Memory;
use super::{Loss, Method, Setup, StepInputs};
use crate::error::Result;
use crate::nn::Visitor;
use crate::ops::case::{sample_extent, sample_labels, sample_normal};
use crate::ops::{Case, OpSpec};
use crate::tensor::{DType, Tensor};

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "ps-kd",
    paper: "Kim et al. 2021",
    family: Family::Own,
    about: "the student of the last epoch softens the labels",
    formula: "CE(p_s, (1 − α_t) · y + α_t · p_{t−1}), α_t = α_T · t / T in epoch t of T",
    needs: Needs { labels: true, ..Needs::NOTHING },
    weight: 1.0,
    hard_weight: 0.0,
    cost: 1.0,
    when: "Without a teacher, over many epochs: it calibrates, and regularises a student that would overfit.",
    traps: &[
        "α grows with the share of the epochs that are over: the same epoch means something else in a longer training.",
        "With augmentation the remembered answer is about another version of the image; the paper does so, too.",
    ],
    hyperparameters: &[Hyperparameter::between("alpha", [0.0, 1.0], 0.8, "α_T, the past's share in the last epoch")],
    build,
    specs: SPECS,
};

fn build(setup: &mut Setup) -> Result<Box<dyn Method>> {
    setup.require_samples(INFO.name, "leave --mixup out")?;
    let labels = Tensor::from_slice(setup.labels, [setup.labels.len()], setup.device)?;
    let like = Tensor::zeros([1], DType::F32, setup.device)?;
    let past = Memory::new(&one_hot(&labels, setup.classes, &like)?);
    Ok(Box::new(PsKd { past, alpha: setup.settings.number("alpha") }))
}

/// Cross-entropy of logits `[n, classes]` with `(1 − alpha) · y + alpha · past`, averaged over samples; `past: [n, classes]` are
/// probabilities.
///
/// # Errors
/// Shapes that do not fit, or a label that is no class.
pub fn past_self(logits: &Tensor, past: &Tensor, labels: &Tensor, alpha: f64) -> Result<Tensor> {
    let samples = logits.shape()[0].max(1) as f64;
    let soft = logits.log_softmax(1.0)?.mul(&past.detach())?.sum_all()?.affine(-alpha / samples, 0.0)?;
    logits.cross_entropy(labels, 0.0)?.affine(1.0 - alpha, 0.0)?.add(&soft)
}

struct PsKd {
    past: Memory,
    alpha: f64,
}

impl Method for PsKd {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let past = self.past.recall(INFO.name, inputs)?;
        let alpha = self.alpha * (inputs.epoch as f64 / inputs.epochs.max(1) as f64).min(1.0);
        let loss = past_self(inputs.student_logits, &past, inputs.labels, alpha)?;
        self.past.remember(INFO.name, inputs, &inputs.student_logits.detach().softmax(1.0)?)?;
        Ok(Loss::single(INFO.name, loss))
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.past.visit("past", visitor);
    }

    fn after_step(&self) -> Result<()> {
        self.past.commit()
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "ps_kd",
    run: |case| {
        let (logits, past) = (case.tensor("logits")?, case.tensor("past")?);
        Ok(vec![("loss", past_self(&logits, &past, &case.tensor("labels")?, case.number("alpha")?)?)])
    },
    sample: Some(|random| {
        let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 2, 6));
        let past = sample_normal(random, &[n, classes]).softmax(1.0).expect("a valid sample");
        Case::new()
            .input("logits", sample_normal(random, &[n, classes]))
            .input("past", past)
            .input("labels", sample_labels(random, &[n], classes))
            .attr("alpha", 0.6)
            .attr("detached", vec!["past"])
    }),
}];
