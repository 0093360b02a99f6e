//! Activation maximisation (Simonyan, Vedaldi & Zisserman, "Deep Inside Convolutional Networks", 2014, eq. 1): images that excite one
//! logit as much as possible, `max S_c(x) − l2 · ‖x‖²₂`, made smooth by a total variation (Mahendran & Vedaldi 2015). The classes take
//! turns, and the images start from different noise.

use super::super::{Lab, Prospect, Recipe, RecipeInfo};
use super::pixels::{make, Search, BATCH, IMAGES, IMAGES_LR, ITERATIONS, JITTER};
use super::{check, noise, teach};
use crate::distill::data_free::total_variation;
use crate::distill::{one_hot, Family, Hyperparameter, Loss, Needs, NON_NEGATIVE};
use crate::error::Result;
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::train::JobResult;

pub static INFO: RecipeInfo = RecipeInfo {
    name: "activation-max",
    paper: "Simonyan et al. 2014",
    family: Family::Transfer,
    about: "without data: images that excite one class's logit as much as possible",
    formula: "images: −z_c + l2 · ‖x‖² + tv · TV(x); student: hinton on them",
    needs: Needs::LOGITS,
    weight: 1.0,
    hard_weight: 0.0,
    cost: 8.0,
    when: "To see what a network looks for; as a source of training images it is the weakest of the data-free recipes.",
    traps: &[
        "The images are extremes: the student sees nothing near the borders between classes.",
        "Unbounded logits grow as long as they are let: l2 and tv decide what the images look like.",
    ],
    hyperparameters: &[
        IMAGES,
        BATCH,
        ITERATIONS,
        IMAGES_LR,
        JITTER,
        Hyperparameter::between("l2", NON_NEGATIVE, 0.1, "weight of the squared length of an image"),
        Hyperparameter::between("tv", NON_NEGATIVE, 0.05, "weight of the total variation of an image"),
        Hyperparameter::constant_temperature(3.0, "T of Hinton's term, from which the student learns"),
    ],
    build: |settings| {
        let (l2, tv) = (settings.number("l2"), settings.number("tv"));
        Ok(Box::new(ActivationMax { search: Search::from_settings(settings), l2, tv }))
    },
    specs: &[],
};

struct ActivationMax {
    search: Search,
    l2: f64,
    tv: f64,
}

impl Recipe for ActivationMax {
    fn check(&self, prospect: &Prospect) -> Result<()> {
        check(prospect)
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let teacher = lab.teacher()?;
        let (frozen, classes) = (teacher.frozen()?, teacher.task().classes);
        let noise = noise(&lab.student);
        let made = make(lab, "images", &frozen, self.search, noise, &|images, targets| {
            let logits = frozen.forward(images, &mut Context::eval())?;
            let each = 1.0 / images.shape()[0] as f64;
            let wanted = logits.mul(&one_hot(targets, classes, &logits)?)?.sum_all()?;
            Loss::weighted(vec![
                ("logit", each, wanted.affine(-1.0, 0.0)?),
                ("l2", self.l2 * each, images.square()?.sum_all()?),
                ("tv", self.tv * each, total_variation(images)?),
            ])
        })?;
        let [before, after] = made.entropy;
        let about = format!(
            "Each excites the logit of one class; the teacher's entropy went from {before:.3} to {after:.3} nats."
        );
        teach(lab, &teacher, made.data, &about)
    }
}
