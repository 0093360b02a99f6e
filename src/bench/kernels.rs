//! Single kernels, through the ops that use them.

use super::cases::{Case, Work};
use super::convolutions;
use crate::backend::params::{Adam, OptimizerSlot, Rule};
use crate::error::Result;
use crate::tensor::{DType, Device, Rng, Shape, Tensor};

/// A standard normal tensor.
pub(super) fn random(shape: &[usize], seed: u64, device: Device) -> Result<Tensor> {
    Tensor::normal(Shape::new(shape)?, 0.0, 1.0, DType::F32, device, Rng::new(seed, 0))
}

/// Class labels, all classes equally often.
pub(super) fn labels(n: usize, classes: usize, device: Device) -> Result<Tensor> {
    let labels: Vec<i32> = (0..n).map(|i| (i % classes) as i32).collect();
    Tensor::from_slice(&labels, [n], device)
}

pub(super) fn cases(device: Device) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    cases.extend(convolutions::cases(device));
    for (m, k, n) in PRODUCTS {
        cases.push(product(device, m, k, n));
    }
    cases.extend(rows(device));
    cases.extend(elementwise(device));
    cases.push(adam(device));
    Ok(cases)
}

/// Rows, inner length, columns: the notebook's linear layers, then square ones.
const PRODUCTS: [(usize, usize, usize); 5] =
    [(128, 2304, 512), (128, 1568, 64), (256, 256, 256), (1024, 1024, 1024), (2048, 2048, 2048)];

fn product(device: Device, m: usize, k: usize, n: usize) -> Case {
    let prepare = move || {
        let (a, b) = (random(&[m, k], 1, device)?, random(&[k, n], 2, device)?);
        Ok(Box::new(move || a.matmul(&b).map(drop)) as Work)
    };
    let bytes = 4.0 * (m * k + k * n + m * n) as f64;
    Case::new(format!("matmul_{m}x{k}x{n}"), prepare).costing(2.0 * (m * k * n) as f64, bytes)
}

/// A case that maps a tensor of this shape, reading and writing each element once.
fn map(
    device: Device,
    what: &str,
    shape: &'static [usize],
    flops: f64,
    f: impl Fn(&Tensor) -> Result<Tensor> + 'static,
) -> Case {
    let elements = shape.iter().product::<usize>() as f64;
    let name: Vec<String> = shape.iter().map(usize::to_string).collect();
    let prepare = move || {
        let x = random(shape, 1, device)?;
        Ok(Box::new(move || f(&x).map(drop)) as Work)
    };
    Case::new(format!("{what}_{}", name.join("x")), prepare).costing(flops * elements, 8.0 * elements)
}

fn rows(device: Device) -> Vec<Case> {
    const LOGITS: [&[usize]; 3] = [&[1024, 10], &[1024, 1000], &[16, 131_072]];
    let softmax = LOGITS.map(|shape| map(device, "softmax", shape, 5.0, |x| x.softmax(3.0)));
    let layer_norm = map(device, "layer_norm", &[4096, 256], 8.0, move |x| {
        let (scale, shift) = (Tensor::full([256], 1.0, DType::F32, device)?, Tensor::zeros([256], DType::F32, device)?);
        x.layer_norm(&scale, &shift, 1e-5)
    });
    let batch_norm = map(device, "batch_norm", &[128, 64, 16, 16], 8.0, move |x| {
        let (scale, shift) = (Tensor::full([64], 1.0, DType::F32, device)?, Tensor::zeros([64], DType::F32, device)?);
        Ok(x.batch_norm_train(&scale, &shift, 1e-5)?.y)
    });
    softmax.into_iter().chain([layer_norm, batch_norm]).collect()
}

fn elementwise(device: Device) -> Vec<Case> {
    const LARGE: &[usize] = &[128, 64, 28, 28];
    let p = 0.5;
    vec![
        map(device, "relu", LARGE, 1.0, |x| x.relu()),
        map(device, "gelu", LARGE, 10.0, |x| x.gelu()),
        map(device, "gelu_tanh", LARGE, 10.0, |x| x.gelu_tanh()),
        map(device, "silu", LARGE, 10.0, |x| x.silu()),
        map(device, "sigmoid", LARGE, 10.0, |x| x.sigmoid()),
        map(device, "tanh", LARGE, 10.0, |x| x.tanh()),
        map(device, "exp", LARGE, 10.0, |x| x.exp()),
        map(device, "log", LARGE, 10.0, |x| x.log()),
        map(device, "hardswish", LARGE, 5.0, |x| x.hardswish()),
        map(device, "dropout", LARGE, 3.0, move |x| x.dropout(p, Rng::new(1, 2))),
        map(device, "uniform", LARGE, 3.0, move |x| {
            Tensor::uniform(*x.shape(), 0.0, 1.0, DType::F32, device, Rng::new(1, 2))
        }),
        map(device, "normal", LARGE, 30.0, move |x| {
            Tensor::normal(*x.shape(), 0.0, 1.0, DType::F32, device, Rng::new(1, 2))
        }),
        map(device, "permute_nchw_nhwc", LARGE, 0.0, |x| x.permute(&[0, 2, 3, 1])),
        map(device, "max_pool2d", LARGE, 1.0, |x| x.max_pool2d(2, 2, 0)),
        map(device, "max_pool2d_3x3", LARGE, 1.0, |x| x.max_pool2d(3, 2, 1)),
        map(device, "avg_pool2d", LARGE, 1.0, |x| x.avg_pool2d(2, 2, 0)),
        map(device, "adaptive_avg_pool2d", LARGE, 1.0, |x| x.adaptive_avg_pool2d([7, 7])),
        map(device, "attention_map", LARGE, 2.0, |x| x.attention_map(2.0)),
        map(device, "pairwise_distances", &[1024, 512], 1536.0, |x| x.pairwise_squared_distances()),
        map(device, "argmax", &[1024, 1000], 1.0, |x| x.argmax()),
        map(device, "sum_all", LARGE, 1.0, |x| x.sum_all()),
    ]
}

/// One step of Adam over the teacher's weights.
fn adam(device: Device) -> Case {
    const PARAMETERS: [usize; 10] = [576, 64, 73_728, 128, 294_912, 256, 1_179_648, 512, 5_120, 10];
    let prepare = move || {
        let zeros = |n: usize| Tensor::zeros([n], DType::F32, device);
        let mut state = Vec::new();
        for n in PARAMETERS {
            state.push((random(&[n], 1, device)?, random(&[n], 2, device)?, zeros(n)?, zeros(n)?));
        }
        Ok(Box::new(move || {
            let rule =
                Adam { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false, step: 1 };
            let slot = |(value, gradient, m, v)| OptimizerSlot { value, gradient, first: Some(m), second: Some(v) };
            let mut slots = Vec::with_capacity(PARAMETERS.len());
            for (value, gradient, m, v) in &mut state {
                slots.push(slot((value, &*gradient, m, v)));
            }
            crate::backend::of(device).optimize(Rule::Adam(rule), 1.0, &mut slots)
        }) as Work)
    };
    let n = PARAMETERS.iter().sum::<usize>() as f64;
    Case::new("adam_teacher_net", prepare).costing(12.0 * n, 28.0 * n)
}
