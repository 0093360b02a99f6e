//! Teachers and students that see different things of the same images, or answer different questions about them.

mod common;

use common::{error_of, expect, kdengine, small_digits};
use kdengine::data::{digits, View};
use kdengine::models::{Model, Task};
use kdengine::nn::{Context, Module};
use kdengine::tensor::io::load_safetensors;
use kdengine::tensor::Rng;
use kdengine::train::{Silent, TeacherCache};
use kdengine::Device;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// A short run with small networks.
fn small(command: &str, data: &Path, out: &Path, flags: &[&str]) -> Command {
    let mut small = kdengine();
    small.args([command, "--quiet", "--epochs", "2", "--teacher-epochs", "2", "--batch-size", "32", "--seeds", "1"]);
    small.args(["--teacher-model", "mlp-24-16", "--student-model", "mlp-8-8"]).args(flags);
    small.arg("--data").arg(data).arg("--out").arg(out);
    small
}

fn shape_of(run: &Path, job: &str, tensor: &str) -> Vec<usize> {
    let (tensors, _) = load_safetensors(&run.join("jobs").join(job).join("model.safetensors")).unwrap();
    tensors[tensor].shape().to_vec()
}

#[test]
fn each_network_is_trained_on_its_own_view() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 96, 40);
    let out = folder.path().join("run");
    let views = ["--teacher-view", "left-half", "--student-view", "low-resolution-7", "--normalize"];
    expect(&mut small("compare", &data, &out, &views), 0);
    assert_eq!(shape_of(&out, "teacher", "fc1.weight"), [24, 28 * 14]);
    for job in ["distilled-1", "baseline-1"] {
        assert_eq!(shape_of(&out, job, "fc1.weight"), [8, 49], "{job}");
    }
    // The trained student is judged by its own view again.
    let model = out.join("jobs/distilled-1/model.safetensors");
    let eval = |view: &str| {
        let mut eval = kdengine();
        eval.args(["eval", "--json", "--view", view, "--data"]).arg(&data).arg(&model);
        eval
    };
    let row: serde_json::Value = serde_json::from_slice(&expect(&mut eval("low-resolution-7"), 0).stdout).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(row["accuracy"], summary["models"][1]["accuracy"]);
    assert!(error_of(&mut eval("identity"), 1).contains("fc1.weight (model [8, 784], file [8, 49])"));
}

#[test]
fn the_teacher_is_asked_about_its_view_of_the_students_images() {
    let folder = tempfile::tempdir().unwrap();
    let all = digits::generate(&digits::DigitsConfig { train: 12, test: 2, ..Default::default() }).train;
    let seen = View::Edges.of(&all).unwrap();
    let task = Task { input: seen.image_shape(), classes: 10 };
    let teacher = Arc::new(Model::new("mlp-12", task, Rng::new(3, 1), Device::Cpu).unwrap());
    let mut cache = TeacherCache::new(folder.path(), 5, Device::Cpu);
    cache.outputs(&teacher, &seen, &[], &mut Silent).unwrap();
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let kept = load_safetensors(&file).unwrap().0["logits"].to_vec::<f32>().unwrap();
    let about = |data: &kdengine::data::Dataset| {
        let images = data.images_tensor(0..12, Device::Cpu).unwrap();
        teacher.forward(&images, &mut Context::eval()).unwrap().to_vec::<f32>().unwrap()
    };
    assert_eq!(kept, about(&seen));
    assert_ne!(kept, about(&all));
}

#[test]
fn the_teacher_can_be_limited_to_the_students_images() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 96, 20);
    let teachers = ["0", "32", "48"].map(|limit| {
        let out = folder.path().join(limit);
        expect(&mut small("train", &data, &out, &["--teacher-limit", limit]), 0);
        let steps = fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().count();
        (steps, fs::read(out.join("jobs/teacher/model.safetensors")).unwrap())
    });
    assert_eq!(teachers.each_ref().map(|(steps, _)| *steps), [6, 2, 4], "two epochs of batches of 32");
    assert_ne!(teachers[0].1, teachers[1].1);
}

#[test]
fn a_student_learns_another_task_from_features() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 96, 40);
    for method in ["embedding-matching", "rkd", "regression"] {
        let out = folder.path().join(method);
        let flags = ["--student-classes", "parity", "--method", method];
        let mut command = small("compare", &data, &out, &flags);
        if method == "regression" {
            assert!(error_of(&mut command, 2).contains("choose a method of features or relations"));
            continue;
        }
        expect(&mut command, 0);
        assert_eq!(shape_of(&out, "teacher", "classifier.weight"), [10, 16]);
        assert_eq!(shape_of(&out, "distilled-1", "classifier.weight"), [2, 8]);
        let summary: serde_json::Value = serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap();
        assert_eq!(summary["data"]["classes"], serde_json::json!(["even", "odd"]));
        // The teacher is judged by the student's question.
        assert_eq!(summary["models"][0]["confusion"].as_array().unwrap().len(), 2);
        assert_eq!(summary["models"][0]["agreement"], 100.0);
        let model = out.join("jobs/distilled-1/model.safetensors");
        let eval = |flags: &[&str]| {
            let mut command = kdengine();
            command.arg("eval").arg(&model).arg("--data").arg(&data).args(flags);
            command
        };
        let error = error_of(&mut eval(&[]), 1);
        assert!(error.contains("tells 2 classes apart, the data has 10") && error.contains("--classes"), "{error}");
        expect(&mut eval(&["--classes", "parity"]), 0);
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 32, 10);
    let cases: [(&str, &[&str], &str); 7] = [
        (
            "distill",
            &["--student-view", "edges", "--shift", "1"],
            "give --teacher-view and --student-view the same view",
        ),
        ("distill", &["--student-view", "edgs"], "did you mean `edges`?"),
        ("distill", &["--student-view", "low-resolution-29"], "larger than the images"),
        ("distill", &["--student-classes", "parity"], "hinton compares answers"),
        ("distill", &["--student-classes", "0/1"], "class 2 is there 0 times"),
        ("run", &["--student-classes", "parity", "--method", "rkd"], "leave the ablation out"),
        ("distill", &["--student-model", "mlp-20-x"], "such as mlp-20-20"),
    ];
    for (command, flags, part) in cases {
        let error = error_of(&mut small(command, &data, &folder.path().join("run"), flags), 2);
        assert!(error.contains(part), "{flags:?}: {error}");
        let trained = folder.path().join("run/metrics.jsonl");
        assert!(fs::read(&trained).map_or(true, |log| log.is_empty()), "{flags:?}");
        let _ = fs::remove_dir_all(folder.path().join("run"));
    }
    // Augmentation is fine where both see the same view.
    let same = ["--teacher-view", "low-resolution-14", "--student-view", "low-resolution-14", "--shift", "1"];
    expect(&mut small("distill", &data, &folder.path().join("same"), &same), 0);
}
