//! Self-training with a noisy student (Xie et al., "Self-training with Noisy Student", 2020): a network that learned from the labelled
//! images labels the others; those that it is sure of join the training set of a fresh network; and so on. The images without labels are
//! those that `--train-limit` leaves out; their labels are not looked at.
//!
//! A student learns from targets: of labelled images their label, of the others what the labeller says, as probabilities or as its first
//! choice. At temperature 1 that is the paper's loss, the cross-entropy with either. The noise of the paper is `--shift`, `--rotate` and
//! their like, and dropout; the labeller sees the images without.

use super::lab::task_of;
use super::{Accepts, Lab, Prospect, Recipe, RecipeInfo};
use crate::data::Dataset;
use crate::distill::{Family, Hyperparameter, Needs, Plan};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::report::AccuracyTable;
use crate::tensor::{Rng, Tensor};
use crate::train::{evaluate, streams, JobResult, Pupil, TeacherOutputs};
use std::sync::Arc;

/// The logit of a sure answer, the others being 0: e^−50 is nothing beside it.
const SURE: f32 = 50.0;

pub(super) static INFO: RecipeInfo = RecipeInfo {
    name: "self-training",
    paper: "Xie et al. 2020",
    family: Family::Transfer,
    about: "a network labels the images without labels, and a fresh one learns from both",
    formula: "KL(t ‖ softmax(z_s)); t = the label, or what the labeller says where max softmax(z_l) ≥ confidence",
    needs: Needs::NOTHING,
    weight: 1.0,
    hard_weight: 0.0,
    cost: 6.0,
    when: "When few images have labels and many have none (--train-limit N).",
    traps: &[
        "Confident mistakes are learned and confirmed; a higher confidence makes fewer of them.",
        "With labeller=teacher the labels are known twice: the run's teacher has learned from all images with their labels.",
        "Each student sees more images an epoch than the baseline: compare at equal steps, too.",
    ],
    hyperparameters: &[
        Hyperparameter::count("rounds", [1, 100], 2, "how often the images are labelled anew and a fresh student is trained"),
        Hyperparameter::between("confidence", [0.0, 1.0], 0.9, "the labeller's largest probability, at least"),
        Hyperparameter::choice("labels", &["soft", "hard"], "probabilities, or the first choice alone"),
        Hyperparameter::choice("labeller", &["student", "teacher"], "who labels first: the student, trained on labels, or the run's teacher"),
        Hyperparameter::constant_temperature(1.0, "T of Hinton's term"),
    ],
    build: |settings| {
        Ok(Box::new(SelfTraining {
            rounds: settings.count("rounds"),
            confidence: settings.number("confidence"),
            soft: settings.is("labels", "soft"),
            from_teacher: settings.is("labeller", "teacher"),
        }))
    },
    specs: &[],
};

struct SelfTraining {
    rounds: usize,
    confidence: f64,
    soft: bool,
    from_teacher: bool,
}

/// The training set of a round.
struct Round {
    images: Arc<Dataset>,
    /// What is learned about each image, as logits.
    targets: Vec<f32>,
    /// How many of the images without labels were taken, and how many of those got their true label.
    taken: usize,
    right: usize,
}

