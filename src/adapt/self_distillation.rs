//! A student learns from its own moving average (Wang et al., "Continual test-time domain adaptation" (CoTTA), CVPR 2022, section 3);
//! the average answers.
//!
//! At first both are the source model, and a student that agrees with its teacher has no gradient. What teaches is the teacher's mean
//! answer to several views of each image, which it gives while the source model is unsure of the batch.
//!
//! As in the authors' code logits are averaged, the teacher answers before it follows the step, and all of the student's parameters learn
//! by Adam. What differs: views are turned and shifted as far as there (15°, 1/16 of the side), but not scaled, recoloured, blurred,
//! mirrored or overlaid with noise, and pixels of views are bytes; networks without batch normalisation are taken as well.

use super::{batch_pass, Adapter, Learner, MethodInfo, Settings};
use crate::autograd::no_grad;
use crate::backend::params::ImagePlan;
use crate::data::AugmentConfig;
use crate::distill::soft_targets;
use crate::error::Result;
use crate::models::Model;
use crate::nn::Module;
use crate::optim::follow;
use crate::tensor::{DType, Rng, Tensor};
use crate::train::streams;

pub(super) const METHOD: MethodInfo = MethodInfo {
    name: "self-distillation",
    paper: "Wang et al. 2022 (CoTTA)",
    about: "a student learns what its moving average says about several views of an image; weights are set back at random",
    formula: "min over θ of −Σ_c q_c log p_c, q of θ';  θ' ← m · θ' + (1 − m) · θ;  each weight of θ ← its source with probability p",
    needs_norms: false,
    build: |model, settings| Ok(Box::new(SelfDistillation::new(model, settings)?)),
};

/// The largest rotation of a view, in degrees.
const ROTATION: f64 = 15.0;
/// The largest shift of a view, as a share of the image's side.
const SHIFT: f64 = 1.0 / 16.0;

struct SelfDistillation {
    source: Model,
    student: Model,
    teacher: Model,
    learner: Learner,
    settings: Settings,
    taken: u64,
}

impl SelfDistillation {
    fn new(source: &Model, settings: &Settings) -> Result<SelfDistillation> {
        let student = source.copied()?;
        Ok(SelfDistillation {
            source: source.frozen()?,
            teacher: source.frozen()?,
            learner: Learner::new(student.parameters(), settings.lr)?,
            student,
            settings: *settings,
            taken: 0,
        })
    }

    /// The teacher's answers before a step, and the step.
    fn step(&mut self, images: &Tensor) -> Result<Tensor> {
        let said = no_grad(|| self.teacher_says(images))?;
        let logits = self.student.forward(images, &mut batch_pass())?;
        // The cross-entropy less the entropy of the teacher, which has no gradient.
        self.learner.step(soft_targets(&logits, &said, 1.0)?)?;
        follow(&self.teacher, &self.student, self.settings.momentum)?;
        self.restore()?;
        self.taken += 1;
        Ok(said)
    }

    /// The teacher's logits; where the source model is unsure of the batch, their mean over views.
    fn teacher_says(&self, images: &Tensor) -> Result<Tensor> {
        if confidence(&self.source.forward(images, &mut batch_pass())?)? >= self.settings.confidence {
            return self.teacher.forward(images, &mut batch_pass());
        }
        let share = 1.0 / self.settings.views as f64;
        let of_view = |view| self.teacher.forward(&self.view(images, view)?, &mut batch_pass())?.affine(share, 0.0);
        let first = of_view(0)?;
        (1..self.settings.views).try_fold(first, |sum, view| sum.add(&of_view(view)?))
    }

    /// The images turned and shifted, each in a way of its own.
    fn view(&self, images: &Tensor, number: usize) -> Result<Tensor> {
        let [_, h, w] = self.student.task().input;
        let config = AugmentConfig { rotate: ROTATION, shift: SHIFT * h.min(w) as f64, ..AugmentConfig::default() };
        let mut random = self.rng(streams::VIEWS).derive(number as u64).sequence();
        let all: Vec<i32> = (0..images.shape()[0] as i32).collect();
        let plans: Vec<ImagePlan> = all.iter().map(|_| config.plan(h, w, &mut random)).collect();
        let index = Tensor::from_slice(&all, [all.len()], images.device())?;
        images.affine(255.0, 0.0)?.to_dtype(DType::U8)?.gather_images(&index, Some(&plans))
    }

