//! Every fused op equals the ops that it replaces, forward and backward.

use kdengine::backend::params::NoiseContrast;
use kdengine::ops::Conv2dOptions;
use kdengine::tensor::Rng;
use kdengine::{DType, Device, Result, Tensor};
use proptest::prelude::*;

/// Runs `f` on fresh variables and returns the output and the gradients of a random weighting of it.
fn outcome(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
    let variables: Vec<Tensor> = inputs.iter().map(Tensor::variable).collect();
    let y = f(&variables).unwrap();
    let seed = Tensor::normal(*y.shape(), 0.0, 1.0, y.dtype(), y.device(), Rng::new(1, 99)).unwrap();
    let gradients = y.backward_from(&seed).unwrap();
    let gradient = |x: &Tensor| gradients.get(x).expect("a gradient").clone();
    [y].into_iter().chain(variables.iter().map(gradient)).collect()
}

/// Outputs and gradients of both sides agree to `tolerance`, relative to the largest value.
fn assert_same(
    inputs: &[Tensor],
    tolerance: f64,
    fused: impl Fn(&[Tensor]) -> Result<Tensor>,
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    for (fused, plain) in outcome(inputs, fused).iter().zip(outcome(inputs, plain)) {
        assert_eq!(fused.shape(), plain.shape());
        let (fused, plain) = (fused.to_f64_vec().unwrap(), plain.to_f64_vec().unwrap());
        let scale = plain.iter().fold(1.0f64, |max, x| max.max(x.abs()));
        for (a, b) in fused.iter().zip(&plain) {
            assert!((a - b).abs() <= tolerance * scale, "{a} against {b}");
        }
    }
}

/// Normal tensors: double precision on the reference backend, single on the fast one.
fn tensors(shapes: &[&[usize]], device: Device, seed: u64) -> Vec<Tensor> {
    let dtype = if device == Device::Reference { DType::F64 } else { DType::F32 };
    let tensor = |(i, shape): (usize, &&[usize])| {
        let shape = kdengine::Shape::new(shape).unwrap();
        Tensor::normal(shape, 0.0, 1.0, dtype, device, Rng::new(seed, i as u64)).unwrap()
    };
    shapes.iter().enumerate().map(tensor).collect()
}

const DEVICES: [(Device, f64); 2] = [(Device::Reference, 1e-12), (Device::Cpu, 1e-5)];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn linear_relu_is_linear_then_relu(n in 1usize..20, inner in 1usize..40, out in 1usize..40, seed: u64) {
        for (device, tolerance) in DEVICES {
            let inputs = tensors(&[&[n, inner], &[out, inner], &[out]], device, seed);
            let fused = |t: &[Tensor]| t[0].linear_relu(&t[1], Some(&t[2]));
            assert_same(&inputs, tolerance, fused, |t| t[0].linear(&t[1], Some(&t[2]))?.relu());
        }
    }

    #[test]
    fn fused_convolutions_are_their_parts(
        (n, c_in, c_out) in (1usize..4, 1usize..5, 1usize..9),
        (h, w, k) in (4usize..12, 4usize..12, 1usize..4),
        (padding, stride) in (0usize..2, 1usize..3),
        seed: u64,
    ) {
        let options = Conv2dOptions { stride: [stride, stride], ..Conv2dOptions::padded(padding) };
        for (device, tolerance) in DEVICES {
            let inputs = tensors(&[&[n, c_in, h, w], &[c_out, c_in, k, k], &[c_out]], device, seed);
            let fused = |t: &[Tensor]| t[0].conv2d_relu(&t[1], Some(&t[2]), options);
            assert_same(&inputs, tolerance, fused, |t| t[0].conv2d(&t[1], Some(&t[2]), options)?.relu());
            let fits = |len: usize| (len + 2 * padding - k) / stride + 1 >= 2;
            if fits(h) && fits(w) {
                let fused = |t: &[Tensor]| t[0].conv2d_relu_pool(&t[1], &t[2], options);
                let plain = |t: &[Tensor]| t[0].conv2d(&t[1], Some(&t[2]), options)?.relu()?.max_pool2d(2, 2, 0);
                assert_same(&inputs, tolerance, fused, plain);
            }
        }
    }
}

