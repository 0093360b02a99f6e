//! Products on tensor cores against the reference in `f64`.
//!
//! How far a result may be off follows from the format: operands are rounded to the nearest number of p bits, with u = 2⁻ᵖ, so a product
//! is off by at most (2u + u²)·|a·b|, and a sum of k of them in `f32` by another k·2⁻²⁴·Σ|a·b|. Σ|a·b| is what the same kernel computes
//! from the absolute values of its inputs. Half precision adds 2⁻²⁵ to an operand's error, or of a scaled gradient 2⁻³⁵. ReLU and maxima
//! add nothing to that.

use super::check::run;
use super::kernels::{normal, Kernel};
use kdengine::backend::cuda::{emulator::with_schedule, gpu_count};
use kdengine::backend::params::{Conv2dGeometry, Matmul, Side};
use kdengine::backend::precision::{with, Precision};
use kdengine::backend::{self, Backend};
use kdengine::{DType, Device, Tensor};
use proptest::prelude::*;

/// The formats, and the significant bits of their numbers: TF32 and half precision store 10 behind the leading one, bfloat16 7.
const FORMATS: [(Precision, i32); 3] = [(Precision::Tf32, 11), (Precision::Bf16, 8), (Precision::F16, 11)];
const SCHEDULES: u64 = 8;

/// How far the CPU and tensor cores may be apart, in units of the sum of the products' absolute values: both round the operands to the same
/// numbers, and sum in `f32`, the CPU by minimal filtering where that is faster.
const ROUNDED_ALIKE: f64 = 2e-5;

/// How far a sum of `k` products may be off, in units of the sum of their absolute values.
fn tolerance(bits: i32, k: usize) -> f64 {
    let u = 2f64.powi(-bits);
    2.0 * u + u * u + (k + 2) as f64 * 2f64.powi(-24)
}

/// How far a sum of `k` products of these inputs may be off for want of exponents.
fn underflow(precision: Precision, inputs: &[Tensor], k: usize) -> f64 {
    let largest = |x: &Tensor| x.to_f64_vec().unwrap().iter().fold(0.0f64, |a, b| a.max(b.abs()));
    let step = if precision == Precision::F16 { 2f64.powi(-25) } else { 0.0 };
    2.0 * step * k as f64 * inputs.iter().map(largest).fold(0.0, f64::max)
}

/// A kernel's outputs in `f64` on the reference backend, from inputs to which `f` was applied.
fn reference(inputs: &[Tensor], kernel: Kernel, f: impl Fn(&Tensor) -> Tensor) -> Vec<Vec<f64>> {
    let exact = |x: &Tensor| if x.dtype() == DType::F32 { f(&x.to_dtype(DType::F64).unwrap()) } else { x.clone() };
    let inputs: Vec<Tensor> = inputs.iter().map(exact).collect();
    kernel(backend::of(Device::Reference), &inputs).iter().map(|y| y.to_f64_vec().unwrap()).collect()
}

fn emulated(precision: Precision, seed: u64, inputs: &[Tensor], kernel: Kernel) -> Vec<Tensor> {
    with_schedule(seed, || on(Device::Emulator, precision, inputs, kernel))
}

fn on(device: Device, precision: Precision, inputs: &[Tensor], kernel: Kernel) -> Vec<Tensor> {
    let outputs = with(precision, || run(device, inputs, kernel));
    outputs.iter().map(|y| y.to_host().unwrap()).collect()
}