    /// Sets weights of the student back to those of the source, each with the same probability.
    fn restore(&self) -> Result<()> {
        if self.settings.restore == 0.0 {
            return Ok(());
        }
        let random = self.rng(streams::RESTORE);
        let pairs = self.learner.parameters.iter().zip(self.source.parameters());
        for (number, ((_, parameter), (_, source))) in pairs.enumerate() {
            let (now, source, rng) = (parameter.get().detach(), source.get(), random.derive(number as u64));
            let back = Tensor::bernoulli(*now.shape(), self.settings.restore, DType::F32, now.device(), rng)?;
            parameter.set(&now.mul(&back.affine(-1.0, 1.0)?)?.add(&source.mul(&back)?)?)?;
        }
        Ok(())
    }

    /// The random numbers of this step.
    fn rng(&self, stream: u64) -> Rng {
        Rng::new(self.settings.seed, stream).derive(self.taken)
    }
}

/// The mean over the batch of the largest probability.
fn confidence(logits: &Tensor) -> Result<f64> {
    let classes = logits.shape()[1];
    let probabilities = logits.softmax(1.0)?.to_f64_vec()?;
    let largest = probabilities.chunks(classes).map(|row| row.iter().copied().fold(0.0, f64::max));
    Ok(largest.sum::<f64>() / logits.shape()[0].max(1) as f64)
}

impl Adapter for SelfDistillation {
    fn answer(&mut self, images: &Tensor) -> Result<Tensor> {
        for _ in 1..self.settings.steps {
            self.step(images)?;
        }
        self.step(images)
    }

    fn model(&self) -> &Model {
        &self.teacher
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Task;
    use crate::tensor::Device;

    fn source() -> Model {
        let task = Task { input: [1, 8, 8], classes: 4 };
        Model::new("cnn-bn-4-fc8", task, Rng::new(2, 0), Device::Cpu).unwrap()
    }

    fn images() -> Tensor {
        Tensor::uniform([6, 1, 8, 8], 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(1, 0)).unwrap()
    }

    /// Every parameter of a model.
    fn values(model: &Model) -> Vec<f32> {
        model.parameters().iter().flat_map(|(_, p)| p.get().to_vec::<f32>().unwrap()).collect()
    }

    fn after_a_step(settings: Settings) -> SelfDistillation {
        let mut adapter = SelfDistillation::new(&source(), &Settings { views: 3, ..settings }).unwrap();
        adapter.answer(&images()).unwrap();
        adapter
    }

    #[test]
    fn weights_are_set_back_with_their_probability() {
        let source = values(&source());
        let moved = |restore| -> Vec<bool> {
            let adapter = after_a_step(Settings { restore, ..Settings::default() });
            values(&adapter.student).iter().zip(&source).map(|(a, b)| a.to_bits() != b.to_bits()).collect()
        };
        let count = |moved: Vec<bool>| moved.into_iter().filter(|moved| *moved).count() as f64;
        let learned = count(moved(0.0));
        assert!(learned > 100.0, "{learned}");
        let stayed = count(moved(0.5)) / learned;
        assert!((stayed - 0.5).abs() < 0.15, "{stayed}");
        assert_eq!(count(moved(1.0)), 0.0);
    }

    #[test]
    fn the_teacher_is_the_students_average() {
        let at = |momentum| after_a_step(Settings { momentum, restore: 0.0, ..Settings::default() });
        let (still, copy, between) = (at(1.0), at(0.0), at(0.75));
        assert_eq!(values(&still.teacher), values(&source()));
        assert_eq!(values(&copy.teacher), values(&copy.student));
        let expected = values(&source()).into_iter().zip(values(&between.student)).map(|(a, b)| 0.75 * a + 0.25 * b);
        assert!(values(&between.teacher).into_iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn a_source_that_is_sure_asks_for_no_views() {
        let says = |confidence| {
            let settings = Settings { confidence, views: 3, ..Settings::default() };
            let adapter = SelfDistillation::new(&source(), &settings).unwrap();
            let plain = adapter.teacher.forward(&images(), &mut batch_pass()).unwrap();
            [adapter.teacher_says(&images()).unwrap(), plain].map(|logits| logits.to_vec::<f32>().unwrap())
        };
        let [sure, plain] = says(0.0);
        assert_eq!(sure, plain);
        let [averaged, plain] = says(1.0);
        assert_ne!(averaged, plain);
    }

    #[test]
    fn confidence_is_the_mean_of_the_largest_probabilities() {
        let z = Tensor::from_slice(&[0f32, 0.0, 100.0, 0.0], [2, 2], Device::Cpu).unwrap();
        assert!((confidence(&z).unwrap() - 0.75).abs() < 1e-6);
    }
}
