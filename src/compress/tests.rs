use super::*;
use crate::models::Task;
use crate::nn::{Context, InputRange};
use crate::optim::{Optimizer, OptimizerConfig};
use crate::tensor::{DType, Device, Rng, Tensor};
use std::collections::BTreeMap;

fn student() -> Model {
    Model::new("student_net", Task { input: [1, 8, 8], classes: 4 }, Rng::new(3, 0), Device::Cpu).unwrap()
}

fn values(model: &Model, name: &str) -> Vec<f32> {
    model.state()[name].to_vec().unwrap()
}

fn levels(values: &[f32]) -> usize {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.dedup();
    sorted.len()
}

fn tensor(values: &[f32], dims: [usize; 2]) -> Tensor {
    Tensor::from_slice(values, dims, Device::Cpu).unwrap()
}

#[test]
fn weights_are_rounded_as_the_papers_have_it() {
    let weight = tensor(&[1.0, -0.2, 0.1, -4.0, 3.0, 0.4], [2, 3]);
    let round = |q: Quantization| q.round(&weight).unwrap().to_vec::<f32>().unwrap();
    let near = |found: Vec<f32>, expected: [f64; 6]| {
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} instead of {expected}");
        }
    };
    let grid = |x: f64, scale: f64| (x / scale).round() * scale;
    near(round(Quantization::Int8), [1.0, -0.2, 0.1, -4.0, 3.0, 0.4].map(|x| grid(x, 4.0 / 127.0)));
    let per_channel = round(Quantization::Int8PerChannel);
    near(
        per_channel,
        [(1.0, 1.0), (-0.2, 1.0), (0.1, 1.0), (-4.0, 4.0), (3.0, 4.0), (0.4, 4.0)].map(|(x, m)| grid(x, m / 127.0)),
    );
    // mean |w| = 1.45, the threshold 1.015: what is left are −4 and 3.
    near(round(Quantization::Ternary), [0.0, 0.0, 0.0, -3.5, 3.5, 0.0]);
    let (a, b) = (1.3 / 3.0, 7.4 / 3.0);
    near(round(Quantization::Binary), [a, -a, a, -b, b, b]);
    for quantization in ALL_KINDS {
        let zeros = quantization.round(&tensor(&[0.0; 6], [2, 3])).unwrap();
        assert!(zeros.is_finite().unwrap(), "{}", quantization.name());
        let variable = weight.variable();
        let rounded = quantization.round(&variable).unwrap();
        let gradients = rounded.sum_all().unwrap().backward().unwrap();
        assert!(gradients.get(&variable).is_some(), "{}: the gradient passes straight through", quantization.name());
    }
}

const ALL_KINDS: [Quantization; 4] =
    [Quantization::Int8, Quantization::Int8PerChannel, Quantization::Ternary, Quantization::Binary];

#[test]
fn a_network_computes_with_rounded_weights_keeps_the_others_and_has_the_rounded_ones_in_the_end() {
    let images = Tensor::uniform([5, 1, 8, 8], 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(1, 1)).unwrap();
    let answers = |model: &Model| model.forward(&images, &mut Context::eval()).unwrap().to_vec::<f32>().unwrap();
    for (quantization, most) in [(Quantization::Int8, 255), (Quantization::Ternary, 3), (Quantization::Binary, 64)] {
        let model = student();
        let (plain, masters) = (answers(&model), values(&model, "conv2.weight"));
        quantization.begin(&model);
        let rounded = answers(&model);
        assert_ne!(plain, rounded, "{}", quantization.name());
        assert_eq!(values(&model, "conv2.weight"), masters, "{}", quantization.name());
        let bytes = quantization.packed_bytes(&model);
        quantization.finish(&model).unwrap();
        assert_eq!(answers(&model), rounded, "{}", quantization.name());
        assert!(levels(&values(&model, "conv2.weight")) <= most, "{}", quantization.name());
        let first_is_kept = values(&model, "conv1.weight") == values(&student(), "conv1.weight");
        assert_eq!(first_is_kept, quantization != Quantization::Int8, "{}", quantization.name());
        assert_eq!(bytes, quantization.packed_bytes(&model));
    }
    // 144 + 4,608 + 8,192 + 256 weights, 116 biases.
    let biases = 4 * (16 + 32 + 64 + 4);
    assert_eq!(Quantization::Int8.packed_bytes(&student()), 13_200 + 4 * 4 + biases);
    assert_eq!(Quantization::Binary.packed_bytes(&student()), 4 * (144 + 256) + 12_800 / 8 + 4 * (32 + 64) + biases);
}

