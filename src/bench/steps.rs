//! Whole steps of the notebook's two networks, on random images.

use super::cases::{Case, Work};
use super::kernels::{labels, random};
use crate::autograd::no_grad;
use crate::backend;
use crate::backend::params::HintonKd;
use crate::error::Result;
use crate::models::{architecture, summarise_architecture, Model};
use crate::nn::{Context, Module};
use crate::optim::{Optimizer, OptimizerConfig};
use crate::tensor::{Device, Rng, Tensor};

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Forward, cross-entropy, backward, Adam.
    Train,
    /// Forward, without recording.
    Forward,
    /// The teacher's forward pass, then a training step of the student with the distillation loss.
    Distill,
}

const TEACHER: &str = "teacher_net";
const STUDENT: &str = "student_net";

/// The seven steps that the documentation's tables show.
pub(super) fn cases(device: Device) -> Result<Vec<Case>> {
    let step = |model, batch, mode, runs| Ok::<_, crate::Error>(custom_step(device, model, batch, mode)?.runs(runs));
    Ok(vec![
        step(TEACHER, 128, Mode::Train, 30)?,
        step(STUDENT, 128, Mode::Train, 100)?,
        step(STUDENT, 128, Mode::Distill, 30)?,
        step(TEACHER, 128, Mode::Forward, 30)?,
        step(STUDENT, 128, Mode::Forward, 100)?,
        step(TEACHER, 1, Mode::Forward, 200)?,
        step(STUDENT, 1, Mode::Forward, 1000)?,
    ])
}

/// One step of an architecture at a batch size.
///
/// # Errors
/// There is no such architecture.
pub fn custom_step(device: Device, model: &str, batch: usize, mode: Mode) -> Result<Case> {
    let flops_of = |name: &str| {
        let summary = summarise_architecture(name, architecture(name)?.default_task)?;
        Ok::<f64, crate::Error>(summary.flops * batch as f64)
    };
    let short = model.strip_suffix("_net").unwrap_or(model);
    // Backward takes a product for the weights and one for the input.
    let (what, flops) = match mode {
        Mode::Train => (format!("{short}_train_step_b{batch}"), 3.0 * flops_of(model)?),
        Mode::Forward => (format!("{short}_forward_b{batch}"), flops_of(model)?),
        Mode::Distill if model == STUDENT => {
            (format!("distil_step_b{batch}"), 3.0 * flops_of(model)? + flops_of(TEACHER)?)
        }
        Mode::Distill => (format!("{short}_distil_step_b{batch}"), 3.0 * flops_of(model)? + flops_of(TEACHER)?),
    };
    let model = model.to_string();
    Ok(Case::new(what, move || prepare(device, &model, batch, mode)).costing(flops, 0.0))
}

fn prepare(device: Device, name: &str, batch: usize, mode: Mode) -> Result<Work> {
    let task = architecture(name)?.default_task;
    let build = |name: &str| Model::new(name, task, Rng::new(0, 1), device);
    let [c, h, w] = task.input;
    let images = random(&[batch, c, h, w], 3, device)?;
    let labels = labels(batch, task.classes, device)?;
    let model = build(name)?;
    let mut adam = Optimizer::new(OptimizerConfig::named("adam", 0.9, 0.0)?);
    let mut step: Work = match mode {
        Mode::Forward => Box::new(move || forward(&model, &images).map(drop)),
        Mode::Train => Box::new(move || train_step(&model, &mut adam, &images, |z| z.cross_entropy(&labels, 0.0))),
        Mode::Distill => {
            let teacher = build(TEACHER)?;
            let weights = HintonKd { temperature: 3.0, hard_weight: 0.5, soft_weight: 0.5 };
            Box::new(move || {
                let answers = forward(&teacher, &images)?;
                train_step(&model, &mut adam, &images, |z| Ok(z.hinton_kd(&answers, &labels, weights)?.total))
            })
        }
    };
    Ok(Box::new(move || backend::of(device).bundle(&mut step)))
}

fn forward(model: &Model, images: &Tensor) -> Result<Tensor> {
    no_grad(|| model.forward(images, &mut Context::eval()))
}

fn train_step(
    model: &Model,
    optimizer: &mut Optimizer,
    images: &Tensor,
    loss: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    let loss = loss(&model.forward(images, &mut Context::train(Rng::new(0, 2)))?)?;
    let gradients = loss.backward()?;
    optimizer.step(&model.parameters(), &gradients, 1e-3)
}
