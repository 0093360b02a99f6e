//! A run that is killed at any moment and resumed ends at the same bits as one that was left alone.

mod common;

use common::{error_of, expect, kdengine, small_digits};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// A short run: three epochs, one seed, two temperatures; beside Hinton's term at a falling temperature, a first stage with adapters, three
/// memories, and a discriminator with an optimiser of its own; easy images first, weights pruned and quantised.
fn run(data: &Path, out: &Path) -> Command {
    let mut command = kdengine();
    command.args([
        "run",
        "--quiet",
        "--method",
        "hinton,fitnet,crd,ps-kd,temporal-ensemble,adversarial",
        "--set",
        "fitnet.stages=two,fitnet.hint-epochs=1",
        "--temperature",
        "4..2",
        "--curriculum",
        "0.5",
        "--prune",
        "unstructured:0.5",
        "--quantize",
        "int8-per-channel",
        "--epochs",
        "3",
        "--seeds",
        "1",
        "--sweep-temperatures",
        "1,4",
        "--sweep-epochs",
        "1",
    ]);
    command.args([
        "--ablation-epochs",
        "1",
        "--ablation-weights",
        "0.3",
        "--teacher-model",
        "student_net",
        "--batch-size",
        "32",
    ]);
    command.arg("--data").arg(data).arg("--out").arg(out);
    command
}

/// The bytes of every model and of the metrics log.
fn results(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let jobs = fs::read_dir(out.join("jobs")).unwrap().map(|entry| entry.unwrap().path().join("model.safetensors"));
    let mut files: Vec<PathBuf> = jobs.chain([out.join("metrics.jsonl")]).collect();
    files.sort();
    files.into_iter().map(|file| (file.strip_prefix(out).unwrap().to_path_buf(), fs::read(&file).unwrap())).collect()
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 600, 100);
    let whole = folder.path().join("whole");
    expect(&mut run(&data, &whole), 0);

    let killed = folder.path().join("killed");
    let mut first = true;
    for delay_ms in [150, 400, 300, 700] {
        let mut command = run(&data, &killed);
        if !first && killed.join("config.toml").exists() {
            command.arg("--resume");
        }
        first = false;
        let mut child = command.spawn().unwrap();
        sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut last = run(&data, &killed);
    if killed.join("config.toml").exists() {
        last.arg("--resume");
    }
    expect(&mut last, 0);

    let (a, b) = (results(&whole), results(&killed));
    assert_eq!(a.iter().map(|(name, _)| name).collect::<Vec<_>>(), b.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for ((name, a), (_, b)) in a.iter().zip(&b) {
        assert!(a == b, "{} differs", name.display());
    }
}

#[test]
fn a_job_whose_model_is_damaged_is_trained_again_once_its_folder_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 64, 20);
    let out = folder.path().join("run");
    let train = |resume: &[&str]| {
        let mut command = kdengine();
        command.args(["train", "--teacher-model", "student_net", "--teacher-epochs", "1", "--data"]).arg(&data);
        command.arg("--out").arg(&out).args(resume);
        command
    };
    expect(&mut train(&[]), 0);
    let whole = results(&out);
    fs::write(out.join("jobs/teacher/model.safetensors"), b"").unwrap();
    let error = error_of(&mut train(&["--resume"]), 1);
    assert!(error.contains("teacher/model.safetensors") && error.contains("remove its folder"), "{error}");
    fs::remove_dir_all(out.join("jobs/teacher")).unwrap();
    expect(&mut train(&["--resume"]), 0);
    assert!(results(&out)[0] == whole[0], "the same model");
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 2000, 100);
    let out = folder.path().join("run");
    let mut command = run(&data, &out);
    let child = command.args(["--epochs", "50"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let started = (0..2000).any(|_| {
        sleep(Duration::from_millis(5));
        fs::metadata(out.join("metrics.jsonl")).is_ok()
    });
    assert!(started, "training starts within ten seconds");
    sleep(Duration::from_millis(300));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("is saved at step") && text.contains("--resume"), "{text}");
    assert!(out.join("jobs/teacher/checkpoint.safetensors").exists());
}
