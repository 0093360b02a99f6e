//! Yim et al., "A Gift from Knowledge Distillation", 2017: the flow of the solution procedure between two layers is the matrix of inner
//! products of their channels, `G_ij = mean over pixels of low_i · high_j` (eq. 1), the larger map pooled to the smaller's size;
//! `L = mean (G_s − G_t)²` (eq. 2, averaged).
//!
//! In the paper it comes first and alone, and the labels afterwards (section 3.4): `stages = two`.

use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::same_size;
use super::method::TwoStages;
use super::pairwise::sum_over;
use super::taps::TapPair;
use super::{Loss, Method, Stage, StepInputs};
use crate::error::{Error, Result};
use crate::ops::case::sample_normal;
use crate::ops::{Case, OpSpec};
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "fsp",
    paper: "Yim et al. 2017",
    family: Family::Feature,
    about: "how one layer flows into the next: products of their channels",
    formula: "mean (G_s − G_t)², G_ij = mean over pixels of low_i · high_j",
    needs: Needs::features(Taps::Stages).of_equal_widths(),
    weight: 50.0,
    hard_weight: 1.0,
    cost: 1.5,
    when: "When the student is a shallower copy of the teacher with the same widths.",
    traps: &[
        "The matrices must have one size: teacher and student need equal channels in the compared layers.",
        "The paper is `--method fsp --set stages=two`: this loss alone first, then the labels alone.",
    ],
    hyperparameters: &[
        Hyperparameter::choice("stages", &["joint", "two"], "beside the rest of the loss, or first and alone"),
        Hyperparameter::count("first-epochs", [1, 100000], 5, "epochs of the first of two stages; at most half of all"),
    ],
    build: |setup| {
        for pair in &setup.pairs {
            pair.require_maps(INFO.name)?;
            let [student, teacher] = pair.channels();
            if student != teacher {
                let reason = format!(
                    "needs equal channels, but {} has {student} and the teacher's {} has {teacher}; choose layers of equal width \
                     with student-taps and teacher-taps, a teacher with the student's widths (for student_net: --teacher-model \
                     cnn-16-32-64-fc128), or a method with an adapter: fitnet, vid, reviewkd",
                    pair.student, pair.teacher
                );
                return Err(Error::argument(INFO.name, reason));
            }
        }
        match setup.pairs.len() {
            0 | 1 => {
                let reason = "needs two or more layers; name them with student-taps and teacher-taps";
                Err(Error::argument(INFO.name, reason))
            }
            _ => {
                let stages = TwoStages::new(setup.settings, "first-epochs");
                Ok(Box::new(Fsp { pairs: setup.pairs.clone(), stages }))
            }
        }
    },
    specs: SPECS,
};

/// The flow between two layers, `[n, c_low, c_high]`.
///
/// # Errors
/// Not feature maps, or the batches differ.
pub fn flow(low: &Tensor, high: &Tensor) -> Result<Tensor> {
    let (low, high) = same_size(low, high)?;
    let (low, high) = (low.flatten(2)?, high.flatten(2)?);
    let pixels = low.shape()[2].max(1) as f64;
    low.matmul_transposed(&high)?.affine(1.0 / pixels, 0.0)
}

/// The mean squared difference of two flows.
///
/// # Errors
/// The networks' channels differ.
pub fn flow_difference(student: [&Tensor; 2], teacher: [&Tensor; 2]) -> Result<Tensor> {
    flow(student[0], student[1])?.mse_loss(&flow(&teacher[0].detach(), &teacher[1].detach())?)
}

struct Fsp {
    pairs: Vec<TapPair>,
    stages: TwoStages,
}

impl Method for Fsp {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let sum = sum_over(INFO.name, self.pairs.windows(2), |layers| {
            let ((s_low, t_low), (s_high, t_high)) = (inputs.features(&layers[0])?, inputs.features(&layers[1])?);
            flow_difference([s_low, s_high], [t_low, t_high])
        })?;
        Ok(Loss::single(INFO.name, sum))
    }

    fn stage(&self, epoch: usize, epochs: usize) -> Stage {
        self.stages.stage(epoch, epochs)
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "fsp",
    run: |case| {
        let [s_low, s_high, t_low, t_high] =
            ["student_low", "student_high", "teacher_low", "teacher_high"].map(|name| case.tensor(name));
        Ok(vec![("loss", flow_difference([&s_low?, &s_high?], [&t_low?, &t_high?])?)])
    },
    sample: Some(|random| {
        Case::new()
            .input("student_low", sample_normal(random, &[2, 2, 4, 4]))
            .input("student_high", sample_normal(random, &[2, 3, 2, 2]))
            .input("teacher_low", sample_normal(random, &[2, 2, 4, 4]))
            .input("teacher_high", sample_normal(random, &[2, 3, 2, 2]))
            .attr("detached", vec!["teacher_low", "teacher_high"])
    }),
}];
