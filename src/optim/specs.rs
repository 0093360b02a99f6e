//! Optimisers, clipping, averages and schedules as the conformance fixtures run them.

use super::{clip_grad_norm, Optimizer, OptimizerConfig, Schedule};
use crate::autograd::Gradients;
use crate::error::{Error, Result};
use crate::nn::Parameter;
use crate::ops::{Case, OpSpec, Outputs};
use crate::tensor::{Shape, Tensor};

/// Everything of this module that has fixtures.
pub fn registry() -> &'static [OpSpec] {
    SPECS
}

const fn spec(name: &'static str, run: fn(&Case) -> Result<Outputs>) -> OpSpec {
    OpSpec { name, run, sample: None }
}

const SPECS: &[OpSpec] = &[
    spec("sgd", |case| {
        let (momentum, nesterov, weight_decay) =
            (case.number("momentum")?, case.flag("nesterov")?, case.number("weight_decay")?);
        optimise(case, OptimizerConfig::Sgd { momentum, nesterov, weight_decay })
    }),
    spec("adam", |case| {
        let (beta1, beta2, eps) = (case.number("beta1")?, case.number("beta2")?, case.number("eps")?);
        optimise(case, OptimizerConfig::Adam { beta1, beta2, eps, weight_decay: case.number("weight_decay")? })
    }),
    spec("adamw", |case| {
        let (beta1, beta2, eps) = (case.number("beta1")?, case.number("beta2")?, case.number("eps")?);
        optimise(case, OptimizerConfig::AdamW { beta1, beta2, eps, weight_decay: case.number("weight_decay")? })
    }),
    spec("rmsprop", |case| {
        let (alpha, eps, momentum) = (case.number("alpha")?, case.number("eps")?, case.number("momentum")?);
        optimise(case, OptimizerConfig::RmsProp { alpha, eps, momentum, weight_decay: case.number("weight_decay")? })
    }),
    spec("grad_clip_norm", |case| {
        case.require("eps", 1e-6)?;
        let names = ["a", "b"];
        let given = [case.tensor("a")?, case.tensor("b")?];
        let parameters = names.map(|name| (name.to_string(), Parameter::new(&given[usize::from(name == "b")])));
        let mut gradients = Gradients::default();
        for ((_, parameter), gradient) in parameters.iter().zip(&given) {
            gradients.set(&parameter.get(), gradient.detach());
        }
        let norm = clip_grad_norm(&parameters, &mut gradients, case.number("max_norm")?)?;
        let clipped = |i: usize| gradients.get(&parameters[i].1.get()).expect("set above").clone();
        let norm = Tensor::full(Shape::SCALAR, norm, given[0].dtype(), given[0].device())?;
        Ok(vec![("a", clipped(0)), ("b", clipped(1)), ("norm", norm)])
    }),
    spec("ema_update", |case| {
        let mut teacher = case.tensor("teacher")?.detach();
        let student = case.tensor("student")?;
        student.backend().lerp(&mut teacher, &student, case.number("momentum")?)?;
        Ok(vec![("teacher", teacher)])
    }),
    spec("lr_schedule", |case| {
        let schedule = schedule(case)?;
        let steps = case.tensor("steps")?;
        if case.count("steps")? != steps.numel() {
            return Err(Error::argument("case", "`steps` differs from the number of steps given"));
        }
        let rates: Vec<f64> = steps.to_f64_vec()?.iter().map(|step| schedule.lr(*step as u64)).collect();
        Ok(vec![("lrs", Tensor::from_slice(&rates, *steps.shape(), steps.device())?)])
    }),
];

/// Takes one step for each gradient in `grads: [steps, …]`.
fn optimise(case: &Case, config: OptimizerConfig) -> Result<Outputs> {
    let (start, all) = (case.tensor("param")?, case.tensor("grads")?.detach());
    let parameters = [("param".to_string(), Parameter::new(&start))];
    let lr = case.number("lr")?;
    let mut optimizer = Optimizer::new(config);
    for step in 0..all.shape()[0] {
        let mut gradients = Gradients::default();
        gradients.set(&parameters[0].1.get(), all.narrow(0, step, 1)?.reshape(*start.shape())?);
        optimizer.step(&parameters, &gradients, lr)?;
    }
    Ok(vec![("param", parameters[0].1.get().detach())])
}

fn schedule(case: &Case) -> Result<Schedule> {
    let base_lr = case.number("base_lr")?;
    let total = || Ok::<u64, Error>(case.count("total_steps")? as u64);
    match case.text("schedule")? {
        "step" => {
            Ok(Schedule::Step { base_lr, step_size: case.count("step_size")? as u64, gamma: case.number("gamma")? })
        }
        "multi_step" => {
            let milestones = case.counts("milestones")?.into_iter().map(|m| m as u64).collect();
            Ok(Schedule::MultiStep { base_lr, milestones, gamma: case.number("gamma")? })
        }
        "cosine" => {
            Ok(Schedule::Cosine { base_lr, min_lr: case.number("min_lr")?, total_steps: total()?, warmup_steps: 0 })
        }
        "cosine_warmup" => {
            case.require("formula", "s < w: base*(s+1)/w; else base/2*(1+cos(pi*(s-w)/(total-w)))")?;
            let warmup_steps = case.count("warmup_steps")? as u64;
            Ok(Schedule::Cosine { base_lr, min_lr: case.number("min_lr")?, total_steps: total()?, warmup_steps })
        }
        "one_cycle" => {
            case.require("anneal", "cos")?;
            Ok(Schedule::OneCycle {
                max_lr: case.number("max_lr")?,
                total_steps: total()?,
                pct_start: case.number("pct_start")?,
                div_factor: case.number("div_factor")?,
                final_div_factor: case.number("final_div_factor")?,
            })
        }
        "linear" => Ok(Schedule::Linear {
            base_lr,
            start_factor: case.number("start_factor")?,
            end_factor: case.number("end_factor")?,
            total_steps: total()?,
        }),
        other => Err(Error::argument("case", format!("unknown schedule `{other}`"))),
    }
}
