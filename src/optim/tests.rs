use super::*;
use crate::autograd::Gradients;
use crate::nn::{BatchNorm2d, Init, Linear, Module, Parameter};
use crate::tensor::{Device, Rng, Tensor};

fn parameter(values: &[f32]) -> (String, Parameter) {
    let value = Tensor::from_slice(values, [values.len()], Device::Cpu).unwrap();
    ("w".to_string(), Parameter::new(&value))
}

fn with_gradient(parameters: &[(String, Parameter)], values: &[f32]) -> Gradients {
    let mut gradients = Gradients::default();
    let gradient = Tensor::from_slice(values, [values.len()], Device::Cpu).unwrap();
    gradients.set(&parameters[0].1.get(), gradient);
    gradients
}

fn values(parameters: &[(String, Parameter)]) -> Vec<f32> {
    parameters[0].1.get().to_vec().unwrap()
}

const CONFIGS: [&str; 4] = ["sgd", "adam", "adamw", "rmsprop"];

#[test]
fn a_reloaded_optimiser_goes_on_as_if_never_stopped() {
    for name in CONFIGS {
        let config = OptimizerConfig::named(name, 0.9, 0.01).unwrap();
        let step = |optimizer: &mut Optimizer, parameters: &[(String, Parameter)], i: usize| {
            optimizer.step(parameters, &with_gradient(parameters, &[0.1 * i as f32, -0.2, 0.3]), 0.01).unwrap();
        };
        let whole = [parameter(&[1.0, 2.0, 3.0])];
        let mut optimizer = Optimizer::new(config);
        (0..6).for_each(|i| step(&mut optimizer, &whole, i));

        let stopped = [parameter(&[1.0, 2.0, 3.0])];
        let mut first = Optimizer::new(config);
        (0..3).for_each(|i| step(&mut first, &stopped, i));
        let mut second = Optimizer::new(config);
        second.load_state(&first.state()).unwrap();
        (3..6).for_each(|i| step(&mut second, &stopped, i));
        assert_eq!(values(&whole), values(&stopped), "{name}");
    }
}

#[test]
fn every_optimiser_finds_the_minimum_of_a_parabola() {
    for name in CONFIGS {
        let parameters = [parameter(&[3.0, -2.0])];
        let mut optimizer = Optimizer::new(OptimizerConfig::named(name, 0.5, 0.0).unwrap());
        for step in 0..1000 {
            let loss = parameters[0].1.get().square().unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            drop(loss);
            optimizer.step(&parameters, &gradients, 0.1 * 0.99f64.powi(step)).unwrap();
        }
        assert!(values(&parameters).iter().all(|x| x.abs() < 0.05), "{name}: {:?}", values(&parameters));
    }
}

#[test]
fn clipping_limits_the_norm_and_the_values() {
    let parameters = [parameter(&[0.0; 3])];
    let clipped = |gradients: &Gradients| gradients.get(&parameters[0].1.get()).unwrap().to_vec::<f32>().unwrap();
    let mut gradients = with_gradient(&parameters, &[3.0, 0.0, 4.0]);
    assert_eq!(clip_grad_norm(&parameters, &mut gradients, 1.0).unwrap(), 5.0);
    let [a, _, b]: [f32; 3] = clipped(&gradients).try_into().unwrap();
    assert!((a - 0.6).abs() < 1e-6 && (b - 0.8).abs() < 1e-6);
    let mut gradients = with_gradient(&parameters, &[-3.0, 0.25, 4.0]);
    clip_grad_value(&parameters, &mut gradients, 0.5).unwrap();
    assert_eq!(clipped(&gradients), [-0.5, 0.25, 0.5]);
    assert!(clip_grad_norm(&parameters, &mut gradients, 0.0).is_err());
    let mut optimizer = Optimizer::new(OptimizerConfig::named("sgd", 0.0, 0.0).unwrap());
    let gradients = with_gradient(&parameters, &[3.0, 0.0, 4.0]);
    optimizer.clipped_step(&parameters, &gradients, 1.0, 1.0).unwrap();
    let moved = values(&parameters);
    assert!((moved[0] + 0.6).abs() < 1e-6 && (moved[2] + 0.8).abs() < 1e-6, "{moved:?}");
}

#[test]
fn unknown_names_are_refused_with_a_hint() {
    let error = OptimizerConfig::named("adm", 0.9, 0.0).unwrap_err().to_string();
    assert!(error.contains("did you mean `adam`?"), "{error}");
    let error = Schedule::named("cosin", 0.1, 10, 0).unwrap_err().to_string();
    assert!(error.contains("did you mean `cosine`?"), "{error}");
}

#[test]
fn schedules_stay_finite_and_positive_for_any_length() {
    for name in ["constant", "step", "multi-step", "cosine", "one-cycle", "linear"] {
        for total in [0, 1, 2, 3, 10, 1000] {
            let schedule = Schedule::named(name, 0.1, total, 2).unwrap();
            for step in 0..total + 5 {
                let lr = schedule.lr(step);
                assert!(lr.is_finite() && (0.0..=0.1 + 1e-12).contains(&lr), "{name}, step {step} of {total}: {lr}");
            }
        }
    }
}

#[test]
fn an_average_follows_weights_and_running_statistics_of_a_model() {
    let norm = |value: f32| {
        let norm = BatchNorm2d::new(&mut Init::new(Rng::new(0, 0), Device::Cpu), 2).unwrap();
        let value = Tensor::from_slice(&[value, value], [2], Device::Cpu).unwrap();
        for (_, cell) in norm.parameters().into_iter().chain(norm.buffers()) {
            cell.set(&value).unwrap();
        }
        norm
    };
    let (average, model) = (norm(1.0), norm(2.0));
    follow(&average, &model, 0.75).unwrap();
    for (name, value) in average.state() {
        assert_eq!(value.to_vec::<f32>().unwrap(), [1.25, 1.25], "{name}");
    }
    assert_eq!(average.state().len(), 4, "weight, bias and both running statistics");
    assert!(model.state().values().all(|value| value.to_vec::<f32>().unwrap() == [2.0, 2.0]), "the model stays");
    let other = Linear::new(&mut Init::new(Rng::new(0, 0), Device::Cpu), 2, 1).unwrap();
    assert!(follow(&average, &other, 0.5).is_err() && follow(&average, &model, 1.5).is_err());
    assert_eq!([warmed_up(0.999, 0), warmed_up(0.999, 90)], [0.1, 0.91]);
    assert_eq!(warmed_up(0.999, 100_000), 0.999);
}
