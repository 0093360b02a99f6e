//! Losses of a student against a discriminator that tells its outputs from the teacher's (Goodfellow et al. 2014):
//! `L = CE + α · T² · KL + β · BCE(discriminator(student), 1)` for the student, and for the discriminator
//! `½ BCE(teacher's, 1) + ½ BCE(student's, 0)`. The two are trained in alternation: after each step of the student, one of the
//! discriminator on the same outputs, by Adam at a rate of its own.

use super::adapter::Regressor;
use super::cases::{labelled_logits, positive};
use super::discriminator::Discriminator;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps, NON_NEGATIVE};
use super::math::soft_targets;
use super::taps::TapPair;
use super::{Loss, Method, Scheduled, Setup, StepInputs};
use crate::error::Result;
use crate::nn::Visitor;
use crate::ops::case::sample_normal;
use crate::ops::OpSpec;
use crate::tensor::{DType, Tensor};
use std::collections::BTreeMap;

const ALPHA: Hyperparameter = Hyperparameter::between("alpha", NON_NEGATIVE, 1.0, "α, weight of T² · KL beside it");
const BETA: Hyperparameter =
    Hyperparameter::between("beta", NON_NEGATIVE, 0.1, "β, weight of fooling the discriminator");
const TEMPERATURE: Hyperparameter = Hyperparameter::temperature(3.0, "T of T² · KL");
const HIDDEN: Hyperparameter =
    Hyperparameter::count("hidden", [1, 8192], 64, "width of the discriminator's middle layer");
const RATE: Hyperparameter = Hyperparameter::above("discriminator-lr", 0.0, 1e-3, "the discriminator's learning rate");
const HYPERPARAMETERS: &[Hyperparameter] = &[ALPHA, BETA, TEMPERATURE, HIDDEN, RATE];
const TRAPS: &[&str] = &[
    "Watch `discriminator-accuracy` in the metrics: near 50 it cannot tell, near 100 the student has given up.",
    "The game adds noise to the training; alpha = 0 leaves nothing but the game and the labels.",
];

pub(super) static LOGITS: MethodInfo = MethodInfo {
    name: "adversarial",
    paper: "Goodfellow et al. 2014",
    family: Family::Response,
    about: "a discriminator must not be able to tell the student's logits from the teacher's",
    formula: "α · T² · KL(p_t^T ‖ p_s^T) + β · BCE(D(z_s), 1), D trained on ½ BCE(D(z_t), 1) + ½ BCE(D(z_s), 0)",
    needs: Needs::LOGITS,
    weight: 1.0,
    hard_weight: 1.0,
    cost: 1.3,
    when: "When the student should have the teacher's distribution of answers, not each single one.",
    traps: TRAPS,
    hyperparameters: HYPERPARAMETERS,
    build: |setup| Ok(Box::new(Adversarial::new(&LOGITS, setup, None)?)),
    specs: SPECS,
};

pub(super) static FEATURES: MethodInfo = MethodInfo {
    name: "adversarial-features",
    about: "a discriminator must not be able to tell the student's features from the teacher's",
    formula: "α · T² · KL(p_t^T ‖ p_s^T) + β · BCE(D(W f_s), 1), D trained on ½ BCE(D(f_t), 1) + ½ BCE(D(W f_s), 0)",
    family: Family::Feature,
    needs: Needs { taps: Taps::Penultimate, ..Needs::LOGITS },
    cost: 1.4,
    when: "As adversarial, where features are what will be used.",
    specs: &[],
    build: |setup| {
        let pair = setup.pairs.remove(0);
        let regressor = Regressor::new(&mut setup.init, &pair)?;
        Ok(Box::new(Adversarial::new(&FEATURES, setup, Some((pair, regressor)))?))
    },
    ..LOGITS
};

/// How well the student passes for the teacher: the discriminator's logits of its outputs against "is the teacher".
///
/// # Errors
/// Not float logits.
pub fn fooling(discriminator_logits: &Tensor) -> Result<Tensor> {
    discriminator_logits.bce_with_logits(&filled(discriminator_logits, 1.0)?)
}

/// The discriminator's own loss, of its logits of the teacher's outputs and of the student's.
///
/// # Errors
/// Not float logits.
pub fn telling_apart(of_teacher: &Tensor, of_student: &Tensor) -> Result<Tensor> {
    let of_student = of_student.bce_with_logits(&filled(of_student, 0.0)?)?;
    fooling(of_teacher)?.add(&of_student)?.affine(0.5, 0.0)
}