/// Every output, each of sums of `k` products, is as near as the format allows, has the same bits under every schedule, and other bits than
/// in `f32` (so that tensor cores were at work).
fn check(name: &str, inputs: &[Tensor], ks: &[usize], kernel: Kernel) {
    let (expected, scale) = (reference(inputs, kernel, Tensor::clone), reference(inputs, kernel, |x| x.abs().unwrap()));
    let in_f32 = emulated(Precision::F32, 0, inputs, kernel);
    for (precision, bits) in FORMATS {
        let runs: Vec<Vec<Tensor>> = (0..SCHEDULES).map(|seed| emulated(precision, seed, inputs, kernel)).collect();
        let on_gpu = (gpu_count() > 0).then(|| on(Device::Cuda(0), precision, inputs, kernel));
        for (i, &k) in ks.iter().enumerate() {
            let bytes = |run: &[Tensor]| run[i].storage().bytes().to_vec();
            assert!(
                runs.iter().all(|run| bytes(run) == bytes(&runs[0])),
                "{name} in {precision}: output {i} depends on the order"
            );
            let found = runs[0][i].to_f64_vec().unwrap();
            let underflow = underflow(precision, inputs, k);
            for (device, found) in [("emulator", Some(&runs[0])), ("GPU", on_gpu.as_ref())] {
                let Some(found) = found.map(|outputs| outputs[i].to_f64_vec().unwrap()) else { continue };
                let off = |j: usize| (found[j] - expected[i][j]).abs() - tolerance(bits, k) * scale[i][j] - underflow;
                let worst = (0..found.len()).map(off).fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) });
                assert!(
                    worst <= 0.0,
                    "{name} in {precision} on the {device}: output {i} is off by {worst:.1e} too much"
                );
            }
            let on_cpu = with(precision, || kernel(backend::of(Device::Cpu), inputs));
            let [on_cpu, found_there] = [&on_cpu[i], &runs[0][i]].map(|y| y.to_f64_vec().unwrap());
            let apart = |j: usize| (on_cpu[j] - found_there[j]).abs() - ROUNDED_ALIKE * scale[i][j];
            let worst = (0..found.len()).map(apart).fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) });
            assert!(
                worst <= 0.0,
                "{name} in {precision}: output {i} of the CPU is apart by {worst:.1e} more than it may be"
            );
            let nothing = found.iter().all(|&x| x == 0.0);
            assert!(nothing || bytes(&runs[0]) != bytes(&in_f32), "{name} in {precision}: output {i} is as in f32");
        }
    }
}

fn matmul([m, k, n]: [usize; 3], batch: usize, [transpose_a, transpose_b, relu, shared]: [bool; 4], seed: u64) {
    let p = Matmul { transpose_a, transpose_b, relu, ..Matmul::default() };
    let a = if transpose_a { [batch, k, m] } else { [batch, m, k] };
    let b = if transpose_b { [batch, n, k] } else { [batch, k, n] };
    let inputs = [normal(&a, seed), normal(&b[usize::from(shared)..], seed ^ 1), normal(&[n], seed ^ 2)];
    check("matmul", &inputs, &[k, k], &|backend, t| {
        [None, Some(&t[2])].into_iter().map(|bias| backend.matmul(p, &t[0], &t[1], bias).unwrap()).collect()
    });
}

/// A convolution's inputs: images, weights, bias.
fn operands(g: &Conv2dGeometry, seed: u64) -> [Tensor; 3] {
    let Conv2dGeometry { n, c_in, h, w, c_out, kh, kw, groups, .. } = *g;
    [normal(&[n, c_in, h, w], seed), normal(&[c_out, c_in / groups, kh, kw], seed ^ 1), normal(&[c_out], seed ^ 2)]
}

