//! Peng et al., "Correlation Congruence for Knowledge Distillation", 2019: the matrices of a Gaussian kernel between samples agree.
//! With features of length 1 the kernel is `exp(−γ‖f_i − f_j‖²) = e^{−2γ} e^{2γ f_i·f_j}`, whose exponential the paper expands (eq. 9):
//! `K = Σ_{p ≤ P} e^{−2γ} (2γ)^p / p! · (f̂ f̂ᵀ)^p`, elementwise powers, and `L = mean (K_s − K_t)²` (eq. 4).
//!
//! `form = released` is what the authors gave to RepDistiller, and what its table shows: features are embedded in 128 dimensions by trained
//! linear maps, `Δ_i = |e_s(i) − e_t(i)|`, and `L = mean over neighbours in the batch of ⟨Δ_i, Δ_{i+1}⟩`.

use super::cases::vectors;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::{rows, unit_vectors};
use super::pairwise::{sum_over, Pairwise};
use super::taps::TapPair;
use super::{Loss, Method, StepInputs};
use crate::error::Result;
use crate::nn::{Context, Linear, Module, Visitor};
use crate::ops::case::{sample_away_from_zero, sample_normal};
use crate::ops::{Case, OpSpec};
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "cc",
    paper: "Peng et al. 2019",
    family: Family::Relation,
    about: "a Gaussian kernel between samples, the same for both networks",
    formula: "mean (K_s − K_t)², K = Σ_{p ≤ P} e^{−2γ} (2γ)^p / p! · (f̂ f̂ᵀ)^p",
    needs: Needs::features(Taps::Penultimate),
    weight: 0.02,
    hard_weight: 1.0,
    cost: 1.3,
    when: "As a mild addition to hinton.",
    traps: &[
        "The weight 0.02 belongs to the released form: to the paper's it adds little, and larger ones (`weight=100`) are worth a try.",
        "`form=released` depends on the order of samples in the batch.",
        "Some texts call contrastive distillation (crd) by this name.",
    ],
    hyperparameters: &[
        Hyperparameter::above("gamma", 0.0, 0.4, "γ of the kernel"),
        Hyperparameter::count("order", [1, 16], 2, "P, how far the exponential is expanded"),
        Hyperparameter::choice("form", &["paper", "released"], "the paper's kernel, or the loss that was released"),
    ],
    build: |setup| {
        if setup.settings.is("form", "released") {
            let mut embedded = Vec::new();
            for pair in setup.pairs.clone() {
                let [student, teacher] = pair.widths();
                let maps = [Linear::new(&mut setup.init, student, EMBEDDED)?, Linear::new(&mut setup.init, teacher, EMBEDDED)?];
                embedded.push((pair, maps));
            }
            return Ok(Box::new(Released { embedded }));
        }
        let (gamma, order) = (setup.settings.number("gamma"), setup.settings.count("order"));
        Ok(Pairwise::boxed(INFO.name, setup, move |s, t| correlation_congruence(s, t, gamma, order)))
    },
    specs: SPECS,
};

/// The mean squared difference of both kernel matrices.
///
/// # Errors
/// The batches differ.
pub fn correlation_congruence(student: &Tensor, teacher: &Tensor, gamma: f64, order: usize) -> Result<Tensor> {
    let kernel = |x: &Tensor| {
        let cosines = unit_vectors(&rows(x)?)?.gram()?;
        let mut factor = (-2.0 * gamma).exp();
        let mut power = cosines.clone();
        let mut sum = cosines.affine(factor * 2.0 * gamma, factor)?;
        factor *= 2.0 * gamma;
        for p in 2..=order {
            factor *= 2.0 * gamma / p as f64;
            power = power.mul(&cosines)?;
            sum = sum.add(&power.affine(factor, 0.0)?)?;
        }
        Ok::<Tensor, crate::Error>(sum)
    };
    kernel(student)?.mse_loss(&kernel(&teacher.detach())?)
}

/// The mean over neighbours in the batch of `⟨|s_i − t_i|, |s_{i+1} − t_{i+1}|⟩`, of embeddings `[n, d]`; 0 for a single sample.
///
/// # Errors
/// The shapes differ.
pub fn neighbours(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let apart = student.sub(teacher)?.abs()?;
    let pairs = apart.shape()[0].saturating_sub(1);
    let products = apart.narrow(0, 0, pairs)?.mul(&apart.narrow(0, apart.shape()[0] - pairs, pairs)?)?;
    products.sum_all()?.affine(1.0 / pairs.max(1) as f64, 0.0)
}

/// Dimensions of the released form's embeddings.
const EMBEDDED: usize = 128;

/// The released form.
struct Released {
    /// Each pair with the student's and the teacher's map.
    embedded: Vec<(TapPair, [Linear; 2])>,
}

impl Method for Released {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let sum = sum_over(INFO.name, &self.embedded, |(pair, [of_student, of_teacher])| {
            let (student, teacher) = inputs.features(pair)?;
            let cx = &mut Context::eval();
            let embedded = of_student.forward(&rows(student)?, cx)?;
            neighbours(&embedded, &of_teacher.forward(&rows(&teacher.detach())?, cx)?)
        })?;
        Ok(Loss::single(INFO.name, sum))
    }

    fn visit(&self, visitor: &mut Visitor) {
        for (i, (_, [student, teacher])) in self.embedded.iter().enumerate() {
            visitor.child(&format!("student{i}"), student);
            visitor.child(&format!("teacher{i}"), teacher);
        }
    }
}

const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "correlation_congruence",
        run: |case| {
            let (gamma, order) = (case.number("gamma")?, case.count("taylor_order")?);
            let loss = correlation_congruence(&case.tensor("student")?, &case.tensor("teacher")?, gamma, order)?;
            Ok(vec![("loss", loss)])
        },
        sample: Some(|random| {
            let order = 1 + random.below(3);
            vectors(random).attr("gamma", 0.4).attr("taylor_order", order)
        }),
    },
    OpSpec {
        name: "correlation_of_neighbours",
        run: |case| Ok(vec![("loss", neighbours(&case.tensor("student")?, &case.tensor("teacher")?)?)]),
        sample: Some(|random| {
            // So far apart that no difference changes its sign.
            let student = sample_away_from_zero(random, &[3, 4], 10.0);
            Case::new().input("student", student).input("teacher", sample_normal(random, &[3, 4]))
        }),
    },
];
