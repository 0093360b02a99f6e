//! One training or inference step of the notebook's two networks, timed: `cargo bench --bench steps`.
//!
//! Prints one JSON object a line: `{"what", "median_ms", "min_ms", "n"}`, after a warm-up, on random images.

use kdengine::backend::params::HintonKd;
use kdengine::models::{architecture, Model};
use kdengine::nn::{Context, Module};
use kdengine::optim::{Optimizer, OptimizerConfig};
use kdengine::tensor::Rng;
use kdengine::{autograd::no_grad, DType, Device, Result, Tensor};
use std::time::Instant;

const BATCH: usize = 128;
const DEVICE: Device = Device::Cpu;

/// Times `step` and prints the result.
fn timed(what: &str, runs: usize, mut step: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..runs / 6 + 1 {
        step()?;
    }
    let mut ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        step()?;
        ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    ms.sort_by(f64::total_cmp);
    println!(r#"{{"what": "{what}", "median_ms": {:.4}, "min_ms": {:.4}, "n": {runs}}}"#, ms[runs / 2], ms[0]);
    Ok(())
}

fn model(name: &str) -> Result<Model> {
    Model::new(name, architecture(name)?.default_task, Rng::new(0, 1), DEVICE)
}

fn forward(model: &Model, images: &Tensor) -> Result<Tensor> {
    no_grad(|| model.forward(images, &mut Context::eval()))
}

/// Forward, loss, backward, Adam.
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

fn main() -> Result<()> {
    let images = Tensor::normal([BATCH, 1, 28, 28], 0.0, 1.0, DType::F32, DEVICE, Rng::new(0, 3))?;
    let one = Tensor::normal([1, 1, 28, 28], 0.0, 1.0, DType::F32, DEVICE, Rng::new(0, 4))?;
    let labels: Vec<i32> = (0..BATCH as i32).map(|i| i % 10).collect();
    let labels = Tensor::from_slice(&labels, [BATCH], DEVICE)?;
    let (teacher, student) = (model("teacher_net")?, model("student_net")?);
    let adam = || OptimizerConfig::named("adam", 0.9, 0.0).map(Optimizer::new);
    let (mut teacher_adam, mut student_adam) = (adam()?, adam()?);
    let weights = HintonKd { temperature: 3.0, hard_weight: 0.5, soft_weight: 0.5 };

    timed("teacher_train_step_b128", 30, || {
        train_step(&teacher, &mut teacher_adam, &images, |z| z.cross_entropy(&labels, 0.0))
    })?;
    timed("student_train_step_b128", 100, || {
        train_step(&student, &mut student_adam, &images, |z| z.cross_entropy(&labels, 0.0))
    })?;
    timed("distil_step_b128", 30, || {
        let answers = forward(&teacher, &images)?;
        train_step(&student, &mut student_adam, &images, |z| Ok(z.hinton_kd(&answers, &labels, weights)?.total))
    })?;
    timed("teacher_forward_b128", 30, || forward(&teacher, &images).map(drop))?;
    timed("student_forward_b128", 100, || forward(&student, &images).map(drop))?;
    timed("teacher_forward_b1", 200, || forward(&teacher, &one).map(drop))?;
    timed("student_forward_b1", 1000, || forward(&student, &one).map(drop))
}