#[test]
fn batch_normalisation_folded_into_a_convolution_is_the_same_function() {
    for (device, tolerance) in DEVICES {
        // Image, weight, scale and shift have gradients; running statistics are constants.
        let mut inputs = tensors(&[&[3, 4, 7, 6], &[5, 4, 3, 3], &[5], &[5], &[5], &[5]], device, 1);
        let (var, mean) = (inputs.pop().unwrap().square().unwrap().affine(1.0, 0.1).unwrap(), inputs.pop().unwrap());
        let options = Conv2dOptions::padded(1);
        let folded = |t: &[Tensor]| {
            let (weight, bias) = t[1].fold_batch_norm(&t[2], &t[3], &mean, &var, 1e-5)?;
            t[0].conv2d_relu(&weight, Some(&bias), options)
        };
        let plain =
            |t: &[Tensor]| t[0].conv2d(&t[1], None, options)?.batch_norm_eval(&t[2], &t[3], &mean, &var, 1e-5)?.relu();
        assert_same(&inputs, tolerance, folded, plain);
    }
}

#[test]
fn noise_contrastive_estimation_is_its_parts() {
    let (n, rows, width, tau, z, noise) = (5, 40, 7, 0.5, 3.0f64, 0.4f64);
    for (device, tolerance) in DEVICES {
        let [vectors, memory, counts] =
            tensors(&[&[n, width], &[rows, width], &[n, rows]], device, 2).try_into().unwrap();
        let counts = counts.abs().unwrap();
        let own = Tensor::from_slice(&[3, 0, 39, 3, 17], [n], device).unwrap();
        let p = NoiseContrast { tau, shift: (z * noise).ln(), floor: 1.0 };
        let fused = |t: &[Tensor]| t[0].noise_contrastive_loss(&memory, &own, &counts, p);
        // −log h of the own row and −log(1 − h) of the others, h = e / (e + noise), e = exp(v·m/τ) / Z.
        let plain = |t: &[Tensor]| {
            let scores = t[0].matmul_transposed(&memory)?.affine(1.0 / tau, 0.0)?;
            let right = t[0].mul(&memory.gather_rows(&own)?)?.sum(&[1], false)?.affine(1.0 / tau, 0.0)?;
            let [all, right] = [scores, right].map(|x| x.exp().unwrap().affine(1.0 / z, 0.0).unwrap());
            let wrong = all.affine(1.0 / noise, 1.0)?.log()?.mul(&counts)?.sum_all()?;
            let right = right.div(&right.affine(1.0, noise)?)?.log()?.sum_all()?;
            wrong.sub(&right)?.affine(1.0 / n as f64, 0.0)
        };
        assert_same(&[vectors], tolerance, fused, plain);
    }
}

#[test]
fn a_broken_weight_shows_through_relu_and_pooling() {
    let x = Tensor::full([1, 1, 4, 4], 1.0, DType::F32, Device::Cpu).unwrap();
    let weight = Tensor::full([1, 1, 1, 1], f64::NAN, DType::F32, Device::Cpu).unwrap();
    let bias = Tensor::zeros([1], DType::F32, Device::Cpu).unwrap();
    let pooled = x.conv2d_relu_pool(&weight, &bias, Conv2dOptions::default()).unwrap();
    let plain = x.conv2d_relu(&weight, None, Conv2dOptions::default()).unwrap();
    for y in [&pooled, &plain, &plain.relu().unwrap(), &plain.max_pool2d(2, 2, 0).unwrap()] {
        assert!(y.to_f64_vec().unwrap().iter().all(|x| x.is_nan()), "{y:?}");
    }
}
