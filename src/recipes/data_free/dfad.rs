//! Fang et al., "Data-Free Adversarial Distillation" (DFAD), 2019: student and generator disagree about the discrepancy of the student's and
//! the teacher's logits, `D = mean |z_s − z_t|` (eq. 3): in each iteration the student makes it smaller for some steps, each on new
//! images, then the generator makes it larger for one. As in the authors' code for MNIST: five steps, and −D itself for the generator.

use super::super::{Accepts, Lab, Prospect, Recipe, RecipeInfo};
use super::contest::{play, Contest, Generating, LATENT, WIDTH};
use super::{check_answers_alone, generator};
use crate::autograd::no_grad;
use crate::distill::data_free::discrepancy;
use crate::distill::{Family, Hyperparameter, Needs};
use crate::error::Result;
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::{Rng, Tensor};
use crate::train::JobResult;

pub static INFO: RecipeInfo = RecipeInfo {
    name: "dfad",
    paper: "Fang et al. 2019",
    family: Family::Transfer,
    about: "without data: a generator looks for images where the student still disagrees with the teacher",
    formula: "S: min mean |z_s − z_t| (student-steps times); G: max mean |z_s − z_t|",
    needs: Needs::LOGITS,
    weight: 1.0,
    hard_weight: 0.0,
    cost: 20.0,
    when: "As dafl, where images need not look like anything: it asks for what the student has not learned yet.",
    traps: &[
        "A minimax game can swing: compare several epochs, not the last alone.",
        "--epochs counts epochs of `iterations` rounds, since there is no data set to pass over.",
    ],
    hyperparameters: &[
        Hyperparameter::count("iterations", [1, 1000000], 50, "rounds an epoch"),
        Hyperparameter::count("student-steps", [1, 1000], 5, "steps of the student in a round"),
        LATENT,
        WIDTH,
        Hyperparameter::above("generator-lr", 0.0, 1e-3, "Adam's learning rate for the generator"),
    ],
    build: |settings| {
        let generating = Generating::from_settings(settings);
        Ok(Box::new(Dfad { generating, student_steps: settings.count("student-steps") }))
    },
    specs: &[],
};

struct Dfad {
    generating: Generating,
    student_steps: usize,
}

impl Recipe for Dfad {
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

impl Dfad {
    fn round(&self, contest: &mut Contest, lr: f64, rng: Rng) -> Result<Vec<(&'static str, Tensor)>> {
        let mut shown = Vec::new();
        for k in 0..self.student_steps {
            let rng = rng.derive(k as u64);
            let (images, answers) = no_grad(|| {
                let images = contest.images(rng)?;
                let answers = contest.teacher.forward(&images, &mut Context::eval())?;
                Ok::<_, crate::Error>((images, answers))
            })?;
            let loss = discrepancy(&contest.student_says(&images, rng)?, &answers)?;
            contest.teach_student(&loss, lr)?;
            shown = vec![("student", loss.detach())];
        }
        let rng = rng.derive(u64::MAX);
        let images = contest.images(rng)?;
        let answers = contest.teacher.forward(&images, &mut Context::eval())?;
        let loss = discrepancy(&contest.student_says(&images, rng)?, &answers)?;
        drop((images, answers));
        contest.teach_generator(&loss.affine(-1.0, 0.0)?)?;
        shown.push(("generator", loss.detach()));
        Ok(shown)
    }
}
