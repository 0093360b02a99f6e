//! Every kernel of the CPU backend agrees with the reference on random shapes, and gives the same bits with any number of threads.

use kdengine::backend::params::*;
use kdengine::backend::{self, Backend};
use kdengine::tensor::Rng;
use kdengine::{DType, Device, Shape, Tensor};
use proptest::prelude::*;
use rayon::ThreadPool;
use std::sync::LazyLock;

static POOLS: LazyLock<[ThreadPool; 3]> =
    LazyLock::new(|| [1, 2, 3].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()));

/// Runs `kernel` on both backends and compares; errors are relative to the largest value, which is what sums are rounded to.
fn check(name: &str, inputs: &[Tensor], kernel: impl Fn(&dyn Backend, &[Tensor]) -> Vec<Tensor> + Sync) {
    let on = |device: Device| {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_device(device)).collect();
        kernel(backend::of(device), &inputs)
    };
    let expected = on(Device::Reference);
    let [one, two, three] = POOLS.each_ref().map(|pool| pool.install(|| on(Device::Cpu)));
    for (i, expected) in expected.iter().enumerate() {
        let found = &one[i];
        assert_eq!((found.shape(), found.dtype(), found.device()), (expected.shape(), expected.dtype(), Device::Cpu));
        for other in [&two[i], &three[i]] {
            assert!(found.storage().bytes() == other.storage().bytes(), "{name}: output {i} depends on the threads");
        }
        let (found, expected) = (found.to_f64_vec(), expected.to_f64_vec());
        let scale = expected.iter().fold(1.0f64, |max, x| max.max(x.abs()));
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / scale).fold(0.0f64, nan_wins);
        assert!(worst <= 2e-5, "{name}: output {i} is off by {worst:.1e} of the largest value {scale:.1e}");
    }
}

fn nan_wins(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

fn normal(shape: &[usize], seed: u64) -> Tensor {
    let shape = Shape::new(shape).unwrap();
    Tensor::normal(shape, 0.0, 1.0, DType::F32, Device::Reference, Rng::new(seed, shape.numel() as u64)).unwrap()
}

/// Random numbers at least `gap` above 0.
fn positive(shape: &[usize], seed: u64, gap: f64) -> Tensor {
    normal(shape, seed).abs().unwrap().affine(1.0, gap).unwrap()
}

fn index(n: usize, below: usize, seed: u64) -> Tensor {
    let mut random = Rng::new(seed, 77).sequence();
    let values: Vec<i32> = (0..n).map(|_| random.below(below as u32) as i32).collect();
    Tensor::from_slice(&values, [n], Device::Reference).unwrap()
}

/// Mostly small extents, now and then one that needs several tasks.
fn extent() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1usize..12, 1 => 40usize..150]
}