#[test]
fn int8_rounds_the_inputs_of_layers_in_a_range_that_follows_the_batches() {
    let (model, name) = (student(), "conv1.weight".to_string());
    Quantization::Int8.begin(&model);
    let images = |most: f64| {
        let uniform = Tensor::uniform([3, 1, 8, 8], 0.0, 0.9, DType::F32, Device::Cpu, Rng::new(1, 1)).unwrap();
        let mut values = uniform.affine(most, 0.0).unwrap().to_vec::<f32>().unwrap();
        values[0] = most as f32;
        Tensor::from_slice(&values, [3, 1, 8, 8], Device::Cpu).unwrap()
    };
    let run = |x: &Tensor, mut cx: Context| model.forward(x, &mut cx).unwrap().to_vec::<f32>().unwrap();
    run(&images(1.0), Context::train(Rng::new(0, 0)));
    assert_eq!(input_ranges(&model)[&name], InputRange { largest: 1.0, batches: 1 }, "the first batch is the range");
    run(&images(2.0), Context::train(Rng::new(0, 0)));
    // Of the first batch 2/11 is left.
    let InputRange { largest: range, batches } = input_ranges(&model)[&name];
    assert!(f64::from(range - 20.0 / 11.0).abs() < 1e-6 && batches == 2);
    run(&images(50.0), Context::eval());
    assert_eq!(input_ranges(&model)[&name], InputRange { largest: range, batches }, "evaluation changes nothing");
    set_input_ranges(&model, &BTreeMap::from([(name.clone(), InputRange { largest: 1.0, batches: 1_000_000 })]));
    run(&images(2.0), Context::train(Rng::new(0, 0)));
    assert!((input_ranges(&model)[&name].largest - 1.01).abs() < 1e-6, "late batches change little");

    // What differs by less than half a level is the same to the network; what lies beyond the range is cut off.
    let range = f64::from(input_ranges(&model)[&name].largest);
    let (level, far) = (range / 127.0, images(1.0).affine(0.0, 5.0).unwrap());
    let at = |value: f64| run(&images(1.0).affine(0.0, value).unwrap(), Context::eval());
    assert_eq!(at(40.0 * level), at(40.3 * level));
    assert_ne!(at(40.0 * level), at(41.0 * level));
    assert_eq!(at(range), run(&far, Context::eval()));

    // A finished network goes on so, and so does one that is given the same weights and ranges.
    let before = at(0.3);
    Quantization::Int8.finish(&model).unwrap();
    let again = student();
    crate::nn::load_state(&again, &model.state()).unwrap();
    round_inputs(&again, &largest_inputs(&model));
    let image = images(1.0).affine(0.0, 0.3).unwrap();
    assert_eq!(before, model.forward(&image, &mut Context::eval()).unwrap().to_vec::<f32>().unwrap());
    assert_eq!(before, again.forward(&image, &mut Context::eval()).unwrap().to_vec::<f32>().unwrap());
}

#[test]
fn an_input_beyond_the_average_range_passes_its_gradient_in_training() {
    let model = student();
    Quantization::Int8.begin(&model);
    let view = weights(&model)[0].1.view().unwrap();
    view.set_range(InputRange { largest: 1.0, batches: 1_000_000 });
    let x = tensor(&[0.5, -3.0, 2.0, 4.0], [1, 4]).variable();
    let gradient =
        |rounded: Tensor| rounded.sum_all().unwrap().backward().unwrap().get(&x).unwrap().to_vec::<f32>().unwrap();
    let rounded = view.input(&x, true).unwrap();
    for (found, given) in rounded.to_vec::<f32>().unwrap().iter().zip([0.5, -3.0, 2.0, 4.0]) {
        assert!((found - given).abs() <= 0.5 * 4.0 / 127.0 + 1e-6, "{given} became {found}");
    }
    assert_eq!(gradient(rounded), [1.0; 4]);
    view.set_range(InputRange { largest: 1.0, batches: 1_000_000 });
    assert_eq!(gradient(view.input(&x, false).unwrap()), [1.0, 0.0, 0.0, 0.0], "evaluation cuts off");
}

/// The loss of a small network after 150 steps on the question which quarter of an image is brightest.
fn loss_after_training(quantization: Option<Quantization>) -> f64 {
    let task = Task { input: [1, 4, 4], classes: 4 };
    let model = Model::new("mlp-16-16", task, Rng::new(3, 0), Device::Cpu).unwrap();
    let noise = Tensor::uniform([64, 1, 4, 4], 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(1, 1)).unwrap();
    let mut pixels = noise.to_vec::<f32>().unwrap();
    for (i, pixel) in pixels.iter_mut().enumerate() {
        let (image, row, column) = (i / 16, i % 16 / 4, i % 4);
        *pixel = 0.1 * *pixel + if image % 4 == row / 2 * 2 + column / 2 { 0.1 } else { 0.0 };
    }
    let labels: Vec<i32> = (0..64).map(|image| image % 4).collect();
    let images = Tensor::from_slice(&pixels, [64, 1, 4, 4], Device::Cpu).unwrap();
    let labels = Tensor::from_slice(&labels, [64], Device::Cpu).unwrap();
    let loss = |cx: &mut Context| model.forward(&images, cx).unwrap().cross_entropy(&labels, 0.0).unwrap();
    quantization.iter().for_each(|quantization| quantization.begin(&model));
    let mut optimizer = Optimizer::new(OptimizerConfig::named("adam", 0.9, 0.0).unwrap());
    for _ in 0..150 {
        let gradients = loss(&mut Context::train(Rng::new(0, 0))).backward().unwrap();
        optimizer.step(&model.parameters(), &gradients, 0.01).unwrap();
    }
    quantization.iter().for_each(|quantization| quantization.finish(&model).unwrap());
    loss(&mut Context::eval()).item().unwrap()
}

