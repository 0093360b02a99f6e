//! Ahn et al., "Variational Information Distillation for Knowledge Transfer", 2019: maximise a lower bound of the mutual information of
//! features, with a Gaussian of trained mean and variance for the teacher's given the student's (eq. 5):
//! `L = mean ½ [(μ(f_s) − f_t)² / σ² + log σ²]`, μ three 1×1 convolutions with ReLU between, `σ_c² = softplus(α_c) + ε` for each channel.

use super::cases::maps;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::same_size;
use super::pairwise::sum_over;
use super::taps::TapPair;
use super::{Loss, Method, StepInputs};
use crate::error::Result;
use crate::nn::{Parameter, Visitor};
use crate::ops::case::sample_normal;
use crate::ops::{Conv2dOptions, OpSpec};
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "vid",
    paper: "Ahn et al. 2019",
    family: Family::Feature,
    about: "predict the teacher's features, and how sure of each channel one can be",
    formula: "mean ½ [(μ(f_s) − f_t)² / σ² + log σ²], μ three 1×1 convolutions, σ² = softplus(α_c) + 1e-5",
    needs: Needs::features(Taps::Stages),
    weight: 1.0,
    hard_weight: 1.0,
    cost: 9.0,
    when: "In place of fitnet: channels that cannot be predicted stop disturbing.",
    traps: &["The loss may be negative: it is a log-likelihood."],
    hyperparameters: &[Hyperparameter::above("initial-variance", 0.0, 5.0, "σ² at the start")],
    build: |setup| {
        let variance = setup.settings.number("initial-variance");
        // softplus(α) = σ² − ε  ⇒  α = log(e^(σ² − ε) − 1), written so that no exponential is too large.
        let softplus = (variance - EPS).max(EPS);
        let log_scale = softplus + (-(-softplus).exp()).ln_1p();
        let mut layers = Vec::new();
        for pair in setup.pairs.clone() {
            pair.require_maps(INFO.name)?;
            let [from, to] = pair.channels();
            let weights = [
                setup.init.kaiming_uniform([to, from, 1, 1], from)?,
                setup.init.kaiming_uniform([to, to, 1, 1], to)?,
                setup.init.kaiming_uniform([to, to, 1, 1], to)?,
            ];
            layers.push(Layer { weights, log_scale: setup.init.constant([to], log_scale)?, pair });
        }
        Ok(Box::new(Vid { layers }))
    },
    specs: SPECS,
};

/// Keeps the variance above 0; the reference implementation's.
const EPS: f64 = 1e-5;

/// The negative log-likelihood, without its constant, of the teacher's maps given the student's.
///
/// # Errors
/// Shapes that do not fit.
pub fn variational(
    student: &Tensor,
    teacher: &Tensor,
    weights: [&Tensor; 3],
    log_scale: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let [w1, w2, w3] = weights;
    let options = Conv2dOptions::default();
    let hidden = student.conv2d_relu(w1, None, options)?.conv2d_relu(w2, None, options)?;
    let (mean, teacher) = same_size(&hidden.conv2d(w3, None, options)?, &teacher.detach())?;
    let variance = softplus(log_scale)?.affine(1.0, eps)?.reshape([1, log_scale.numel(), 1, 1])?;
    let error = mean.sub(&teacher)?.square()?.div(&variance)?.mean_all()?;
    error.add(&variance.log()?.mean_all()?)?.affine(0.5, 0.0)
}

/// `log(1 + e^x) = max(x, 0) + log(1 + e^−|x|)`, which overflows nowhere.
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()?.add(&x.abs()?.affine(-1.0, 0.0)?.exp()?.affine(1.0, 1.0)?.log()?)
}

struct Layer {
    pair: TapPair,
    weights: [Parameter; 3],
    log_scale: Parameter,
}

struct Vid {
    layers: Vec<Layer>,
}

impl Method for Vid {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let sum = sum_over(INFO.name, &self.layers, |layer| {
            let (student, teacher) = inputs.features(&layer.pair)?;
            let [w1, w2, w3] = [0, 1, 2].map(|i: usize| layer.weights[i].get());
            variational(student, teacher, [&w1, &w2, &w3], &layer.log_scale.get(), EPS)
        })?;
        Ok(Loss::single(INFO.name, sum))
    }

    fn visit(&self, visitor: &mut Visitor) {
        for (i, layer) in self.layers.iter().enumerate() {
            visitor.group(&format!("layer{i}"), |visitor| {
                for (k, weight) in layer.weights.iter().enumerate() {
                    visitor.parameter(&format!("conv{}.weight", k + 1), weight);
                }
                visitor.parameter("log_scale", &layer.log_scale);
            });
        }
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "vid",
    run: |case| {
        let [w1, w2, w3] = ["w1", "w2", "w3"].map(|name| case.tensor(name));
        let (student, teacher, scale) = (case.tensor("student")?, case.tensor("teacher")?, case.tensor("log_scale")?);
        Ok(vec![("loss", variational(&student, &teacher, [&w1?, &w2?, &w3?], &scale, case.number("eps")?)?)])
    },
    sample: Some(|random| {
        maps(random, [2, 3], [2, 2])
            .input("w1", sample_normal(random, &[3, 2, 1, 1]))
            .input("w2", sample_normal(random, &[3, 3, 1, 1]))
            .input("w3", sample_normal(random, &[3, 3, 1, 1]))
            .input("log_scale", sample_normal(random, &[3]))
            .attr("eps", EPS)
    }),
}];
