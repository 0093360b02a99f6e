//! Reference fixtures: every op of this engine reproduces them, and a wrong result is noticed.

mod common;

use common::beside_checkout;
use kdengine::backend::cuda::gpu_count;
use kdengine::conformance::{registry, run, CaseResult, Status, Summary};
use kdengine::tensor::io::{load_safetensors, save_safetensors};
use kdengine::{Device, Tensor};
use std::path::{Path, PathBuf};

fn fixtures() -> Option<PathBuf> {
    beside_checkout("shared/golden")
}

/// The first fixture of an op, changed and saved into a folder of its own, and what the run says about it.
fn tampered(
    golden: &Path,
    file: &str,
    change: impl Fn(&mut std::collections::BTreeMap<String, Tensor>, &mut std::collections::BTreeMap<String, String>),
) -> CaseResult {
    let folder = tempfile::tempdir().unwrap();
    let (mut tensors, mut metadata) = load_safetensors(&golden.join(file)).unwrap();
    change(&mut tensors, &mut metadata);
    save_safetensors(&folder.path().join(file), &tensors, &metadata).unwrap();
    run(folder.path(), None, Device::Cpu).unwrap().remove(0)
}

/// Every device that this build and this machine have.
fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu, Device::Reference];
    if cfg!(feature = "emulator") {
        devices.push(Device::Emulator);
    }
    devices.extend((0..gpu_count()).map(Device::Cuda));
    devices
}

#[test]
fn every_fixture_passes_on_every_device() {
    let Some(golden) = fixtures() else { return };
    for device in devices() {
        let results = run(&golden, None, device).unwrap();
        let others: Vec<&CaseResult> = results.iter().filter(|r| r.status != Status::Passed).collect();
        assert!(others.is_empty(), "{device}: {others:#?}");
        assert_eq!(Summary::of(&results).passed, 181, "{device}");
    }
}

#[test]
fn the_ops_of_the_notebook_all_have_fixtures_that_run() {
    let Some(golden) = fixtures() else { return };
    let results = run(&golden, None, Device::Cpu).unwrap();
    for op in
        ["conv2d", "linear", "max_pool2d", "cross_entropy", "hinton_kd", "adam", "sgd", "lr_schedule", "layer_norm"]
    {
        assert!(results.iter().any(|r| r.op == op && r.status == Status::Passed), "{op}");
        assert!(registry().any(|spec| spec.name == op), "{op}");
    }
}

#[test]
fn wrong_values_nan_and_unknown_hyperparameters_fail() {
    let Some(golden) = fixtures() else { return };
    let scale = |name: &'static str, factor: f64, shift: f64| {
        move |tensors: &mut std::collections::BTreeMap<String, Tensor>, _: &mut _| {
            let changed = tensors[name].affine(factor, shift).unwrap();
            tensors.insert(name.to_string(), changed);
        }
    };
    let file = "hinton_kd__00.safetensors";
    assert_eq!(tampered(&golden, file, |_, _| ()).status, Status::Passed);
    assert_eq!(tampered(&golden, file, scale("out.soft", 1.01, 0.0)).status, Status::Failed);
    assert_eq!(tampered(&golden, file, scale("grad.student_logits", 1.0, 0.001)).status, Status::Failed);
    assert_eq!(tampered(&golden, file, scale("in.student_logits", f64::NAN, 0.0)).status, Status::Failed);
    let unknown = tampered(&golden, file, |_, metadata| {
        let attrs = metadata["attrs"].replacen('{', "{\"sharpness\": 2.0, ", 1);
        metadata.insert("attrs".to_string(), attrs);
    });
    assert_eq!(unknown.status, Status::Failed);
    assert!(unknown.reason.unwrap().contains("sharpness"));
    let missing = tampered(&golden, file, |tensors, _| {
        tensors.remove("in.teacher_logits");
    });
    assert!(missing.reason.unwrap().contains("teacher_logits"));
    let other = tampered(&golden, file, |_, metadata| {
        metadata.insert("op".to_string(), "unheard_of".to_string());
    });
    assert_eq!(other.status, Status::Unsupported);
}

#[test]
fn a_damaged_fixture_is_a_failed_case_and_an_empty_folder_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(folder.path(), None, Device::Cpu).unwrap_err().to_string().contains("no fixture"));
    std::fs::write(folder.path().join("relu__00.safetensors"), b"damaged").unwrap();
    let results = run(folder.path(), None, Device::Cpu).unwrap();
    assert_eq!(Summary::of(&results), Summary { passed: 0, failed: 1, unsupported: 0 });
    assert!(results[0].reason.as_ref().unwrap().contains("relu__00.safetensors"));
}