#[test]
fn a_network_of_8_bits_learns_what_one_in_f32_learns() {
    let float = loss_after_training(None);
    for quantization in [Quantization::Int8, Quantization::Int8PerChannel] {
        let loss = loss_after_training(Some(quantization));
        assert!((loss - float).abs() < 0.05, "{}: a loss of {loss} instead of {float}", quantization.name());
    }
}

#[test]
fn the_smallest_weights_go_by_a_cubic_schedule_and_stay_away() {
    let model = student();
    let pruning = Pruning::parse("unstructured:0.8").unwrap();
    let before = values(&model, "fc1.weight");
    let mut masks = Masks::new(pruning, &model, 300);
    let mut shares = Vec::new();
    for step in 0..300 {
        masks.after_step(step).unwrap();
        if [99, 199, 299].contains(&step) {
            shares.push(sparsity(&model).unwrap());
        }
    }
    // Half-way through the ramp of 200 steps 1 − ½³ of the final share is gone.
    for (found, expected) in shares.iter().zip([0.8 * 0.875, 0.8, 0.8]) {
        assert!((found - expected).abs() < 0.005, "{shares:?}");
    }
    let after = values(&model, "fc1.weight");
    let largest_gone = before.iter().zip(&after).filter(|(_, a)| **a == 0.0).fold(0f32, |m, (b, _)| m.max(b.abs()));
    assert!(after.iter().all(|a| *a == 0.0 || a.abs() >= largest_gone), "the smallest are gone");

    // A step of the optimiser brings nothing back, and masks survive a checkpoint.
    let mut again = Masks::new(pruning, &model, 300);
    again.load_state(&masks.state().unwrap()).unwrap();
    let (_, weight) = model.parameters().into_iter().find(|(name, _)| name == "fc1.weight").unwrap();
    weight.set(&weight.get().detach().affine(1.0, 1.0).unwrap()).unwrap();
    again.after_step(299).unwrap();
    let zeros = |values: &[f32]| values.iter().map(|x| *x == 0.0).collect::<Vec<_>>();
    assert_eq!(zeros(&values(&model, "fc1.weight")), zeros(&after));
    assert!(again.load_state(&Default::default()).unwrap_err().to_string().contains("has no mask"));
}

#[test]
fn structured_pruning_takes_whole_filters_with_their_biases() {
    let model = student();
    let size = |model: &Model| {
        let weight = values(model, "conv2.weight");
        weight.chunks(16 * 9).map(|filter| filter.iter().map(|w| w.abs()).sum()).collect::<Vec<f32>>()
    };
    let before = size(&model);
    let mut masks = Masks::new(Pruning::parse("structured:0.5").unwrap(), &model, 30);
    (0..30).for_each(|step| masks.after_step(step).unwrap());
    let (after, bias) = (size(&model), values(&model, "conv2.bias"));
    let mut sorted = before.clone();
    sorted.sort_by(f32::total_cmp);
    for i in 0..32 {
        assert_eq!(after[i] == 0.0, before[i] < sorted[16], "filter {i} goes if it is among the smaller half");
        assert_eq!(bias[i] == 0.0, after[i] == 0.0, "filter {i}'s bias goes with it");
    }
    assert!(values(&model, "fc1.weight").iter().all(|w| *w != 0.0), "linear layers have no filters");
}

#[test]
fn what_cannot_be_done_is_refused_with_what_can() {
    for (quantize, prune, expected) in [
        ("int9", "", "did you mean `int8`?"),
        ("", "0.5", "write unstructured:0.9"),
        ("", "structured:1", "a share below 1"),
        ("", "random:0.5", "unstructured:0.9"),
        ("binary", "unstructured:0.5", "binary weights cannot be 0"),
    ] {
        let error = Compression::parse(quantize, prune).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(Compression::parse("", "").unwrap().is_none());
    assert_eq!(Compression::parse("int8", "structured:0.5").unwrap().to_string(), "int8, structured:0.5");
}