fn conv2d(g: &Conv2dGeometry, seed: u64) {
    let (forward, backward) = (g.c_in / g.groups * g.kh * g.kw, g.c_out / g.groups * g.kh * g.kw);
    let [x, weight, bias] = operands(g, seed);
    let dy = normal(&[g.n, g.c_out, g.out_h(), g.out_w()], seed ^ 3);
    let ks = [forward, forward, backward, g.n * g.out_h() * g.out_w()];
    check("conv2d", &[x.clone(), weight.clone(), bias.clone(), dy], &ks, &|backend, t| {
        vec![
            backend.conv2d(g, &t[0], &t[1], None, false).unwrap(),
            backend.conv2d(g, &t[0], &t[1], Some(&t[2]), true).unwrap(),
            backend.conv2d_grad_input(g, &t[3], &t[1]).unwrap(),
            backend.conv2d_grad_weight(g, &t[0], &t[3], false).unwrap().0,
        ]
    });
    if g.out_h() < 2 || g.out_w() < 2 {
        return;
    }
    let (y, winner) = backend::of(Device::Reference).conv2d_relu_pool(g, &x, &weight, &bias).unwrap();
    let dy = normal(y.shape(), seed ^ 4);
    let ks = [forward, backward, y.numel() / g.c_out];
    check("conv2d_relu_pool", &[x, weight, bias, winner, dy], &ks, &|backend, t| {
        vec![
            backend.conv2d_relu_pool(g, &t[0], &t[1], &t[2]).unwrap().0,
            backend.conv2d_pooled_grad_input(g, &t[4], &t[3], &t[1]).unwrap(),
            backend.conv2d_pooled_grad_weight(g, &t[0], &t[4], &t[3]).unwrap().0,
        ]
    });
    winners(g, seed);
}

/// The winner of a window is its largest pixel, or one that rounding may take for it; no winner where all may be negative.
fn winners(g: &Conv2dGeometry, seed: u64) {
    let inputs = operands(g, seed);
    let conv: Kernel = &|backend, t| vec![backend.conv2d(g, &t[0], &t[1], Some(&t[2]), false).unwrap()];
    let (exact, scale) = (reference(&inputs, conv, Tensor::clone), reference(&inputs, conv, |x| x.abs().unwrap()));
    let pool: Kernel = &|backend, t| vec![backend.conv2d_relu_pool(g, &t[0], &t[1], &t[2]).unwrap().1];
    let (h, w) = (g.out_h() / 2, g.out_w() / 2);
    for (precision, bits) in FORMATS {
        let tolerance = tolerance(bits, g.c_in / g.groups * g.kh * g.kw);
        let underflow = underflow(precision, &inputs, g.c_in / g.groups * g.kh * g.kw);
        let found = emulated(precision, 0, &inputs, pool)[0].to_f64_vec().unwrap();
        for (window, &winner) in found.iter().enumerate() {
            let (plane, y, x) = (window / (h * w), window / w % h * 2, window % w * 2);
            let at = |i: usize| (plane * g.out_h() + y + i / 2) * g.out_w() + x + i % 2;
            // The least and the most that a pixel may have been taken for.
            let range = |i: usize| {
                let off = tolerance * scale[0][at(i)] + underflow;
                (exact[0][at(i)] - off, exact[0][at(i)] + off)
            };
            let least = (0..4).map(|i| range(i).0).fold(0.0, f64::max);
            let most = if winner == 4.0 { 0.0 } else { range(winner as usize).1 };
            assert!(most >= least, "{precision}: pixel {winner} wins window {window}");
        }
    }
}

fn geometry(n: usize, [c_in, c_out]: [usize; 2], [h, w]: [usize; 2]) -> Conv2dGeometry {
    let (stride, padding, dilation) = ([1, 1], [1, 1], [1, 1]);
    Conv2dGeometry { n, c_in, h, w, c_out, kh: 3, kw: 3, stride, padding, dilation, groups: 1 }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) })]

    #[test]
    fn products_of_matrices(
        sizes in prop::array::uniform3(prop_oneof![4 => 1usize..20, 1 => 30usize..70]),
        batch in 1usize..4,
        flags in prop::array::uniform4(any::<bool>()),
        seed: u64,
    ) {
        matmul(sizes, batch, flags, seed);
    }

    #[test]
    fn convolutions(
        (n, groups) in (1usize..4, 1usize..4),
        (c_in, c_out) in (5usize..9, 2usize..20),
        (h, w, kh, kw) in (3usize..12, 3usize..12, 1usize..4, 1usize..4),
        stride in prop::array::uniform2(1usize..3),
        padding in prop::array::uniform2(0usize..3),
        dilation in prop::array::uniform2(1usize..3),
        seed: u64,
    ) {
        let (c_in, c_out) = (c_in * groups, c_out * groups);
        let g = Conv2dGeometry { n, c_in, h, w, c_out, kh, kw, stride, padding, dilation, groups };
        prop_assume!(g.out_h() > 0 && g.out_w() > 0);
        conv2d(&g, seed);
    }

    #[test]
    fn convolutions_of_3_by_3(
        n in 1usize..5,
        channels in [5usize..40, 2usize..40],
        sides in prop_oneof![[1usize..12, 1usize..12], [1usize..4, 20usize..70]],
        seed: u64,
    ) {
        conv2d(&geometry(n, channels, sides), seed);
    }
}