const UNARY: [Unary; 12] = [
    Unary::Relu,
    Unary::Sigmoid,
    Unary::Tanh,
    Unary::Gelu,
    Unary::GeluTanh,
    Unary::Silu,
    Unary::Hardswish,
    Unary::Exp,
    Unary::Log,
    Unary::Sqrt,
    Unary::Square,
    Unary::Abs,
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn elementwise(a in extent(), b in extent(), c in extent(), seed: u64) {
        let rng = Rng::new(seed, 5);
        for f in UNARY {
            let needs_positive = matches!(f, Unary::Log | Unary::Sqrt);
            let x = if needs_positive { positive(&[a, b, c], seed, 0.1) } else { normal(&[a, b, c], seed) };
            check(f.name(), &[x, normal(&[a, b, c], seed ^ 1)], |backend, t| {
                let y = backend.unary(f, &t[0]).unwrap();
                vec![backend.unary_grad(f, &t[0], &y, &t[1]).unwrap(), y]
            });
        }
        let broadcasts: [[&[usize]; 2]; 7] = [
            [&[a, b, c], &[a, b, c]],
            [&[a, b, c], &[c]],
            [&[c], &[a, b, c]],
            [&[a, b, c], &[b, 1]],
            [&[a, 1, c], &[b, 1]],
            [&[a, b, c], &[]],
            [&[a, 1, 1], &[1, b, c]],
        ];
        for f in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
            for [left, right] in broadcasts {
                let inputs = [normal(left, seed), positive(right, seed ^ 1, 0.3)];
                check(f.name(), &inputs, |backend, t| vec![backend.binary(f, &t[0], &t[1]).unwrap()]);
            }
        }
        check("affine, dropout, add_assign", &[normal(&[a, b, c], seed), normal(&[a, b, c], seed ^ 1)], |backend, t| {
            let mut sum = t[1].clone();
            backend.add_assign(&mut sum, &t[0]).unwrap();
            vec![sum, backend.affine(&t[0], 0.3, -2.0).unwrap(), backend.dropout(&t[0], 0.3, rng).unwrap()]
        });
    }

    #[test]
    fn random_tensors_have_the_same_bits_everywhere(n in 1usize..60_000, seed: u64) {
        let rng = Rng::new(seed, 1);
        let draw = |backend: &dyn Backend, dtype| {
            let shape = Shape::from([n]);
            let (uniform, normal) = (backend.uniform(&shape, -1.0, 2.0, dtype, rng), backend.normal(&shape, 1.0, 2.0, dtype, rng));
            [uniform.unwrap(), normal.unwrap()].map(|t| t.storage().bytes().to_vec())
        };
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let expected = draw(backend::of(Device::Reference), dtype);
            prop_assert!(POOLS.iter().all(|pool| pool.install(|| draw(backend::of(Device::Cpu), dtype)) == expected));
        }
    }

    #[test]
    fn layout(shape in prop::array::uniform4(extent()), dims in prop::array::uniform4(any::<bool>()), seed: u64) {
        let shape = shape.map(|extent| extent.min(40));
        let summed: Vec<usize> = (0..4).filter(|&d| dims[d]).collect();
        let order: Vec<usize> = Rng::new(seed, 2).sequence().permutation(4).into_iter().map(|d| d as usize).collect();
        let thin = Shape::from(shape).reduced(&summed, true);
        check("sum, permute", &[normal(&shape, seed)], |backend, t| {
            vec![backend.sum(&t[0], &summed).unwrap(), backend.permute(&t[0], &order).unwrap()]
        });
        check("expand", &[normal(&thin, seed)], |backend, t| vec![backend.expand(&t[0], &Shape::from(shape)).unwrap()]);
        let [rows, n, ..] = shape;
        let inputs = [normal(&shape, seed), index(3 * n, rows, seed)];
        check("gather_rows, scatter_rows, concat, narrow", &inputs, |backend, t| {
            let gathered = backend.gather_rows(&t[0], &t[1]).unwrap();
            let joined = backend.concat(&[&t[0], &gathered], 0).unwrap();
            let part = backend.narrow(&joined, 1, n / 2, n - n / 2).unwrap();
            let bytes = backend.gather_rows(&t[0].to_dtype(DType::U8), &t[1]).unwrap();
            vec![backend.scatter_rows(&gathered, &t[1], rows).unwrap(), gathered, joined, part, bytes]
        });
    }

    #[test]
    fn matmul(m in extent(), k in extent(), n in extent(), batch in 1usize..5, flags in prop::array::uniform4(any::<bool>()), seed: u64) {
        let [transpose_a, transpose_b, relu, shared] = flags;
        let p = Matmul { transpose_a, transpose_b, relu };
        let a = if transpose_a { [batch, k, m] } else { [batch, m, k] };
        let b = if transpose_b { [batch, n, k] } else { [batch, k, n] };
        let inputs = [normal(&a, seed), normal(&b[usize::from(shared)..], seed ^ 1), normal(&[n], seed ^ 2)];
        check("matmul", &inputs, |backend, t| {
            [None, Some(&t[2])].into_iter().map(|bias| backend.matmul(p, &t[0], &t[1], bias).unwrap()).collect()
        });
    }

    #[test]
    fn conv2d(
        (n, groups, c_in, c_out) in (1usize..6, 1usize..4, prop_oneof![1usize..6, 16usize..20], prop_oneof![1usize..9, 16usize..34]),
        (h, w, kh, kw) in (3usize..15, 3usize..15, 1usize..4, 1usize..4),
        stride in prop::array::uniform2(1usize..3),
        padding in prop::array::uniform2(0usize..3),
        dilation in prop::array::uniform2(1usize..3),
        dense: bool,
        seed: u64,
    ) {
        let (groups, stride, dilation) = if dense { (1, [1, 1], [1, 1]) } else { (groups, stride, dilation) };
        let (c_in, c_out) = (c_in * groups, c_out * groups);
        let g = Conv2dGeometry { n, c_in, h, w, c_out, kh, kw, stride, padding, dilation, groups };
        prop_assume!(g.out_h() > 0 && g.out_w() > 0);
        let x = normal(&[n, c_in, h, w], seed);
        let weight = normal(&[c_out, c_in / groups, kh, kw], seed ^ 1);
        let bias = normal(&[c_out], seed ^ 2);
        let dy = normal(&[n, c_out, g.out_h(), g.out_w()], seed ^ 3);
        check("conv2d", &[x.clone(), weight.clone(), bias.clone(), dy], |backend, t| {
            let (dw, db) = backend.conv2d_grad_weight(&g, &t[0], &t[3]).unwrap();
            vec![
                backend.conv2d(&g, &t[0], &t[1], None, false).unwrap(),
                backend.conv2d(&g, &t[0], &t[1], Some(&t[2]), true).unwrap(),
                backend.conv2d_grad_input(&g, &t[3], &t[1]).unwrap(),
                dw,
                db,
            ]
        });
        prop_assume!(g.out_h() > 1 && g.out_w() > 1);
        // The winner of a near tie may differ with the rounding, so both backends get the same winners.
        let (y, winner) = backend::of(Device::Reference).conv2d_relu_pool(&g, &x, &weight, &bias).unwrap();
        let dy = normal(y.shape(), seed ^ 4);
        check("conv2d_relu_pool", &[x, weight, bias, winner, dy], |backend, t| {
            let (dw, db) = backend.conv2d_pooled_grad_weight(&g, &t[0], &t[4], &t[3]).unwrap();
            let (y, _) = backend.conv2d_relu_pool(&g, &t[0], &t[1], &t[2]).unwrap();
            vec![y, backend.conv2d_pooled_grad_input(&g, &t[4], &t[3], &t[1]).unwrap(), dw, db]
        });
    }

    #[test]
    fn pooling(
        (n, c, h, w) in (1usize..6, 1usize..40, 3usize..20, 3usize..20),
        (kernel, stride, padding) in (1usize..4, 1usize..4, 0usize..2),
        out in prop::array::uniform2(1usize..5),
        seed: u64,
    ) {
        let p = Pool2d { h, w, kernel, stride, padding: padding.min(kernel / 2) };
        let inputs = [normal(&[n, c, h, w], seed), normal(&[n, c, p.out_h(), p.out_w()], seed ^ 1)];
        check("max and average pooling", &inputs, |backend, t| {
            let (y, index) = backend.max_pool2d(&p, &t[0]).unwrap();
            let dx = backend.max_pool2d_grad(&p, &t[1], &index).unwrap();
            vec![y, index, dx, backend.avg_pool2d(&p, &t[0]).unwrap(), backend.avg_pool2d_grad(&p, &t[1]).unwrap()]
        });
        for out in [out, [1, 1]] {
            check("adaptive pooling", &[normal(&[n, c, h, w], seed)], |backend, t| {
                let y = backend.adaptive_avg_pool2d(&t[0], out).unwrap();
                vec![backend.adaptive_avg_pool2d_grad(&y, [h, w]).unwrap(), y]
            });
        }
    }

    #[test]
    fn rows(n in extent(), width in extent(), temperature in 0.5f64..8.0, seed: u64) {
        let logits = || normal(&[n, width], seed).affine(3.0, 0.0).unwrap();
        for log in [false, true] {
            check("softmax", &[logits(), normal(&[n, width], seed ^ 1)], |backend, t| {
                let y = backend.softmax(&t[0], temperature, log).unwrap();
                vec![backend.softmax_grad(&y, &t[1], temperature, log).unwrap(), y]
            });
        }
        let labels = index(n, width, seed);
        let p = CrossEntropy { label_smoothing: 0.1 };
        check("cross_entropy", &[logits(), labels.clone()], |backend, t| {
            let (loss, grad) = backend.cross_entropy(p, &t[0], &t[1]).unwrap();
            vec![loss, grad]
        });
        let p = HintonKd { temperature, hard_weight: 0.3, soft_weight: 0.7 };
        check("hinton_kd", &[logits(), normal(&[n, width], seed ^ 2), labels], |backend, t| {
            let HintonKdOutput { total, hard, soft, grad } = backend.hinton_kd(p, &t[0], &t[1], &t[2]).unwrap();
            vec![total, hard, soft, grad]
        });
        check("argmax", &[logits()], |backend, t| vec![backend.argmax(&t[0]).unwrap()]);
    }

    #[test]
    fn normalisation(n in 2usize..40, c in extent(), side in 1usize..12, seed: u64) {
        let shape = [n, c, side, side];
        let inputs = |weights: usize, shape: &[usize]| {
            let x = normal(shape, seed).affine(2.0, 3.0).unwrap();
            [x, normal(&[weights], seed ^ 1), normal(&[weights], seed ^ 2), normal(shape, seed ^ 3)]
        };
        check("batch_norm", &inputs(c, &shape), |backend, t| {
            let BatchNormOutput { y, mean, var, rstd } = backend.batch_norm(&t[0], &t[1], &t[2], 1e-5).unwrap();
            let [dx, dw, db] = backend.batch_norm_grad(&t[0], &t[1], &t[3], &mean, &rstd).unwrap();
            vec![y, mean, var, rstd, dx, dw, db]
        });
        check("layer_norm", &inputs(c + 1, &[n, side, c + 1]), |backend, t| {
            let [y, mean, rstd] = backend.layer_norm(&t[0], &t[1], &t[2], 1e-1).unwrap();
            let [dx, dw, db] = backend.layer_norm_grad(&t[0], &t[1], &t[3], &mean, &rstd).unwrap();
            vec![y, mean, rstd, dx, dw, db]
        });
    }

    #[test]
    fn optimisers(n in 1usize..40_000, flag: bool, momentum in prop_oneof![Just(0.0), Just(0.9)], seed: u64) {
        let inputs = [normal(&[n], seed), normal(&[n], seed ^ 1), normal(&[n], seed ^ 2), positive(&[n], seed ^ 3, 0.1)];
        let sgd = |first_step| Sgd { lr: 0.1, momentum, nesterov: flag && momentum > 0.0, weight_decay: 0.01, first_step };
        let adam = |step| Adam { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.02, decoupled: flag, step };
        let rmsprop = RmsProp { lr: 0.01, alpha: 0.9, eps: 1e-3, weight_decay: 0.01, momentum };
        check("two steps of sgd", &inputs, |backend, t| {
            let (mut param, mut buffer) = (t[0].clone(), (momentum > 0.0).then(|| t[2].clone()));
            for first_step in [true, false] {
                backend.sgd(sgd(first_step), &mut param, &t[1], buffer.as_mut()).unwrap();
            }
            [param].into_iter().chain(buffer).collect()
        });
        check("adam", &inputs, |backend, t| {
            let (mut param, mut m, mut v) = (t[0].clone(), t[2].clone(), t[3].clone());
            backend.adam(adam(3), &mut param, &t[1], &mut m, &mut v).unwrap();
            vec![param, m, v]
        });
        check("rmsprop, lerp, sum_of_squares", &inputs, |backend, t| {
            let (mut param, mut v, mut buffer) = (t[0].clone(), t[3].clone(), (momentum > 0.0).then(|| t[2].clone()));
            backend.rmsprop(rmsprop, &mut param, &t[1], &mut v, buffer.as_mut()).unwrap();
            let mut mean = t[0].clone();
            backend.lerp(&mut mean, &t[1], 0.9).unwrap();
            let squares = Tensor::scalar(backend.sum_of_squares(&t[0]).unwrap(), t[0].device());
            [param, v, mean, squares].into_iter().chain(buffer).collect()
        });
    }
}
