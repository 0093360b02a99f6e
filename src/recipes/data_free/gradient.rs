//! The notebook's data-free distillation, repaired: images are noise that is changed until the teacher is sure of each (low entropy), all
//! classes are equally frequent, and neighbouring pixels are alike (low total variation). In the notebook the teacher was computed
//! without recording, so its entropy was a constant and only the smoothness ever moved the pixels; and nothing kept all images
//! from becoming one class (`balance = 0` has that form).

use super::super::{Lab, Prospect, Recipe, RecipeInfo};
use super::pixels::{make, Search, BATCH, IMAGES, IMAGES_LR, ITERATIONS, JITTER};
use super::{check, noise, teach};
use crate::distill::data_free::{class_balance_loss, entropy, total_variation};
use crate::distill::{Family, Hyperparameter, Loss, Needs, NON_NEGATIVE};
use crate::error::Result;
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::train::JobResult;

pub static INFO: RecipeInfo = RecipeInfo {
    name: "data-free-gradient",
    paper: "the notebook, repaired",
    family: Family::Transfer,
    about: "without data: noise becomes images that the teacher is sure of and that are smooth",
    formula: "images: H(softmax z_t) + balance · Σ p̄ log₁₀ p̄ + tv · TV(x) / n; student: hinton on them",
    needs: Needs::LOGITS,
    weight: 1.0,
    hard_weight: 0.0,
    cost: 8.0,
    when: "When there is a teacher and no image at all, and dafl or deep-inversion are too much.",
    traps: &[
        "What the teacher is sure of need not look like anything: the student learns the teacher's answers to such images.",
        "Without balance all images may become one class.",
    ],
    hyperparameters: &[
        IMAGES,
        BATCH,
        ITERATIONS,
        IMAGES_LR,
        JITTER,
        Hyperparameter::between("tv", NON_NEGATIVE, 1e-3, "weight of the total variation of an image"),
        Hyperparameter::between("balance", NON_NEGATIVE, 5.0, "weight of the balance of classes; 0 as the notebook"),
        Hyperparameter::constant_temperature(3.0, "T of Hinton's term, from which the student learns"),
    ],
    build: |settings| {
        let (tv, balance) = (settings.number("tv"), settings.number("balance"));
        Ok(Box::new(Gradient { search: Search::from_settings(settings), tv, balance }))
    },
    specs: &[],
};

struct Gradient {
    search: Search,
    tv: f64,
    balance: f64,
}

impl Recipe for Gradient {
    fn check(&self, prospect: &Prospect) -> Result<()> {
        check(prospect)
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let teacher = lab.teacher()?;
        let frozen = teacher.frozen()?;
        let noise = noise(&lab.student);
        let made = make(lab, "images", &frozen, self.search, noise, &|images, _| {
            let logits = frozen.forward(images, &mut Context::eval())?;
            let each = 1.0 / images.shape()[0] as f64;
            Loss::weighted(vec![
                ("entropy", 1.0, entropy(&logits, 1e-8)?),
                ("balance", self.balance, class_balance_loss(&logits)?),
                ("tv", self.tv * each, total_variation(images)?),
            ])
        })?;
        let [before, after] = made.entropy;
        let about =
            format!("Noise, changed by the teacher's gradient: its entropy fell from {before:.3} to {after:.3} nats.");
        teach(lab, &teacher, made.data, &about)
    }
}