fn filled(like: &Tensor, value: f64) -> Result<Tensor> {
    let dtype = if like.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    Tensor::full(*like.shape(), value, dtype, like.device())
}

/// The game on logits, or on the features of a pair of taps, the student's mapped to the teacher's width.
struct Adversarial {
    name: &'static str,
    features: Option<(TapPair, Regressor)>,
    discriminator: Discriminator,
    alpha: f64,
    beta: f64,
    temperature: Scheduled,
}

impl Adversarial {
    fn new(info: &MethodInfo, setup: &mut Setup, features: Option<(TapPair, Regressor)>) -> Result<Adversarial> {
        let number = |name| setup.settings.number(name);
        let width = match &features {
            None => setup.classes,
            Some((pair, _)) if pair.teacher_shape.len() == 3 && pair.student_shape.len() == 3 => pair.channels()[1],
            Some((pair, _)) => pair.widths()[1],
        };
        let hidden = setup.settings.count("hidden");
        Ok(Adversarial {
            name: info.name,
            features,
            discriminator: Discriminator::new(&mut setup.init, width, hidden, number("discriminator-lr"))?,
            alpha: number("alpha"),
            beta: number("beta"),
            temperature: setup.settings.scheduled("temperature"),
        })
    }
}

/// What a discriminator judges: vectors as they are, feature maps place by place.
fn judged(x: &Tensor) -> Result<Tensor> {
    match x.shape()[..] {
        [n, c, h, w] => x.permute(&[0, 2, 3, 1])?.reshape([n * h * w, c]),
        _ => Ok(x.clone()),
    }
}

impl Method for Adversarial {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let teacher_logits = inputs.teacher_logits()?;
        let (student, teacher) = match &self.features {
            None => (inputs.student_logits.clone(), teacher_logits.clone()),
            Some((pair, regressor)) => {
                let (student, teacher) = inputs.features(pair)?;
                regressor.align(student, teacher)?
            }
        };
        let (fooling, accuracy) = self.discriminator.judge(&judged(&student)?, &judged(&teacher)?)?;
        let soft = soft_targets(inputs.student_logits, teacher_logits, inputs.now(self.temperature))?;
        let mut loss = Loss::weighted(vec![("soft", self.alpha, soft), (self.name, self.beta, fooling)])?;
        loss.terms.push(("discriminator-accuracy".to_string(), accuracy));
        Ok(loss)
    }

    fn visit(&self, visitor: &mut Visitor) {
        if let Some((_, regressor)) = &self.features {
            regressor.visit("regressor", visitor);
        }
        self.discriminator.visit(visitor);
    }

    fn after_step(&self) -> Result<()> {
        self.discriminator.train()
    }

    fn optimizer_state(&self) -> BTreeMap<String, Tensor> {
        self.discriminator.optimizer_state()
    }

    fn load_optimizer_state(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.discriminator.load_optimizer_state(state)
    }
}

const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "adversarial_student_loss",
        run: |case| {
            let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
            let hard = student.cross_entropy(&case.tensor("labels")?, 0.0)?;
            let soft = soft_targets(&student, &teacher, case.number("temperature")?)?;
            let adversarial = fooling(&case.tensor("discriminator_logits")?)?;
            let (alpha, beta) = (case.number("alpha")?, case.number("beta")?);
            let total = hard.add(&soft.affine(alpha, 0.0)?)?.add(&adversarial.affine(beta, 0.0)?)?;
            let [hard, soft, adversarial] = [hard, soft, adversarial].map(|term| term.detach());
            Ok(vec![("hard", hard), ("soft", soft), ("adversarial", adversarial), ("total", total)])
        },
        sample: Some(|random| {
            let temperature = positive(random);
            let case = labelled_logits(random);
            let n = case.inputs()["student_logits"].shape()[0];
            let logits = sample_normal(random, &[n, 1]);
            case.input("discriminator_logits", logits)
                .attr("temperature", temperature)
                .attr("alpha", 0.7)
                .attr("beta", 0.1)
        }),
    },
    OpSpec {
        name: "discriminator_loss",
        run: |case| Ok(vec![("loss", telling_apart(&case.tensor("teacher")?, &case.tensor("student")?)?)]),
        sample: Some(|random| {
            let (teacher, student) = (sample_normal(random, &[3, 1]), sample_normal(random, &[3, 1]));
            crate::ops::Case::new().input("teacher", teacher).input("student", student)
        }),
    },
];
