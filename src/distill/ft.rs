//! Kim et al., "Paraphrasing Complex Network: Network Compression via Factor Transfer", 2018: a paraphraser compresses the teacher's last
//! map into factors, a translator makes the student's; `L = mean |F̂_s − F̂_t|` of the factors' attention `mean_c F²`, flattened and of
//! length 1 (eq. 3 with p = 1, in the form of the reference implementation). The paraphraser learns to reproduce the teacher's map from
//! its factors (eq. 2).
//!
//! In the paper the paraphraser learns first, for 30 epochs, and stays as it is from then on: `paraphraser-epochs = 30`. Without, it learns while
//! the student does. It learns from the teacher's maps alone in both: no gradient of the student's loss reaches it.

use super::cases::maps;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::{same_size, unit_vectors};
use super::method::first_stage;
use super::taps::TapPair;
use super::{Loss, Method, Stage, StepInputs};
use crate::error::Result;
use crate::nn::{Context, Conv2d, ConvThen, Module, Visitor};
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "ft",
    paper: "Kim et al. 2018",
    family: Family::Feature,
    about: "factors that a paraphraser extracts from the teacher's last map",
    formula:
        "mean |F̂_s − F̂_t|, F̂ = mean_c F², flattened, length 1; and the paraphraser's own mean (P⁻¹(P(f_t)) − f_t)²",
    needs: Needs::features(Taps::LastStage),
    weight: 200.0,
    hard_weight: 1.0,
    cost: 6.0,
    when: "When the teacher's map is much wider than the student can express.",
    traps: &[
        "The paper is `--set ft.paraphraser-epochs=30` with 60 --epochs or more: the paraphraser alone first.",
        "Schedules, pruning and a curriculum run over both stages.",
    ],
    hyperparameters: &[
        Hyperparameter::between("rate", [0.01, 1.0], 0.5, "factors for each channel of the teacher"),
        Hyperparameter::count(
            "paraphraser-epochs",
            [0, 100000],
            0,
            "epochs in which the paraphraser learns, before all else; at most half of all; 0: beside the student",
        ),
    ],
    build: |setup| {
        let pair = setup.pairs.remove(0);
        pair.require_maps(INFO.name)?;
        let [from, to] = pair.channels();
        let factors = ((to as f64 * setup.settings.number("rate")).round() as usize).max(1);
        let init = &mut setup.init;
        Ok(Box::new(FactorTransfer {
            paraphraser: Conv2d::same(init, to, factors, 3, ConvThen::Relu)?,
            inverse: Conv2d::same(init, factors, to, 3, ConvThen::Nothing)?,
            translator: Conv2d::same(init, from, factors, 3, ConvThen::Relu)?,
            first: setup.settings.count("paraphraser-epochs"),
            pair,
        }))
    },
    specs: SPECS,
};

/// The mean absolute difference of the attention of both networks' factors.
///
/// # Errors
/// Not feature maps, or the batches differ.
pub fn factor_difference(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (student, teacher) = same_size(student, &teacher.detach())?;
    let attention = |x: &Tensor| unit_vectors(&x.attention_map(2.0)?.affine(1.0 / x.shape()[1].max(1) as f64, 0.0)?);
    attention(&student)?.sub(&attention(&teacher)?)?.abs()?.mean_all()
}

struct FactorTransfer {
    pair: TapPair,
    paraphraser: Conv2d,
    inverse: Conv2d,
    translator: Conv2d,
    /// Epochs in which the paraphraser learns alone; 0: it learns beside the student.
    first: usize,
}

impl Method for FactorTransfer {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let (student, teacher) = inputs.features(&self.pair)?;
        let (cx, teacher) = (&mut Context::eval(), teacher.detach());
        let factors = self.paraphraser.forward(&teacher, cx)?;
        let (stage, first) = (self.stage(inputs.epoch, inputs.epochs), first_stage(self.first, inputs.epochs));
        let mut terms = Vec::new();
        if stage == Stage::Joint {
            let factor = factor_difference(&self.translator.forward(student, cx)?, &factors)?;
            terms.push((INFO.name, 1.0, factor));
        }
        if stage == Stage::Preparing || first == 0 {
            let reconstruction = self.inverse.forward(&factors, cx)?.mse_loss(&teacher)?;
            terms.push(("reconstruction", 1.0, reconstruction));
        }
        Loss::weighted(terms)
    }

    fn stage(&self, epoch: usize, epochs: usize) -> Stage {
        match epoch <= first_stage(self.first, epochs) {
            true => Stage::Preparing,
            false => Stage::Joint,
        }
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.child("paraphraser", &self.paraphraser);
        visitor.child("inverse", &self.inverse);
        visitor.child("translator", &self.translator);
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "factor_transfer",
    run: |case| Ok(vec![("loss", factor_difference(&case.tensor("student")?, &case.tensor("teacher")?)?)]),
    sample: Some(|random| maps(random, [2, 3], [3, 3])),
}];
