//! Chen et al., "Data-Free Learning of Student Networks" (DAFL), 2019: a generator learns to make images that the teacher takes for its
//! own, `one-hot · CE(z_t, argmax z_t) + balance · Σ p̄ log₁₀ p̄ − activation · mean |f_t|` (eqs. 2 to 6), while the student learns the
//! teacher's answers to them, T² · KL. Each iteration is one step of both, as in the authors' code, whose weights for MNIST these are.

use super::super::{Accepts, Lab, Prospect, Recipe, RecipeInfo};
use super::contest::{play, Contest, Generating, LATENT, WIDTH};
use super::{check_answers_alone, generator};
use crate::distill::data_free::{activation_loss, class_balance_loss, one_hot_loss};
use crate::distill::{Family, Hyperparameter, Loss, Needs, NON_NEGATIVE};
use crate::error::Result;
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::{Rng, Tensor};
use crate::train::JobResult;

pub static INFO: RecipeInfo = RecipeInfo {
    name: "dafl",
    paper: "Chen et al. 2019",
    family: Family::Transfer,
    about: "without data: a generator makes images that the teacher takes for its own; the student learns beside it",
    formula: "G: one-hot · CE(z_t, argmax z_t) + balance · Σ p̄ log₁₀ p̄ − activation · mean |f_t|; S: T² · KL",
    needs: Needs::LOGITS,
    weight: 1.0,
    hard_weight: 0.0,
    cost: 20.0,
    when: "When the training data may not leave their owner but the teacher may: the first data-free recipe to try on small images.",
    traps: &[
        "The generator may make a few images per class and no others; watch the contact sheet.",
        "--epochs counts epochs of `iterations` batches, since there is no data set to pass over.",
    ],
    hyperparameters: &[
        Hyperparameter::count("iterations", [1, 1000000], 120, "batches an epoch"),
        LATENT,
        WIDTH,
        Hyperparameter::above("generator-lr", 0.0, 0.01, "Adam's learning rate for the generator; 0.2 in the authors' code"),
        Hyperparameter::between("one-hot", NON_NEGATIVE, 1.0, "weight of sure answers"),
        Hyperparameter::between("balance", NON_NEGATIVE, 5.0, "weight of equally frequent classes"),
        Hyperparameter::between("activation", NON_NEGATIVE, 0.1, "weight of excited features"),
        Hyperparameter::constant_temperature(1.0, "T of the student's loss"),
    ],
    build: |settings| {
        let weights = ["one-hot", "balance", "activation"].map(|name| settings.number(name));
        let generating = Generating::from_settings(settings);
        Ok(Box::new(Dafl { generating, weights, temperature: settings.number("temperature") }))
    },
    specs: &[],
};

struct Dafl {
    generating: Generating,
    weights: [f64; 3],
    temperature: f64,
}

/// The features that the teacher's classifier sees.
const FEATURES: &str = "penultimate";

impl Recipe for Dafl {
    fn accepts(&self) -> Accepts {
        Accepts::Nothing
    }

    fn check(&self, prospect: &Prospect) -> Result<()> {
        check_answers_alone(INFO.name, prospect)?;
        generator::check(prospect.teacher.images.height, prospect.teacher.images.width)
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        play(lab, INFO.name, self.generating, &|contest, lr, rng| self.round(contest, lr, rng))
    }
}

impl Dafl {
    fn round(&self, contest: &mut Contest, lr: f64, rng: Rng) -> Result<Vec<(&'static str, Tensor)>> {
        let images = contest.images(rng)?;
        let mut cx = Context::eval().with_taps(&[FEATURES]);
        let answers = contest.teacher.forward(&images, &mut cx)?;
        let (images, labels) = (images.detach(), answers.detach());
        let [one_hot, balance, activation] = self.weights;
        let mut terms =
            vec![("one-hot", one_hot, one_hot_loss(&answers)?), ("balance", balance, class_balance_loss(&answers)?)];
        if let Some(features) = cx.tapped(FEATURES) {
            terms.push(("activation", activation, activation_loss(features)?));
        }
        let shown: Vec<(&'static str, Tensor)> = terms.iter().map(|(name, _, term)| (*name, term.detach())).collect();
        let generating = Loss::weighted(terms)?.total;
        drop((answers, cx));
        contest.teach_generator(&generating)?;
        let student = contest.student_says(&images, rng)?;
        let soft = crate::distill::soft_targets(&student, &labels, self.temperature)?;
        contest.teach_student(&soft, lr)?;
        Ok([("soft", soft.detach())].into_iter().chain(shown).collect())
    }
}
