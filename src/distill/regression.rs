//! Regression of what the teacher regresses. Features: `L = mean over samples of ‖W f_s − f_t‖²`. Bounded (Chen et al., "Learning Efficient
//! Object Detection Models with Knowledge Distillation", 2017, eq. 7): the student is punished with its own error until it is better
//! than the teacher by a margin, `L = mean of ‖s − y‖² where ‖s − y‖² + m > ‖t − y‖², else 0`; for a classifier s and t are
//! probabilities and y is the label as a vector.

use super::adapter::Regressors;
use super::cases::equal_vectors;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps, NON_NEGATIVE};
use super::math::{one_hot, rows};
use super::{Loss, Method, StepInputs};
use crate::autograd::no_grad;
use crate::error::Result;
use crate::nn::Visitor;
use crate::ops::case::sample_normal;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "regression",
    paper: "Chen et al. 2017",
    family: Family::Response,
    about: "regress the teacher's features, or do as well as the teacher on the target",
    formula: "mean ‖W f_s − f_t‖²; bounded: mean ‖s − y‖² where ‖s − y‖² + m > ‖t − y‖²",
    needs: Needs { taps: Taps::Penultimate, ..Needs::LOGITS_AND_LABELS },
    weight: 0.01,
    hard_weight: 1.0,
    cost: 1.3,
    when: "For regression heads, where a teacher can be wrong without bound: the bounded form stops at its error.",
    traps: &["The plain form follows a teacher even where it is worse than the student."],
    hyperparameters: &[
        Hyperparameter::choice("form", &["features", "bounded"], "the teacher's features, or its error as a bound"),
        Hyperparameter::between("margin", NON_NEGATIVE, 0.0, "m, how much better than the teacher is good enough"),
    ],
    build: |setup| {
        let bounded = setup.settings.is("form", "bounded");
        let pairs = if bounded { Vec::new() } else { setup.pairs.clone() };
        let regressors = Regressors::new(&mut setup.init, pairs)?;
        let (classes, margin) = (setup.classes, setup.settings.number("margin"));
        Ok(Box::new(Regression { regressors, bounded, classes, margin }))
    },
    specs: SPECS,
};

/// `mean over samples of ‖s − t‖²`.
///
/// # Errors
/// The shapes differ.
pub fn feature_regression(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let (student, teacher) = (rows(student)?, rows(teacher)?);
    let width = student.shape()[1] as f64;
    student.mse_loss(&teacher.detach())?.affine(width, 0.0)
}

/// The student's squared error, for the samples on which it is not better than the teacher's by `margin`; mean over samples.
///
/// # Errors
/// The shapes differ.
pub fn bounded_regression(student: &Tensor, teacher: &Tensor, target: &Tensor, margin: f64) -> Result<Tensor> {
    let error = |x: &Tensor| x.sub(&target.detach())?.square()?.sum(&[1], false);
    let own = error(student)?;
    let punished = no_grad(|| own.detach().sub(&error(&teacher.detach())?)?.affine(1.0, margin)?.is_positive())?;
    own.mul(&punished)?.mean_all()
}

struct Regression {
    regressors: Regressors,
    bounded: bool,
    classes: usize,
    margin: f64,
}

impl Method for Regression {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let loss = match self.bounded {
            true => {
                let (student, teacher) = (inputs.student_logits.softmax(1.0)?, inputs.teacher_logits()?.softmax(1.0)?);
                let target = one_hot(inputs.labels, self.classes, &student)?;
                bounded_regression(&student, &teacher, &target, self.margin)?
            }
            false => {
                self.regressors.sum(INFO.name, inputs, |mapped, teacher, _| feature_regression(mapped, teacher))?
            }
        };
        Ok(Loss::single(INFO.name, loss))
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.regressors.visit(visitor);
    }
}

const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "feature_regression_mse",
        run: |case| {
            case.require("reduction", "mean over samples of the squared L2 norm")?;
            Ok(vec![("loss", feature_regression(&case.tensor("student")?, &case.tensor("teacher")?)?)])
        },
        sample: Some(|random| equal_vectors(random).attr("reduction", "mean over samples of the squared L2 norm")),
    },
    OpSpec {
        name: "bounded_regression",
        run: |case| {
            let (student, teacher, target) = (case.tensor("student")?, case.tensor("teacher")?, case.tensor("target")?);
            Ok(vec![("loss", bounded_regression(&student, &teacher, &target, case.number("margin")?)?)])
        },
        sample: Some(|random| {
            let case = equal_vectors(random);
            let shape = *case.inputs()["student"].shape();
            let case = case.input("target", sample_normal(random, &shape)).attr("margin", 0.1);
            case.attr("detached", vec!["teacher", "target"])
        }),
    },
];