#[test]
fn what_pooling_left_nothing_of_has_no_gradient() {
    let g = geometry(2, [8, 9], [1, 5]);
    let [x, weight, bias] = operands(&g, 1);
    let kernel: Kernel = &|backend, t| {
        let (y, winner) = backend.conv2d_relu_pool(&g, &t[0], &t[1], &t[2]).unwrap();
        let dx = backend.conv2d_pooled_grad_input(&g, &y, &winner, &t[1]).unwrap();
        vec![dx, backend.conv2d_pooled_grad_weight(&g, &t[0], &y, &winner).unwrap().0]
    };
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
        for gradient in emulated(precision, 0, &[x.clone(), weight.clone(), bias.clone()], kernel) {
            assert!(gradient.to_f64_vec().unwrap().iter().all(|&d| d == 0.0), "{precision}");
        }
    }
}

#[test]
fn several_tiles_several_slices_and_split_sums() {
    for (i, transposed) in [[false, false], [false, true], [true, false], [true, true]].into_iter().enumerate() {
        matmul([70, 100, 132], 1, [transposed[0], transposed[1], false, false], i as u64);
        matmul([67, 131, 129], 1, [transposed[0], transposed[1], true, false], i as u64);
        matmul([5, 1100 + i, 20], 1 + i % 2, [transposed[0], transposed[1], true, i > 1], i as u64);
    }
    conv2d(&geometry(3, [20, 70], [14, 13]), 5);
    conv2d(&geometry(5, [8, 16], [12, 12]), 6);
}

