use super::*;
use crate::autograd::no_grad;
use crate::tensor::{DType, Device, Rng, Tensor};

fn init() -> Init {
    Init::new(Rng::new(1, 2), Device::Cpu)
}

fn images(seed: u64, dims: [usize; 4]) -> Tensor {
    Tensor::normal(dims, 1.0, 2.0, DType::F32, Device::Cpu, Rng::new(seed, 0)).unwrap()
}

#[test]
fn dropout_zeroes_its_share_in_training_and_nothing_in_evaluation() {
    let x = Tensor::full([10_000], 1.0, DType::F32, Device::Cpu).unwrap();
    let dropout = Dropout { p: 0.3 };
    let y = dropout.forward(&x, &mut Context::train(Rng::new(5, 0))).unwrap().to_vec::<f32>().unwrap();
    let zeros = y.iter().filter(|v| **v == 0.0).count() as f64 / 1e4;
    assert!((zeros - 0.3).abs() < 0.02, "{zeros}");
    assert!(y.iter().all(|v| *v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
    assert_eq!(dropout.forward(&x, &mut Context::eval()).unwrap().to_vec::<f32>().unwrap(), vec![1.0; 10_000]);
}

#[test]
fn two_dropout_layers_of_one_pass_drop_different_elements() {
    let x = Tensor::full([1000], 1.0, DType::F32, Device::Cpu).unwrap();
    let mut cx = Context::train(Rng::new(5, 0));
    let mut pass = || Dropout { p: 0.5 }.forward(&x, &mut cx).unwrap().to_vec::<f32>().unwrap();
    assert_ne!(pass(), pass());
}

#[test]
fn batch_norm_tracks_statistics_in_training_and_uses_them_in_evaluation() {
    let norm = BatchNorm2d::new(&mut init(), 3).unwrap();
    let x = images(3, [8, 3, 4, 4]);
    for _ in 0..200 {
        norm.forward(&x, &mut Context::train(Rng::new(0, 0))).unwrap();
    }
    let train = norm.forward(&x, &mut Context::train(Rng::new(0, 0))).unwrap().to_vec::<f32>().unwrap();
    let eval = no_grad(|| norm.forward(&x, &mut Context::eval())).unwrap().to_vec::<f32>().unwrap();
    for (a, b) in train.iter().zip(&eval) {
        // The running variance is the unbiased one: 128/127 of the batch's.
        assert!((a - b).abs() < 0.02, "{a} {b}");
    }
    assert_eq!(norm.buffers().len(), 2);
}

#[test]
fn the_statistics_of_a_batch_can_be_used_without_being_tracked() {
    let layer = ConvNormRelu::new(&mut init(), 2, 3, 3, crate::ops::Conv2dOptions::padded(1)).unwrap();
    let x = images(1, [4, 2, 5, 5]);
    let output = |mut cx: Context| layer.forward(&x, &mut cx).unwrap().to_vec::<f32>().unwrap();
    let running = || layer.buffers().iter().map(|(_, b)| b.get().to_vec::<f32>().unwrap()).collect::<Vec<_>>();
    let before = running();
    let adapted = output(Context::eval().with_batch_statistics(0.0));
    assert_eq!(running(), before, "nothing is tracked");
    assert_ne!(adapted, output(Context::eval()));
    assert_eq!(adapted, output(Context::train(Rng::new(0, 0))), "what training computes");
    assert_ne!(running(), before);
}

#[test]
fn running_statistics_count_for_as_many_images_as_they_are_told_to() {
    let norm = BatchNorm2d::new(&mut init(), 2).unwrap();
    let x = images(3, [6, 2, 4, 4]);
    let output = |mut cx: Context| norm.forward(&x, &mut cx).unwrap().to_f64_vec().unwrap();
    let mixed = |source| output(Context::eval().with_batch_statistics(source));
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(close(&mixed(1e-6), &mixed(0.0)) && close(&mixed(1e9), &output(Context::eval())));
    // Running mean 0 and variance 1 count for as much as the batch.
    let (mean, var) = x.channel_moments().unwrap();
    let [mean, var] = [mean, var].map(|moments| moments.to_f64_vec().unwrap());
    let expected: Vec<f64> = x
        .to_f64_vec()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(i, x)| {
            let channel = i / 16 % 2;
            (x - mean[channel] / 2.0) / ((var[channel] + 1.0) / 2.0 + 1e-5).sqrt()
        })
        .collect();
    assert!(close(&mixed(6.0), &expected));
}

#[test]
fn a_convolution_with_its_normalisation_folded_in_is_the_two_layers_of_training() {
    let layer = ConvNormRelu::new(&mut init(), 2, 3, 3, crate::ops::Conv2dOptions::padded(1)).unwrap();
    let names: Vec<String> = layer.state().into_keys().collect();
    assert_eq!(names, ["norm.bias", "norm.running_mean", "norm.running_var", "norm.weight", "weight"]);
    let x = images(1, [8, 2, 5, 5]);
    let mut last = None;
    // The running statistics come close to those of the one batch.
    for _ in 0..200 {
        last = Some(layer.forward(&x, &mut Context::train(Rng::new(0, 0))).unwrap());
    }
    let (trained, evaluated) = (last.unwrap(), layer.forward(&x, &mut Context::eval()).unwrap());
    let pairs = trained.to_f64_vec().unwrap().into_iter().zip(evaluated.to_f64_vec().unwrap());
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    // Training divides by the biased deviation, the running variance is the unbiased one: 200 pixels differ by 1/400.
    assert!(worst < 0.02, "{worst}");
}

#[test]
fn parameters_keep_their_identity_when_their_value_changes() {
    let parameter = init().constant([2], 1.0).unwrap();
    let before = parameter.get();
    parameter.set(&Tensor::full([2], 5.0, DType::F32, Device::Cpu).unwrap()).unwrap();
    let loss = parameter.get().square().unwrap().sum(&[0], false).unwrap();
    let gradients = loss.backward().unwrap();
    assert_eq!(gradients.get(&before).unwrap().to_vec::<f32>().unwrap(), [10.0, 10.0]);
    assert_eq!(before.to_vec::<f32>().unwrap(), [1.0, 1.0], "a value taken earlier never changes");
    assert!(parameter.set(&Tensor::zeros([3], DType::F32, Device::Cpu).unwrap()).is_err());
}

#[test]
fn upsampling_repeats_pixels_and_sums_their_gradients() {
    let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0], [1, 1, 2, 2], Device::Cpu).unwrap().variable();
    let y = Upsample.forward(&x, &mut Context::eval()).unwrap();
    assert_eq!(y.shape()[..], [1, 1, 4, 4]);
    let expected = [1f32, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 3.0, 3.0, 4.0, 4.0];
    assert_eq!(y.to_vec::<f32>().unwrap(), expected);
    let gradients = y.square().unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(gradients.get(&x).unwrap().to_vec::<f32>().unwrap(), [8.0, 16.0, 24.0, 32.0]);
    assert!(Upsample.forward(&x.flatten(0).unwrap(), &mut Context::eval()).is_err());
}

#[test]
fn leaky_relu_lets_a_part_of_the_negative_side_through() {
    let x = Tensor::from_slice(&[-2f32, 3.0], [2], Device::Cpu).unwrap().variable();
    let y = LeakyRelu { slope: 0.25 }.forward(&x, &mut Context::eval()).unwrap();
    assert_eq!(y.to_vec::<f32>().unwrap(), [-0.5, 3.0]);
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(gradients.get(&x).unwrap().to_vec::<f32>().unwrap(), [0.25, 1.0]);
}
