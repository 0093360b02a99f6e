//! Contrastive distillation within the batch (the notebook's form of CRD; van den Oord et al. 2018, eq. 4): of all the teacher's vectors
//! in the batch, the student's vector must be nearest to that of its own sample. `L = CE(ŝ t̂ᵀ / τ, diagonal)` of vectors of length 1.

use super::cases::equal_vectors;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::{diagonal_labels, rows, unit_vectors};
use super::taps::TapPair;
use super::{Loss, Method, StepInputs};
use crate::error::Result;
use crate::nn::{Context, Linear, Module, Visitor};
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "crd-infonce",
    paper: "after Tian et al. 2020",
    family: Family::Relation,
    about: "contrastive distillation with the batch's other samples as negatives",
    formula: "CE(ŝ t̂ᵀ / τ, diagonal)",
    needs: Needs::features(Taps::Penultimate),
    weight: 0.8,
    hard_weight: 1.0,
    cost: 1.3,
    when: "In place of crd where its memory is too large, or the images are augmented or mixed.",
    traps: &["There are only as many negatives as the batch has other samples: use large batches."],
    hyperparameters: &[
        Hyperparameter::count("width", [1, 4096], 128, "numbers in a vector"),
        Hyperparameter::above("tau", 0.0, 0.1, "τ of the scores"),
    ],
    build: |setup| {
        let pair = setup.pairs.remove(0);
        let (width, [student, teacher]) = (setup.settings.count("width"), pair.widths());
        Ok(Box::new(InfoNce {
            student: Linear::new(&mut setup.init, student, width)?,
            teacher: Linear::new(&mut setup.init, teacher, width)?,
            tau: setup.settings.number("tau"),
            pair,
        }))
    },
    specs: SPECS,
};

/// Cross-entropy of the scores between all vectors of the batch, with the own sample's as the right answer.
///
/// # Errors
/// Vectors of different widths, or batches that differ.
pub fn info_nce(student: &Tensor, teacher: &Tensor, tau: f64) -> Result<Tensor> {
    let scores = unit_vectors(student)?.matmul_transposed(&unit_vectors(teacher)?)?;
    let labels = diagonal_labels(student.shape()[0], student.device())?;
    scores.affine(1.0 / tau, 0.0)?.cross_entropy(&labels, 0.0)
}

struct InfoNce {
    pair: TapPair,
    student: Linear,
    teacher: Linear,
    tau: f64,
}

impl Method for InfoNce {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let (student, teacher) = inputs.features(&self.pair)?;
        let cx = &mut Context::eval();
        let student = self.student.forward(&rows(student)?, cx)?;
        let teacher = self.teacher.forward(&rows(&teacher.detach())?, cx)?;
        Ok(Loss::single(INFO.name, info_nce(&student, &teacher, self.tau)?))
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.child("student", &self.student);
        visitor.child("teacher", &self.teacher);
    }
}

const NEGATIVES: &str = "the other teacher features of the batch";

const SPECS: &[OpSpec] = &[OpSpec {
    name: "crd_infonce",
    run: |case| {
        case.require("negatives", NEGATIVES)?;
        let (student, teacher) = (case.tensor("student")?, case.tensor("teacher")?.detach());
        Ok(vec![("loss", info_nce(&student, &teacher, case.number("tau")?)?)])
    },
    sample: Some(|random| equal_vectors(random).attr("tau", 0.1).attr("negatives", NEGATIVES)),
}];
