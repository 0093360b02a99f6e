//! What losses promise besides their gradients: invariance to a constant added to all logits, finite and right values at the
//! extremes, and fused ops that equal the composition of their parts.

use kdengine::backend::params::HintonKd;
use kdengine::tensor::Rng;
use kdengine::{DType, Device, Tensor};

const DEVICES: [Device; 2] = [Device::Cpu, Device::Reference];
const CLASSES: usize = 7;
const SAMPLES: usize = 5;

type LossOf = fn(&Tensor, &Tensor, &Tensor, f64) -> Tensor;

/// Losses of student logits, teacher logits, labels and a temperature.
const LOSSES: [(&str, LossOf); 7] = [
    ("cross_entropy", |s, _, y, _| s.cross_entropy(y, 0.0).unwrap()),
    ("cross_entropy with smoothing", |s, _, y, _| s.cross_entropy(y, 0.1).unwrap()),
    ("hinton_kd", |s, t, y, temperature| s.hinton_kd(t, y, weights(temperature)).unwrap().total),
    ("reverse_kl", |s, t, _, temperature| s.reverse_kl(t, temperature).unwrap()),
    ("jsd_generalized", |s, t, _, temperature| s.jsd_generalized(t, temperature, 0.4).unwrap()),
    ("kl of softmax", |s, t, _, temperature| {
        s.log_softmax(temperature).unwrap().kl_div_batchmean(&t.softmax(temperature).unwrap()).unwrap()
    }),
    ("nll of log_softmax", |s, _, y, temperature| nll(&s.log_softmax(temperature).unwrap(), y)),
];

fn weights(temperature: f64) -> HintonKd {
    HintonKd { temperature, hard_weight: 0.3, soft_weight: 0.7 }
}

/// The mean of −log p at the labels, by a one-hot product.
fn nll(log_p: &Tensor, labels: &Tensor) -> Tensor {
    let labels = labels.to_vec::<i32>().unwrap();
    let one_hot = (0..labels.len() * CLASSES).map(|i| f64::from(u8::from(labels[i / CLASSES] as usize == i % CLASSES)));
    let one_hot = Tensor::from_slice(&one_hot.collect::<Vec<f64>>(), [SAMPLES, CLASSES], log_p.device()).unwrap();
    let picked = log_p.mul(&one_hot.to_dtype(log_p.dtype()).unwrap()).unwrap();
    picked.sum_all().unwrap().affine(-1.0 / labels.len() as f64, 0.0).unwrap()
}

fn logits(seed: u64, scale: f64, device: Device) -> Tensor {
    let dtype = if device == Device::Reference { DType::F64 } else { DType::F32 };
    Tensor::normal([SAMPLES, CLASSES], 0.0, scale, dtype, device, Rng::new(seed, 0)).unwrap()
}

fn labels(device: Device) -> Tensor {
    Tensor::from_slice(&[0i32, 6, 3, 3, 1], [SAMPLES], device).unwrap()
}

/// The loss and its gradient with respect to the student's logits.
fn value_and_gradient(loss: LossOf, student: &Tensor, teacher: &Tensor, temperature: f64) -> (f64, Vec<f64>) {
    let student = student.variable();
    let value = loss(&student, teacher, &labels(student.device()), temperature);
    let gradients = value.backward().unwrap();
    (value.item().unwrap(), gradients.get(&student).unwrap().to_f64_vec().unwrap())
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= tolerance * (1.0 + e.abs()), "{what}: {f} instead of {e}");
    }
}

#[test]
fn adding_a_constant_to_all_logits_changes_nothing() {
    for device in DEVICES {
        let (student, teacher) = (logits(1, 2.0, device), logits(2, 2.0, device));
        for (name, loss) in LOSSES {
            let (value, gradient) = value_and_gradient(loss, &student, &teacher, 3.0);
            // In f32 a shift of 100 costs about seven bits of the logits' differences.
            let tolerance = if device == Device::Reference { 1e-9 } else { 2e-5 };
            for (ds, dt) in [(100.0, 0.0), (0.0, -100.0), (-64.0, 64.0)] {
                let (moved_s, moved_t) = (student.affine(1.0, ds).unwrap(), teacher.affine(1.0, dt).unwrap());
                let (moved, moved_gradient) = value_and_gradient(loss, &moved_s, &moved_t, 3.0);
                assert_close(&[moved], &[value], tolerance, name);
                assert_close(&moved_gradient, &gradient, tolerance, name);
            }
        }
    }
}

/// `log softmax(row / t)`, each term relative to the largest.
fn log_softmax(row: &[f64], t: f64) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = row.iter().map(|z| ((z - max) / t).exp()).sum::<f64>().ln();
    row.iter().map(|z| (z - max) / t - log_sum).collect()
}

