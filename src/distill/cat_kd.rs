//! Guo et al., "Class Attention Transfer Based Knowledge Distillation" (CAT-KD), 2023: the student learns where the teacher sees each
//! class. Class activation maps are averaged over 2×2 bins, each map is given length 1, and `L = mean (CAM_s − CAM_t)²` (eqs. 4 and 5).
//!
//! The paper turns the classifier after global average pooling into a 1×1 convolution. The networks here have other classifiers, so
//! each gets such a convolution beside it, which learns the labels from its own network's last map by global average pooling; no gradient
//! of these two losses reaches a network.

use super::cases::maps;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::{pooled_to, unit_vectors};
use super::taps::TapPair;
use super::{Loss, Method, StepInputs};
use crate::error::Result;
use crate::nn::{Context, Conv2d, Module, Visitor};
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "cat-kd",
    paper: "Guo et al. 2023",
    family: Family::Feature,
    about: "where each class is seen: class activation maps",
    formula: "mean (ĉ_s − ĉ_t)², ĉ the class activation maps averaged over 2×2 bins, length 1",
    needs: Needs { labels: true, ..Needs::features(Taps::LastStage) },
    weight: 400.0,
    hard_weight: 1.0,
    cost: 1.4,
    when: "When the distilled attention is to be looked at: class maps can be shown.",
    traps: &["The maps come from classifiers beside the networks' own, which have to learn first."],
    hyperparameters: &[Hyperparameter::count("bins", [1, 64], 2, "bins in each direction that maps are averaged over")],
    build: |setup| {
        let pair = setup.pairs.remove(0);
        pair.require_maps(INFO.name)?;
        let [student, teacher] = pair.channels();
        Ok(Box::new(CatKd {
            student: Conv2d::new(&mut setup.init, student, setup.classes, 1)?,
            teacher: Conv2d::new(&mut setup.init, teacher, setup.classes, 1)?,
            bins: setup.settings.count("bins"),
            pair,
        }))
    },
    specs: SPECS,
};

/// The mean squared difference of both networks' class activation maps `[n, classes, h, w]`.
///
/// # Errors
/// Not maps, or another number of classes.
pub fn class_attention(student: &Tensor, teacher: &Tensor, bins: usize) -> Result<Tensor> {
    let attention = |maps: &Tensor| unit_vectors(&pooled_to(maps, [bins, bins])?.flatten(2)?);
    attention(student)?.mse_loss(&attention(&teacher.detach())?)
}

struct CatKd {
    pair: TapPair,
    student: Conv2d,
    teacher: Conv2d,
    bins: usize,
}

impl Method for CatKd {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let (student, teacher) = inputs.features(&self.pair)?;
        let cx = &mut Context::eval();
        let teacher_maps = self.teacher.forward(&teacher.detach(), cx)?;
        let attention = class_attention(&self.student.forward(student, cx)?, &teacher_maps, self.bins)?;
        let learned = |maps: &Tensor| maps.mean(&[2, 3], false)?.cross_entropy(inputs.labels, 0.0);
        let student_classifier = learned(&self.student.forward(&student.detach(), cx)?)?;
        Loss::weighted(vec![
            (INFO.name, 1.0, attention),
            ("student-classifier", 1.0, student_classifier),
            ("teacher-classifier", 1.0, learned(&teacher_maps)?),
        ])
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.child("student", &self.student);
        visitor.child("teacher", &self.teacher);
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "class_attention",
    run: |case| Ok(vec![("loss", class_attention(&case.tensor("student")?, &case.tensor("teacher")?, 2)?)]),
    sample: Some(|random| maps(random, [3, 3], [4, 4])),
}];
