//! Training on the CUDA kernels follows the processor's training, loss by loss.
#![cfg(feature = "emulator")]

mod common;

use common::{expect, kdengine, small_digits};
use std::fs;
use std::path::Path;

/// The losses of a short distillation on a device in a precision, job by job and step by step.
fn losses(data: &Path, out: &Path, device: &str, precision: &str, epochs: &str) -> Vec<(String, f64)> {
    let settings = "--batch-size 16 --teacher-epochs 1 --lr 0.003 --teacher-model student_net --shift 1 --flip --quiet";
    let mut command = kdengine();
    command
        .args(["distill", "--device", device, "--precision", precision, "--epochs", epochs])
        .arg("--data")
        .arg(data)
        .arg("--out")
        .arg(out);
    expect(command.args(settings.split(' ')), 0);
    let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let loss = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        (record["job"].to_string(), record["loss"].as_f64().unwrap())
    };
    log.lines().map(loss).collect()
}

/// Fails where a step's loss differs from the expected one by more than this share of it.
fn assert_close(found: &[(String, f64)], expected: &[(String, f64)], share: f64) {
    for (step, ((job, expected), (other, found))) in expected.iter().zip(found).enumerate() {
        assert_eq!(job, other);
        assert!((found - expected).abs() < share * expected.abs(), "{job}, step {step}: {found} instead of {expected}");
    }
}

#[test]
fn the_emulator_follows_the_cpus_loss_curve_through_a_whole_distillation() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 48, 20);
    let [cpu, emulator] =
        ["cpu", "emulator"].map(|device| losses(&data, &folder.path().join(device), device, "f32", "4"));
    assert_eq!(cpu.len(), 3 + 12, "a teacher for one epoch of three steps, a student for four");
    assert_close(&emulator, &cpu, 2e-3);
    let sum = |steps: &[(String, f64)]| steps.iter().map(|(_, loss)| loss).sum::<f64>();
    assert!(sum(&emulator[12..]) < sum(&emulator[3..6]), "the student learns");
}

#[test]
fn training_on_tensor_cores_stays_close_to_training_in_f32() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 48, 20);
    let cpu = losses(&data, &folder.path().join("cpu"), "cpu", "f32", "1");
    // Each operand of a product is off by up to 2⁻¹¹ (bf16: 2⁻⁸) of itself; six steps of Adam amplify that.
    for (precision, share) in [("tf32", 1e-3), ("bf16", 5e-3), ("f16", 1e-3)] {
        let out = folder.path().join(precision);
        let found = losses(&data, &out, "emulator", precision, "1");
        assert_eq!(found.len(), 3 + 3, "teacher and student for one epoch each");
        assert_close(&found, &cpu, share);
        assert!(found != cpu, "{precision} rounds");
        let rounding = losses(&data, &folder.path().join(format!("cpu-{precision}")), "cpu", precision, "1");
        assert_close(&found, &rounding, share / 5.0);
        let config = fs::read_to_string(out.join("config.toml")).unwrap();
        assert!(config.contains(&format!("precision = \"{precision}\"")), "{config}");
    }
}