impl SelfTraining {
    /// The labelled images, and those of the others that the labeller is sure of.
    fn label(&self, lab: &Lab, labeller: &Model, unlabelled: &Dataset) -> Result<Round> {
        let labelled = &lab.student.images;
        let said = evaluate(labeller, unlabelled, lab.regime.eval_batch_size, lab.device)?;
        let sure = |&i: &usize| said.probabilities(i, 1.0)[said.predictions[i]] >= self.confidence;
        let taken: Vec<usize> = (0..unlabelled.len()).filter(sure).collect();
        let mut targets: Vec<f32> =
            labelled.labels.iter().flat_map(|&label| one_sure(label as usize, said.classes)).collect();
        for &i in &taken {
            match self.soft {
                true => targets.extend(&said.logits[i * said.classes..(i + 1) * said.classes]),
                false => targets.extend(one_sure(said.predictions[i], said.classes)),
            }
        }
        let right = taken.iter().filter(|&&i| said.predictions[i] == said.labels[i]).count();
        let index: Vec<u32> = taken.iter().map(|&i| i as u32).collect();
        let mut images = labelled.as_ref().clone();
        if !index.is_empty() {
            let mut pseudo = unlabelled.subset(&index)?;
            pseudo.labels = taken.iter().map(|&i| said.predictions[i] as i32).collect();
            images = images.joined(&pseudo)?;
        }
        Ok(Round { images: Arc::new(images), targets, taken: taken.len(), right })
    }

    /// Labels, and trains a fresh student on what was labelled.
    fn round(
        &self,
        number: usize,
        lab: &mut Lab,
        labeller: &Model,
        unlabelled: &Dataset,
    ) -> Result<(Model, JobResult)> {
        let Round { images, targets, taken, right } = self.label(lab, labeller, unlabelled)?;
        let share = 100.0 * right as f64 / taken.max(1) as f64;
        lab.extras.notes.push(format!(
            "{}, round {number}: {taken} of {} images without labels were taken, {share:.1} % of them with their true label.",
            lab.student.job,
            unlabelled.len()
        ));
        // The last has the student's own seed: all students of a seed start alike.
        let own = match number == self.rounds {
            true => lab.student.clone(),
            false => lab.student.reseeded(number).named(&format!("round{number}")),
        };
        let task = task_of(&images);
        let targets = Tensor::from_slice(&targets, [images.len(), task.classes], lab.device)?;
        let answers = TeacherOutputs::known_logits(labeller.name(), task, targets)?;
        lab.train_with(&Pupil { images, ..own }, Some(&answers))
    }
}

/// The logits of someone who is sure of a class.
fn one_sure(class: usize, classes: usize) -> impl Iterator<Item = f32> {
    (0..classes).map(move |c| if c == class { SURE } else { 0.0 })
}

impl Recipe for SelfTraining {
    fn accepts(&self) -> Accepts {
        Accepts::MethodsOfLogits
    }

    fn check(&self, prospect: &Prospect) -> Result<()> {
        let Prospect { student, all, augment, .. } = prospect;
        if augment.mixup > 0.0 {
            let reason = "learns what was said of each image, and of mixtures nobody said anything; leave --mixup out";
            return Err(Error::argument("self-training", reason));
        }
        if student.images.len() == all.len() {
            let reason =
                format!("needs images without labels; leave some out with --train-limit (there are {})", all.len());
            return Err(Error::argument("self-training", reason));
        }
        self.accepts().check("self-training", &student.plan)?;
        prospect.check_learning(&student.model, &student.model)
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let (labelled, all) = (lab.student.images.len(), lab.all.clone());
        let unlabelled = all.beyond(labelled, Rng::new(lab.teacher_pupil.seed, streams::SUBSET))?;
        let mut table = AccuracyTable::new(format!("{} and its labellers", lab.student.job), &["test images"]);
        let first = match self.from_teacher {
            true => lab.teacher()?,
            false => {
                let pupil = Pupil { plan: Plan::labels(), ..lab.student.reseeded(self.rounds).named("labeller") };
                Arc::new(lab.train(&pupil, None)?.0)
            }
        };
        table.row("labeller of round 1", &[lab.evaluate(&first)?.accuracy()]);
        let mut student = self.round(1, lab, &first, &unlabelled)?;
        table.row("student of round 1", &[student.1.accuracy()]);
        for number in 2..=self.rounds {
            student = self.round(number, lab, &student.0, &unlabelled)?;
            table.row(format!("student of round {number}"), &[student.1.accuracy()]);
        }
        lab.extras.tables.push(table);
        Ok(student)
    }
}
