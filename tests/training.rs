//! Training on the CUDA kernels follows the processor's training, loss by loss.
#![cfg(feature = "emulator")]

mod common;

use common::{expect, kdengine, small_digits};
use std::fs;
use std::path::Path;

/// The losses of a short distillation on a device, job by job and step by step.
fn losses(data: &Path, out: &Path, device: &str) -> Vec<(String, f64)> {
    let settings =
        "--batch-size 16 --teacher-epochs 1 --epochs 4 --lr 0.003 --teacher-model student_net --shift 1 --flip --quiet";
    let mut command = kdengine();
    command.args(["distill", "--device", device]).arg("--data").arg(data).arg("--out").arg(out);
    expect(command.args(settings.split(' ')), 0);
    let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let loss = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        (record["job"].to_string(), record["loss"].as_f64().unwrap())
    };
    log.lines().map(loss).collect()
}

#[test]
fn the_emulator_follows_the_cpus_loss_curve_through_a_whole_distillation() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 48, 20);
    let [cpu, emulator] = ["cpu", "emulator"].map(|device| losses(&data, &folder.path().join(device), device));
    assert_eq!(cpu.len(), 3 + 12, "a teacher for one epoch of three steps, a student for four");
    for ((job, expected), (other, found)) in cpu.iter().zip(&emulator) {
        assert_eq!(job, other);
        assert!((found - expected).abs() < 2e-3 * expected.abs(), "{job}: {found} instead of {expected}");
    }
    let sum = |steps: &[(String, f64)]| steps.iter().map(|(_, loss)| loss).sum::<f64>();
    assert!(sum(&emulator[12..]) < sum(&emulator[3..6]), "the student learns");
}