#[test]
fn the_first_layer_and_depthwise_convolutions_stay_f32() {
    let depthwise = Conv2dGeometry { groups: 6, ..geometry(2, [6, 6], [8, 9]) };
    for g in [geometry(2, [3, 20], [8, 9]), depthwise] {
        let dy = normal(&[g.n, g.c_out, g.out_h(), g.out_w()], 3);
        let inputs = [operands(&g, 1).to_vec(), vec![dy]].concat();
        let kernel: Kernel = &|backend: &dyn Backend, t| {
            vec![
                backend.conv2d(&g, &t[0], &t[1], Some(&t[2]), true).unwrap(),
                backend.conv2d_relu_pool(&g, &t[0], &t[1], &t[2]).unwrap().0,
                backend.conv2d_grad_weight(&g, &t[0], &t[3], false).unwrap().0,
            ]
        };
        let outputs = |precision| {
            emulated(precision, 0, &inputs, kernel).iter().map(|y| y.to_f64_vec().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(outputs(Precision::Bf16), outputs(Precision::F32));
    }
}

#[test]
fn what_is_not_a_number_shows() {
    for precision in FORMATS.map(|(precision, _)| precision) {
        for broken in [f32::NAN, f32::INFINITY] {
            let a = Tensor::from_slice(&[1.0, broken, 2.0, 3.0], [2, 2], Device::Reference).unwrap();
            let kernel: Kernel = &|backend, t| {
                let p = Matmul { transpose_b: true, relu: true, ..Matmul::default() };
                vec![backend.matmul(p, &t[0], &t[0], None).unwrap()]
            };
            let found = emulated(precision, 0, &[a], kernel)[0].to_f64_vec().unwrap();
            let expected = f64::from(broken * broken);
            assert!(found[0] == expected || (found[0].is_nan() && expected.is_nan()), "{precision}: {found:?}");
            assert_eq!(found[3], 13.0, "{precision}");
        }
    }
}

/// Losses are averages, so gradients are small: half precision has no numbers for these unless it scales them.
#[test]
fn half_precision_keeps_small_gradients() {
    let small = |shape: &[usize], seed| normal(shape, seed).affine(2f64.powi(-26), 0.0).unwrap();
    let close = |name: &str, inputs: &[Tensor], k: usize, kernel: Kernel| {
        let (expected, scale) =
            (reference(inputs, kernel, Tensor::clone), reference(inputs, kernel, |x| x.abs().unwrap()));
        let on_cpu = with(Precision::F16, || kernel(backend::of(Device::Cpu), inputs));
        for (device, found) in [("emulator", emulated(Precision::F16, 0, inputs, kernel)), ("cpu", on_cpu)] {
            for (i, found) in found.iter().map(|y| y.to_f64_vec().unwrap()).enumerate() {
                // Numbers of 2⁻²⁶ have eight bits above 2⁻³⁴; the other operand is at most 8.
                let off = |j: usize| tolerance(11, k) * scale[i][j] + k as f64 * 8.0 * 2f64.powi(-35);
                let far = (0..found.len()).find(|&j| (found[j] - expected[i][j]).abs() > off(j));
                assert!(far.is_none(), "{name} on {device}: output {i}, element {far:?}");
                assert!(found.iter().any(|&x| x != 0.0), "{name} on {device}: output {i} is 0");
            }
        }
    };
    let (x, w) = (normal(&[9, 40], 1), normal(&[40, 7], 2));
    let product = |gradient, transpose_a| Matmul { gradient: Some(gradient), transpose_a, ..Matmul::default() };
    close("matmul", &[small(&[9, 40], 3), w], 40, &|backend, t| {
        vec![backend.matmul(product(Side::A, false), &t[0], &t[1], None).unwrap()]
    });
    close("matmul", &[x, small(&[9, 7], 4)], 9, &|backend, t| {
        vec![backend.matmul(product(Side::B, true), &t[0], &t[1], None).unwrap()]
    });
    // By the kernels for 3 × 3 taps and by the general ones.
    for g in [geometry(2, [6, 34], [8, 9]), Conv2dGeometry { stride: [2, 2], ..geometry(2, [6, 34], [8, 9]) }] {
        let [x, w, bias] = operands(&g, 5);
        let dy = small(&[g.n, g.c_out, g.out_h(), g.out_w()], 6);
        close("conv2d", &[x.clone(), w.clone(), dy], 34 * 9, &|backend, t| {
            let dw = backend.conv2d_grad_weight(&g, &t[0], &t[2], false).unwrap().0;
            vec![backend.conv2d_grad_input(&g, &t[2], &t[1]).unwrap(), dw]
        });
        let winner = backend::of(Device::Reference).conv2d_relu_pool(&g, &x, &w, &bias).unwrap().1;
        let dy = small(winner.shape(), 7);
        close("conv2d_relu_pool", &[x, w, dy, winner], 34 * 9, &|backend, t| {
            let dw = backend.conv2d_pooled_grad_weight(&g, &t[0], &t[2], &t[3]).unwrap().0;
            vec![backend.conv2d_pooled_grad_input(&g, &t[2], &t[3], &t[1]).unwrap(), dw]
        });
    }
}

#[test]
fn what_half_precision_has_no_numbers_for_is_infinite() {
    let a = Tensor::from_slice(&[70_000.0f32, 1.0, 70.0, 0.5], [2, 2], Device::Reference).unwrap();
    let product = |gradient| {
        let p = Matmul { transpose_b: true, gradient, ..Matmul::default() };
        let kernel: Kernel = &|backend, t| vec![backend.matmul(p, &t[0], &t[0], None).unwrap()];
        emulated(Precision::F16, 0, std::slice::from_ref(&a), kernel)[0].to_f64_vec().unwrap()
    };
    assert_eq!(product(None)[3], 4900.25);
    assert!(product(None)[0].is_infinite() && product(Some(Side::A))[3].is_infinite());
}
