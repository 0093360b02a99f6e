//! Romero et al., "FitNets: Hints for Thin Deep Nets", 2015: the student's middle layer predicts the teacher's through a regressor that is
//! trained with it (eq. 3): `L = mean (pool(W_r * f_s) − f_t)²`, W_r a 1×1 convolution. First regress, then pool to one size.
//!
//! In the paper the hint comes first and alone, and the layers above it learn from the teacher's answers afterwards (section 2.3):
//! `stages = two`. Most later codes learn both jointly, and what is published of fitnet in comparisons is that form.

use super::adapter::Regressors;
use super::cases::maps;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::same_size;
use super::method::TwoStages;
use super::{Loss, Method, Stage, StepInputs};
use crate::error::Result;
use crate::nn::Visitor;
use crate::ops::case::sample_normal;
use crate::ops::{Conv2dOptions, OpSpec};
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "fitnet",
    paper: "Romero et al. 2015",
    family: Family::Feature,
    about: "a hint: predict the teacher's middle feature map",
    formula: "mean (pool(W_r * f_s) − f_t)², W_r a trained 1×1 convolution",
    needs: Needs::features(Taps::MiddleStage),
    weight: 100.0,
    hard_weight: 1.0,
    cost: 1.5,
    when: "For students that are thin and deep, whose early layers learn slowly from labels alone.",
    traps: &[
        "The paper is `--method fitnet,hinton --set fitnet.stages=two`: the hint alone first, then hinton alone.",
        "Alone it often falls below plain hinton: add --soft-weight.",
    ],
    hyperparameters: &[
        Hyperparameter::choice(
            "stages",
            &["joint", "two"],
            "hint beside the rest of the loss, or hint first and alone",
        ),
        Hyperparameter::count("hint-epochs", [1, 100000], 5, "epochs of the first of two stages; at most half of all"),
    ],
    build: |setup| {
        let stages = TwoStages::new(setup.settings, "hint-epochs");
        Ok(Box::new(FitNet { regressors: Regressors::new(&mut setup.init, setup.pairs.clone())?, stages }))
    },
    specs: SPECS,
};

/// `mean (pool(regressor * student) − teacher)²` for maps `[n, c, h, w]` and a regressor `[c_t, c_s, 1, 1]`; where the sizes differ, the
/// larger side is averaged down to the smaller.
///
/// # Errors
/// Shapes that do not fit.
pub fn hint(student: &Tensor, teacher: &Tensor, regressor: &Tensor) -> Result<Tensor> {
    let mapped = student.conv2d(regressor, None, Conv2dOptions::default())?;
    let (mapped, teacher) = same_size(&mapped, &teacher.detach())?;
    mapped.mse_loss(&teacher)
}

struct FitNet {
    regressors: Regressors,
    stages: TwoStages,
}

impl Method for FitNet {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let sum = self.regressors.sum(INFO.name, inputs, |mapped, teacher, _| mapped.mse_loss(teacher))?;
        Ok(Loss::single(INFO.name, sum))
    }

    fn stage(&self, epoch: usize, epochs: usize) -> Stage {
        self.stages.stage(epoch, epochs)
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.regressors.visit(visitor);
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "fitnet_hint",
    run: |case| {
        case.require("order", "regress, then adaptive_avg_pool2d to the teacher's size")?;
        Ok(vec![("loss", hint(&case.tensor("student")?, &case.tensor("teacher")?, &case.tensor("regressor")?)?)])
    },
    sample: Some(|random| {
        let sides = [[4, 4], [4, 2], [2, 3]][random.below(3) as usize];
        maps(random, [2, 3], sides)
            .input("regressor", sample_normal(random, &[3, 2, 1, 1]))
            .attr("order", "regress, then adaptive_avg_pool2d to the teacher's size")
    }),
}];