/// Both terms of `hinton_kd`, written out.
fn hinton_oracle(student: &[f64], teacher: &[f64], labels: &[i32], t: f64) -> (f64, f64) {
    let (mut hard, mut soft) = (0.0, 0.0);
    for ((s, z), &y) in student.chunks(CLASSES).zip(teacher.chunks(CLASSES)).zip(labels) {
        hard -= log_softmax(s, 1.0)[y as usize];
        let (log_q, log_p) = (log_softmax(s, t), log_softmax(z, t));
        soft += t
            * t
            * log_p.iter().zip(&log_q).map(|(p, q)| if p.exp() > 0.0 { p.exp() * (p - q) } else { 0.0 }).sum::<f64>();
    }
    (hard / labels.len() as f64, soft / labels.len() as f64)
}

#[test]
fn extreme_logits_and_temperatures_give_finite_and_right_values() {
    for device in DEVICES {
        let (student, teacher) = (logits(3, 1e4, device), logits(4, 1e4, device));
        for temperature in [0.05, 0.5, 1.0, 4.0, 20.0, 100.0] {
            for (name, loss) in LOSSES {
                let (value, gradient) = value_and_gradient(loss, &student, &teacher, temperature);
                assert!(
                    value.is_finite() && gradient.iter().all(|g| g.is_finite()),
                    "{name} at T = {temperature}: {value}"
                );
            }
            let y = labels(device);
            let found = student.hinton_kd(&teacher, &y, weights(temperature)).unwrap();
            let y = y.to_vec::<i32>().unwrap();
            let (hard, soft) =
                hinton_oracle(&student.to_f64_vec().unwrap(), &teacher.to_f64_vec().unwrap(), &y, temperature);
            let found = [found.hard.item().unwrap(), found.soft.item().unwrap(), found.total.item().unwrap()];
            assert_close(
                &found,
                &[hard, soft, 0.3 * hard + 0.7 * soft],
                1e-5,
                &format!("{device} at T = {temperature}"),
            );
        }
    }
}

#[test]
fn fused_losses_equal_their_composition() {
    let composed: LossOf = |s, t, y, temperature| {
        let hard = nll(&s.log_softmax(1.0).unwrap(), y).affine(0.3, 0.0).unwrap();
        let soft = s.log_softmax(temperature).unwrap().kl_div_batchmean(&t.softmax(temperature).unwrap()).unwrap();
        hard.add(&soft.affine(0.7 * temperature * temperature, 0.0).unwrap()).unwrap()
    };
    let plain: LossOf = |s, _, y, _| nll(&s.log_softmax(1.0).unwrap(), y);
    for device in DEVICES {
        for seed in 0..20 {
            let (student, teacher) = (logits(seed, 3.0, device), logits(seed + 100, 3.0, device));
            let temperature = 0.5 + seed as f64;
            for (fused, parts) in [(LOSSES[2].1, composed), (LOSSES[0].1, plain)] {
                let (value, gradient) = value_and_gradient(fused, &student, &teacher, temperature);
                let (expected, expected_gradient) = value_and_gradient(parts, &student, &teacher, temperature);
                assert_close(&[value], &[expected], 1e-5, "value");
                assert_close(&gradient, &expected_gradient, 1e-5, "gradient");
            }
        }
    }
}

#[test]
fn a_student_that_equals_its_teacher_has_no_soft_loss_and_no_soft_gradient() {
    for device in DEVICES {
        let student = logits(9, 5.0, device).variable();
        let p = HintonKd { temperature: 4.0, hard_weight: 0.0, soft_weight: 1.0 };
        let loss = student.hinton_kd(&student.detach(), &labels(device), p).unwrap();
        assert_close(&[loss.total.item().unwrap()], &[0.0], 1e-6, "loss");
        let gradients = loss.total.backward().unwrap();
        assert_close(
            &gradients.get(&student).unwrap().to_f64_vec().unwrap(),
            &[0.0; SAMPLES * CLASSES],
            1e-6,
            "gradient",
        );
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let (s, y) = (logits(1, 1.0, Device::Cpu), labels(Device::Cpu));
    let wrong = Tensor::from_slice(&[0i32, 7, 3, 3, 1], [SAMPLES], Device::Cpu).unwrap();
    let error = s.cross_entropy(&wrong, 0.0).unwrap_err().to_string();
    assert!(error.contains("label 7 of sample 1"), "{error}");
    assert!(s.softmax(0.0).is_err() && s.softmax(f64::NAN).is_err() && s.log_softmax(-1.0).is_err());
    assert!(s.hinton_kd(&s, &y, HintonKd { soft_weight: -1.0, ..weights(1.0) }).is_err());
    assert!(s.hinton_kd(&s, &y, weights(0.0)).is_err());
    assert!(s.cross_entropy(&y, 1.5).is_err());
    let three = Tensor::zeros([3, CLASSES], DType::F32, Device::Cpu).unwrap();
    let error = s.hinton_kd(&three, &y, weights(1.0)).err().unwrap().to_string();
    assert!(error.contains("teacher_logits") && error.contains("[3, 7]") && error.contains("[5, 7]"), "{error}");
}
