//! Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", 2020: images of wanted classes that are smooth, not
//! too bright, and excite the teacher's layers with the statistics of its training (eqs. 2 to 4),
//! `CE(z_t, c) + tv · TV(x) + l2 · ‖x‖₂ + statistics · Σ_l (‖μ_l − μ̂_l‖₂ + ‖σ²_l − σ̂²_l‖₂)`,
//! made in rounds: from the second on they compete with the student of the round before (Adaptive DeepInversion, eqs. 7 and 8),
//! `+ compete · (1 − JS(p_t, p_s))`, so that they show what it has not learned yet.
//!
//! The paper's competition runs against a student that is trained at the same time; here the student of each round is trained to its end
//! on all images so far.

use super::super::{Lab, Prospect, Recipe, RecipeInfo};
use super::pixels::{make, Search, BATCH, IMAGES, IMAGES_LR, ITERATIONS, JITTER};
use super::statistics::Statistics;
use super::{check, noise, show, state};
use crate::data::Dataset;
use crate::distill::data_free::{competition, total_variation};
use crate::distill::{Family, Hyperparameter, Loss, Needs, NON_NEGATIVE};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::Tensor;
use crate::train::{JobResult, Pupil};
use std::sync::Arc;

pub static INFO: RecipeInfo = RecipeInfo {
    name: "deep-inversion",
    paper: "Yin et al. 2020",
    family: Family::Transfer,
    about: "without data: images with the statistics of the teacher's training, where the student disagrees with it",
    formula: "images: CE(z_t, c) + tv · TV + l2 · ‖x‖₂ + statistics · Σ(‖μ − μ̂‖ + ‖σ² − σ̂²‖) + compete · (1 − JS); student: hinton",
    needs: Needs::LOGITS,
    weight: 1.0,
    hard_weight: 0.0,
    cost: 10.0,
    when: "With a teacher that has batch norm, whose running statistics say what its training images were like.",
    traps: &[
        "A teacher without batch norm carries no statistics: they are recorded over training images, so these must be there.",
        "Statistics are of a batch: too small a batch of images cannot have them.",
    ],
    hyperparameters: &[
        IMAGES,
        BATCH,
        Hyperparameter::count("rounds", [1, 100], 2, "students trained one after another, each on all images so far"),
        ITERATIONS,
        IMAGES_LR,
        JITTER,
        Hyperparameter::between("tv", NON_NEGATIVE, 1e-3, "weight of the total variation of an image"),
        Hyperparameter::between("l2", NON_NEGATIVE, 1e-3, "weight of the length of an image"),
        Hyperparameter::between("statistics", NON_NEGATIVE, 1.0, "weight of the statistics"),
        Hyperparameter::between("compete", NON_NEGATIVE, 1.0, "weight of the competition, from the second round on"),
        Hyperparameter::constant_temperature(3.0, "T of Hinton's term, and of the competition"),
    ],
    build: |settings| {
        let number = |name| settings.number(name);
        Ok(Box::new(DeepInversion {
            search: Search::from_settings(settings),
            rounds: settings.count("rounds"),
            tv: number("tv"),
            l2: number("l2"),
            statistics: number("statistics"),
            compete: number("compete"),
            temperature: number("temperature"),
        }))
    },
    specs: &[],
};

struct DeepInversion {
    search: Search,
    rounds: usize,
    tv: f64,
    l2: f64,
    statistics: f64,
    compete: f64,
    temperature: f64,
}

impl Recipe for DeepInversion {
    fn check(&self, prospect: &Prospect) -> Result<()> {
        check(prospect)
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let teacher = lab.teacher()?;
        let frozen = teacher.frozen()?;
        let statistics = Statistics::of(&frozen, lab)?;
        state(lab);
        lab.extras.notes.push(statistics.describe().to_string());
        let mut all: Option<Dataset> = None;
        let mut student: Option<(Model, JobResult)> = None;
        for round in 1..=self.rounds {
            let rival = student.as_ref().map(|(model, _)| model.frozen()).transpose()?;
            // The rounds share the images out; each starts from noise of its own.
            let share = self.search.images * round / self.rounds - self.search.images * (round - 1) / self.rounds;
            let search = Search { images: share.max(1), ..self.search };
            let noise = noise(&lab.student.reseeded(round - 1));
            let made = make(lab, &format!("images{round}"), &frozen, search, noise, &|images, targets| {
                self.wish(&frozen, rival.as_ref(), &statistics, images, targets)
            })?;
            let [before, after] = made.entropy;
            let about = format!(
                "Round {round} of {}: the teacher's entropy went from {before:.3} to {after:.3} nats.",
                self.rounds
            );
            show(lab, &teacher, &made.data, &about)?;
            let images = match all.take() {
                None => made.data,
                Some(earlier) => earlier.joined(&made.data)?,
            };
            all = Some(images.clone());
            let last = round == self.rounds;
            let base = if last { lab.student.clone() } else { lab.student.named(&format!("round{round}")) };
            student = Some(lab.train(&Pupil { images: Arc::new(images), ..base }, Some(&teacher))?);
        }
        student.ok_or_else(|| Error::argument("rounds", "must be at least 1"))
    }
}

impl DeepInversion {
    fn wish(
        &self,
        teacher: &Model,
        rival: Option<&Model>,
        statistics: &Statistics,
        images: &Tensor,
        targets: &Tensor,
    ) -> Result<Loss> {
        let mut cx = statistics.context();
        let logits = teacher.forward(images, &mut cx)?;
        let each = 1.0 / images.shape()[0] as f64;
        // A length of 0 has no direction: its gradient is 0 with this shift.
        let lengths = images.square()?.flatten(1)?.sum(&[1], false)?.affine(1.0, 1e-12)?.sqrt()?;
        let mut terms = vec![
            ("class", 1.0, logits.cross_entropy(targets, 0.0)?),
            ("tv", self.tv * each, total_variation(images)?),
            ("l2", self.l2, lengths.mean_all()?),
            ("statistics", self.statistics, statistics.distance(&cx)?),
        ];
        if let Some(rival) = rival {
            let other = rival.forward(images, &mut Context::eval())?;
            terms.push(("compete", self.compete, competition(&other, &logits, self.temperature)?));
        }
        Loss::weighted(terms)
    }
}
