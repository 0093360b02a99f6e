//! What every kernel must do, as properties of random inputs: each calls `check`, which runs a kernel on the reference backend and on
//! others and compares.

use kdengine::backend::params::*;
use kdengine::backend::{self, Backend};
use kdengine::tensor::Rng;
use kdengine::{DType, Device, Shape, Tensor};

/// A kernel's outputs on a backend.
pub type Kernel<'a> = &'a (dyn Fn(&dyn Backend, &[Tensor]) -> Vec<Tensor> + Sync);
/// Compares a kernel's outputs among backends: its name, its inputs (on the reference backend), the kernel.
pub type Check<'a> = &'a dyn Fn(&str, &[Tensor], Kernel);

pub fn normal(shape: &[usize], seed: u64) -> Tensor {
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

/// Many equal values, infinities among them, and NaN if asked for.
fn few_values(shape: &[usize], nan: bool, seed: u64) -> Tensor {
    let shape = Shape::new(shape).unwrap();
    let mut random = Rng::new(seed, 79).sequence();
    let mut value = || match random.below(40) {
        0 if nan => f32::NAN,
        1..=4 => f32::INFINITY,
        i => [f32::NEG_INFINITY, 0.0, 1.0][i as usize % 3],
    };
    let values: Vec<f32> = (0..shape.numel()).map(|_| value()).collect();
    Tensor::from_slice(&values, shape, Device::Reference).unwrap()
}

/// Class labels, of which one in eight or so is to be ignored.
fn labels(n: usize, classes: usize, seed: u64) -> Tensor {
    let mut random = Rng::new(seed, 78).sequence();
    let mut label = || if random.bernoulli(0.125) { IGNORE_INDEX } else { random.below(classes as u32) as i32 };
    let values: Vec<i32> = (0..n).map(|_| label()).collect();
    Tensor::from_slice(&values, [n], Device::Reference).unwrap()
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

pub fn elementwise(check: Check, [a, b, c]: [usize; 3], seed: u64) {
    let rng = Rng::new(seed, 5);
    for f in UNARY {
        let needs_positive = matches!(f, Unary::Log | Unary::Sqrt);
        let x = if needs_positive { positive(&[a, b, c], seed, 0.1) } else { normal(&[a, b, c], seed) };
        check(f.name(), &[x, normal(&[a, b, c], seed ^ 1)], &|backend, t| {
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
            check(f.name(), &inputs, &|backend, t| vec![backend.binary(f, &t[0], &t[1]).unwrap()]);
        }
    }
    check("affine, dropout, add_assign", &[normal(&[a, b, c], seed), normal(&[a, b, c], seed ^ 1)], &|backend, t| {
        let mut sum = t[1].clone();
        backend.add_assign(&mut sum, &t[0]).unwrap();
        vec![sum, backend.affine(&t[0], 0.3, -2.0).unwrap(), backend.dropout(&t[0], 0.3, rng).unwrap()]
    });
}

pub fn layout(check: Check, shape: [usize; 4], dims: [bool; 4], seed: u64) {
    let summed: Vec<usize> = (0..4).filter(|&d| dims[d]).collect();
    let order: Vec<usize> = Rng::new(seed, 2).sequence().permutation(4).into_iter().map(|d| d as usize).collect();
    let thin = Shape::from(shape).reduced(&summed, true);
    // About a mean of 1: what cancels leaves a sum of any size, to which no rounding is small.
    let about_1 = normal(&shape, seed).affine(1.0, 1.0).unwrap();
    check("sum, permute", &[about_1], &|backend, t| {
        vec![backend.sum(&t[0], &summed).unwrap(), backend.permute(&t[0], &order).unwrap()]
    });
    check("expand", &[normal(&thin, seed)], &|backend, t| vec![backend.expand(&t[0], &Shape::from(shape)).unwrap()]);
    let [rows, n, ..] = shape;
    let inputs = [normal(&shape, seed), index(3 * n, rows, seed)];
    check("gather_rows, scatter_rows, concat, narrow", &inputs, &|backend, t| {
        let gathered = backend.gather_rows(&t[0], &t[1]).unwrap();
        let joined = backend.concat(&[&t[0], &gathered], 0).unwrap();
        let part = backend.narrow(&joined, 1, n / 2, n - n / 2).unwrap();
        let bytes = backend.gather_rows(&t[0].to_dtype(DType::U8).unwrap(), &t[1]).unwrap();
        vec![backend.scatter_rows(&gathered, &t[1], rows).unwrap(), gathered, joined, part, bytes]
    });
    // Distinct rows, in any order.
    let places: Vec<i32> = Rng::new(seed, 3).sequence().permutation(rows).into_iter().map(|i| i as i32).collect();
    let places = Tensor::from_slice(&places[..rows.div_ceil(2)], [rows.div_ceil(2)], Device::Reference).unwrap();
    let inputs = [normal(&shape, seed), normal(&[&[rows.div_ceil(2)], &shape[1..]].concat(), seed ^ 1), places];
    check("set_rows", &inputs, &|backend, t| {
        let mut table = t[0].clone();
        backend.set_rows(&mut table, &t[2], &t[1]).unwrap();
        vec![table, t[0].clone()]
    });
}

pub fn matmul(check: Check, [m, k, n]: [usize; 3], batch: usize, flags: [bool; 4], seed: u64) {
    let [transpose_a, transpose_b, relu, shared] = flags;
    let p = Matmul { transpose_a, transpose_b, relu, ..Matmul::default() };
    let a = if transpose_a { [batch, k, m] } else { [batch, m, k] };
    let b = if transpose_b { [batch, n, k] } else { [batch, k, n] };
    let inputs = [normal(&a, seed), normal(&b[usize::from(shared)..], seed ^ 1), normal(&[n], seed ^ 2)];
    check("matmul", &inputs, &|backend, t| {
        [None, Some(&t[2])].into_iter().map(|bias| backend.matmul(p, &t[0], &t[1], bias).unwrap()).collect()
    });
    check("gram", &[normal(&[m, k], seed)], &|backend, t| vec![backend.gram(&t[0]).unwrap()]);
}

pub fn conv2d(check: Check, g: &Conv2dGeometry, seed: u64) {
    let Conv2dGeometry { n, c_in, h, w, c_out, kh, kw, groups, .. } = *g;
    let x = normal(&[n, c_in, h, w], seed);
    let weight = normal(&[c_out, c_in / groups, kh, kw], seed ^ 1);
    let bias = normal(&[c_out], seed ^ 2);
    let dy = normal(&[n, c_out, g.out_h(), g.out_w()], seed ^ 3);
    check("conv2d", &[x.clone(), weight.clone(), bias.clone(), dy], &|backend, t| {
        let (dw, db) = backend.conv2d_grad_weight(g, &t[0], &t[3], true).unwrap();
        let (alone, none) = backend.conv2d_grad_weight(g, &t[0], &t[3], false).unwrap();
        assert!(none.is_none());
        vec![
            backend.conv2d(g, &t[0], &t[1], None, false).unwrap(),
            backend.conv2d(g, &t[0], &t[1], Some(&t[2]), true).unwrap(),
            backend.conv2d_grad_input(g, &t[3], &t[1]).unwrap(),
            dw,
            db.unwrap(),
            alone,
        ]
    });
    if g.out_h() < 2 || g.out_w() < 2 {
        return;
    }
    // The winner of a near tie may differ with the rounding, so both backends get the same winners.
    let (y, winner) = backend::of(Device::Reference).conv2d_relu_pool(g, &x, &weight, &bias).unwrap();
    let dy = normal(y.shape(), seed ^ 4);
    check("conv2d_relu_pool", &[x, weight, bias, winner, dy], &|backend, t| {
        let (dw, db) = backend.conv2d_pooled_grad_weight(g, &t[0], &t[4], &t[3]).unwrap();
        let (y, _) = backend.conv2d_relu_pool(g, &t[0], &t[1], &t[2]).unwrap();
        vec![y, backend.conv2d_pooled_grad_input(g, &t[4], &t[3], &t[1]).unwrap(), dw, db]
    });
}

pub fn pooling(check: Check, [n, c]: [usize; 2], p: &Pool2d, out: [usize; 2], seed: u64) {
    let (h, w) = (p.h, p.w);
    let inputs = [normal(&[n, c, h, w], seed), normal(&[n, c, p.out_h(), p.out_w()], seed ^ 1)];
    check("max and average pooling", &inputs, &|backend, t| {
        let (y, index) = backend.max_pool2d(p, &t[0]).unwrap();
        let dx = backend.max_pool2d_grad(p, &t[1], &index).unwrap();
        vec![y, index, dx, backend.avg_pool2d(p, &t[0]).unwrap(), backend.avg_pool2d_grad(p, &t[1]).unwrap()]
    });
    // Which of equals wins, and that a NaN does, shows in the indices alone.
    check("max pooling of few values", &[few_values(&[n, c, h, w], true, seed ^ 2)], &|backend, t| {
        vec![backend.max_pool2d(p, &t[0]).unwrap().1]
    });
    for out in [out, [1, 1]] {
        check("adaptive pooling", &[normal(&[n, c, h, w], seed)], &|backend, t| {
            let y = backend.adaptive_avg_pool2d(&t[0], out).unwrap();
            vec![backend.adaptive_avg_pool2d_grad(&y, [h, w]).unwrap(), y]
        });
    }
}

pub fn rows(check: Check, n: usize, width: usize, temperature: f64, seed: u64) {
    let logits = || normal(&[n, width], seed).affine(3.0, 0.0).unwrap();
    for log in [false, true] {
        check("softmax", &[logits(), normal(&[n, width], seed ^ 1)], &|backend, t| {
            let y = backend.softmax(&t[0], temperature, log).unwrap();
            vec![backend.softmax_grad(&y, &t[1], temperature, log).unwrap(), y]
        });
    }
    let labels = labels(n, width, seed);
    let p = CrossEntropy { label_smoothing: 0.1 };
    check("cross_entropy", &[logits(), labels.clone()], &|backend, t| {
        let (loss, grad) = backend.cross_entropy(p, &t[0], &t[1]).unwrap();
        vec![loss, grad]
    });
    let (teacher, weights) = (normal(&[n, width], seed ^ 2), positive(&[n], seed ^ 3, 0.1));
    let in_bf16 = |t: &Tensor| t.to_dtype(DType::BF16).unwrap();
    // A class that is ruled out, as in a padded vocabulary.
    let without = |t: &Tensor, ruled_out: usize| {
        let none = (0..width).map(|class| if class == ruled_out { f32::NEG_INFINITY } else { 0.0 });
        t.add(&Tensor::from_slice(&none.collect::<Vec<_>>(), [width], t.device()).unwrap()).unwrap()
    };
    let beta = [0.0, 0.3, 1.0][(seed % 3) as usize];
    for divergence in [Divergence::ForwardKl, Divergence::ReverseKl, Divergence::JensenShannon { beta }] {
        let p = Distillation { divergence, temperature, hard_weight: 0.3, soft_weight: 0.7 };
        let losses = |backend: &dyn Backend, t: &[Tensor], labels: Option<&Tensor>, sample_weights: Option<&Tensor>| {
            let inputs = DistillationInputs { student: &t[0], teacher: &t[1], labels, sample_weights };
            let DistillationOutput { total, hard, soft, grad } = backend.distillation(p, inputs).unwrap();
            [total, hard, soft, grad]
        };
        let inputs = [logits(), teacher.clone(), labels.clone(), weights.clone()];
        check(&format!("distillation, {divergence:?}"), &inputs, &|backend, t| {
            let of = |labels, sample_weights| losses(backend, t, labels, sample_weights);
            [of(Some(&t[2]), None), of(Some(&t[2]), Some(&t[3])), of(None, None)].concat()
        });
        let inputs = [in_bf16(&logits()), in_bf16(&teacher), labels.clone()];
        check(&format!("distillation of bf16, {divergence:?}"), &inputs, &|backend, t| {
            losses(backend, t, Some(&t[2]), None).into()
        });
        // By both models; by one of them alone, which other divergences find infinitely far from the other.
        let last = width - 1;
        let ruled_out = match divergence {
            _ if width == 1 => vec![],
            Divergence::JensenShannon { beta: 0.3 } if width > 2 => vec![(last, last), (last, 0)],
            _ => vec![(last, last)],
        };
        for (by_student, by_teacher) in ruled_out {
            let inputs = [without(&logits(), by_student), without(&teacher, by_teacher)];
            check(&format!("distillation without a class, {divergence:?}"), &inputs, &|backend, t| {
                losses(backend, t, None, None).into()
            });
        }
    }
    let counts = index(n * width, 3, seed ^ 4).to_dtype(DType::F32).unwrap().reshape([n, width]).unwrap();
    let p = NoiseContrast { tau: temperature, shift: 1.5, floor: 1.0 + 1e-3 };
    let inputs = [normal(&[n, 5], seed ^ 5), normal(&[width, 5], seed ^ 6), index(n, width, seed ^ 7), counts];
    check("noise_contrast", &inputs, &|backend, t| {
        backend.noise_contrast(p, &t[0], &t[1], &t[2], &t[3]).unwrap().into()
    });
    check("argmax", &[logits(), few_values(&[n, width], false, seed)], &|backend, t| {
        t.iter().map(|t| backend.argmax(t).unwrap()).collect()
    });
}

pub fn images(check: Check, [n, c, h, w]: [usize; 4], seed: u64) {
    let mut random = Rng::new(seed, 3).sequence();
    let pixels: Vec<u8> = (0..n * c * h * w).map(|_| random.below(256) as u8).collect();
    let images = Tensor::from_slice(&pixels, [n, c, h, w], Device::Reference).unwrap();
    let mut plan = || {
        let angle = random.uniform_in(-0.5, 0.5);
        ImagePlan {
            dy: random.uniform_in(-2.0, 2.0),
            dx: random.uniform_in(-2.0, 2.0),
            sine: angle.sin(),
            cosine: angle.cos(),
            mirrored: f32::from(u8::from(random.bernoulli(0.5))),
            cut_y: random.below(h as u32) as f32,
            cut_x: random.below(w as u32) as f32,
            side: random.below(4) as f32,
        }
    };
    let plans: Vec<ImagePlan> = (0..2 * n).map(|_| plan()).collect();
    let inputs = [images, index(2 * n, n, seed), index(2 * n, c, seed ^ 1), index(2 * n, c, seed ^ 2)];
    check("gather_images, count_confusion", &inputs, &|_, t| {
        let mut counts = Tensor::zeros([c, c], DType::I32, t[0].device()).unwrap();
        counts.count_confusion(&t[2], &t[3]).unwrap();
        vec![t[0].gather_images(&t[1], None).unwrap(), t[0].gather_images(&t[1], Some(&plans)).unwrap(), counts]
    });
}

pub fn relations(check: Check, n: usize, features: usize, power: f64, seed: u64) {
    check("pairwise_distances", &[normal(&[n, features], seed), normal(&[n, n], seed ^ 1)], &|backend, t| {
        let distances = backend.pairwise_distances(&t[0]).unwrap();
        let on_diagonal = distances.to_f64_vec().unwrap().into_iter().step_by(n + 1);
        assert!(on_diagonal.into_iter().all(|distance| distance == 0.0));
        vec![distances, backend.pairwise_distances_grad(&t[0], &t[1]).unwrap()]
    });
    // In a dimension or two, points all but coincide now and then, and angles from the law of cosines lose their digits.
    let spread = normal(&[n, features + 7], seed ^ 4);
    check("angle_losses", &[spread, normal(&[n, 8], seed ^ 5)], &|backend, t| {
        let [student, teacher] = [&t[0], &t[1]].map(|x| backend.pairwise_distances(x).unwrap());
        let [losses, gradient] = backend.angle_losses(&student, &teacher).unwrap();
        vec![losses.sum_all().unwrap(), backend.pairwise_distances_grad(&t[0], &gradient).unwrap()]
    });
    let x = normal(&[n, 3, features], seed ^ 2);
    check("attention_map", &[x, normal(&[n, features], seed ^ 3)], &|backend, t| {
        vec![backend.attention_map(&t[0], power).unwrap(), backend.attention_map_grad(&t[0], &t[1], power).unwrap()]
    });
}

pub fn normalisation(check: Check, n: usize, c: usize, side: usize, seed: u64) {
    let shape = [n, c, side, side];
    let inputs = |weights: usize, shape: &[usize]| {
        let x = normal(shape, seed).affine(2.0, 3.0).unwrap();
        [x, normal(&[weights], seed ^ 1), normal(&[weights], seed ^ 2), normal(shape, seed ^ 3)]
    };
    check("batch_norm", &inputs(c, &shape), &|backend, t| {
        let BatchNormOutput { y, mean, var, rstd } = backend.batch_norm(&t[0], &t[1], &t[2], 1e-5).unwrap();
        let [dx, dw, db] = backend.batch_norm_grad(&t[0], &t[1], &t[3], &mean, &rstd).unwrap();
        vec![y, mean, var, rstd, dx, dw, db]
    });
    check("layer_norm", &inputs(c + 1, &[n, side, c + 1]), &|backend, t| {
        let [y, mean, rstd] = backend.layer_norm(&t[0], &t[1], &t[2], 1e-1).unwrap();
        let [dx, dw, db] = backend.layer_norm_grad(&t[0], &t[1], &t[3], &mean, &rstd).unwrap();
        vec![y, mean, rstd, dx, dw, db]
    });
}

pub fn optimisers(check: Check, n: usize, flag: bool, momentum: f64, seed: u64) {
    let inputs = [normal(&[n], seed), normal(&[n], seed ^ 1), normal(&[n], seed ^ 2), positive(&[n], seed ^ 3, 0.1)];
    let sgd = |first_step| {
        Rule::Sgd(Sgd { lr: 0.1, momentum, nesterov: flag && momentum > 0.0, weight_decay: 0.01, first_step })
    };
    let (beta1, beta2, eps, weight_decay) = (0.9, 0.999, 1e-8, 0.02);
    let adam = Rule::Adam(Adam { lr: 0.01, beta1, beta2, eps, weight_decay, decoupled: flag, step: 3 });
    let rmsprop = Rule::RmsProp(RmsProp { lr: 0.01, alpha: 0.9, eps: 1e-3, weight_decay: 0.01, momentum });
    let has_momentum = momentum > 0.0;
    for (name, rules, moments) in [
        ("two steps of sgd", vec![sgd(true), sgd(false)], [has_momentum, false]),
        ("adam", vec![adam], [true, true]),
        ("rmsprop", vec![rmsprop], [has_momentum, true]),
    ] {
        check(name, &inputs, &|backend, t| steps(backend, &rules, moments, t));
    }
    check("lerp, sum_of_squares", &inputs, &|backend, t| {
        let mut mean = t[0].clone();
        backend.lerp(&mut mean, &t[1], 0.9).unwrap();
        let squares = backend.sum_of_squares(&[&t[0], &t[3]]).unwrap();
        vec![mean, Tensor::scalar(squares, t[0].device()).unwrap()]
    });
}

/// Steps over more parameters than one launch takes; returns the first and the last with their moments.
fn steps(backend: &dyn Backend, rules: &[Rule], [first, second]: [bool; 2], t: &[Tensor]) -> Vec<Tensor> {
    let mut all: Vec<[Tensor; 3]> = vec![[t[0].clone(), t[2].clone(), t[3].clone()]; 30];
    for rule in rules {
        let mut slots = Vec::new();
        for [value, m, v] in &mut all {
            let (first, second) = (first.then_some(m), second.then_some(v));
            slots.push(OptimizerSlot { value, gradient: &t[1], first, second });
        }
        backend.optimize(*rule, 0.7, &mut slots).unwrap();
    }
    [all.swap_remove(0), all.pop().unwrap()].concat()
}
