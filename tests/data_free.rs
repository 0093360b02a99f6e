//! Distillation without data: what moves, what does not, and what the student sees.

mod common;

use common::{error_of, expect, kdengine, small_digits};
use kdengine::pipeline::{RunConfig, Session};
use kdengine::tensor::io::load_safetensors;
use kdengine::train::{interrupt, Progress};
use kdengine::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A teacher that was trained for a few seconds, in a run of its own.
fn teacher(folder: &Path) -> (PathBuf, PathBuf) {
    let data = small_digits(&folder.join("data"), 600, 100);
    let out = folder.join("teacher");
    let mut train = kdengine();
    train.args(["train", "--quiet", "--teacher-model", "student_net", "--teacher-epochs", "12", "--batch-size", "32"]);
    expect(train.arg("--data").arg(&data).arg("--out").arg(&out), 0);
    (data, out.join("jobs/teacher/model.safetensors"))
}

fn distill((data, teacher): (&Path, &Path), out: &Path, flags: &[&str]) -> Command {
    let mut command = kdengine();
    command.args(["distill", "--quiet", "--teacher-model", "student_net", "--student-model", "student_net"]);
    command.args(["--seeds", "1", "--epochs", "2", "--batch-size", "32"]).args(flags);
    command.arg("--data").arg(data).arg("--teacher").arg(teacher).arg("--out").arg(out);
    command
}

fn summary(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap()
}

/// The images of a recipe that changes pixels, and the teacher's entropy before and after.
fn made(out: &Path, name: &str) -> (Vec<u8>, [f64; 2]) {
    let (tensors, facts) = load_safetensors(&out.join(format!("distilled-1-{name}.safetensors"))).unwrap();
    let numbers: Vec<f64> = facts["entropy"].split(' ').map(|x| x.parse().unwrap()).collect();
    (tensors["images"].to_vec().unwrap(), [numbers[0], numbers[1]])
}

const PIXELS: &str = "images=20,images-batch=10";

#[test]
fn the_teachers_gradient_moves_the_pixels_and_its_entropy_falls() {
    let folder = tempfile::tempdir().unwrap();
    let (data, teacher) = teacher(folder.path());
    let before = fs::read(&teacher).unwrap();
    for (method, name) in
        [("data-free-gradient", "images"), ("activation-max", "images"), ("deep-inversion", "images1")]
    {
        let run = |label: &str, more: &str| {
            let out = folder.path().join(format!("{method}-{label}"));
            let set = format!("{PIXELS},{more}");
            expect(&mut distill((&data, &teacher), &out, &["--method", method, "--set", &set]), 0);
            out
        };
        let long = run("long", "iterations=60");
        let (_, [start, end]) = made(&long, name);
        // The notebook's images are made for low entropy alone; the others for classes, of which this teacher is as sure in noise.
        assert!(method != "data-free-gradient" || end < 0.7 * start || end < 0.23, "{method}: {start} to {end}");
        // The smoothness alone cannot do that: without it, pixels move all the same, and they move with the teacher.
        let (one, _) = made(&run("one", "iterations=1,tv=0"), name);
        let (two, _) = made(&run("two", "iterations=2,tv=0"), name);
        assert_ne!(one, two, "{method}: nothing moved");
        // Steps of ten times the range would leave it; what is outside is cut off.
        let (wild, _) = made(&run("wild", "iterations=1,tv=0,images-lr=10"), name);
        assert!([0, 255].iter().all(|end| wild.contains(end)), "{method}: at both ends of the data's range");
        // A contact sheet, with the classes.
        let extras = &summary(&long)["extras"];
        let sheet = extras["galleries"][0]["pictures"].as_array().unwrap();
        assert!(!sheet.is_empty() && sheet[0]["caption"].as_str().unwrap().ends_with('%'), "{method}");
        assert!(fs::read_to_string(long.join("report.html")).unwrap().contains("has seen no real one"), "{method}");
    }
    assert!(fs::read(&teacher).unwrap() == before, "the teacher's file is as it was");
}

/// Asks for a stop as soon as the first batch of images is there.
struct StopAfterABatch;

impl Progress for StopAfterABatch {
    fn stage(&mut self, what: &str) {
        if what.contains("20 of 50 images made (40 %)") {
            interrupt::request();
        }
    }
}

#[test]
fn images_that_were_made_are_kept_and_the_next_batch_comes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (data, teacher) = teacher(folder.path());
    let text = format!(
        "data = {data:?}
        teacher = {teacher:?}
        teacher-model = 'student_net'
        method = 'data-free-gradient'
        set = 'images=50,images-batch=20,iterations=3'
        seeds = 1
        epochs = 1
        batch-size = 32"
    );
    let config = RunConfig::resolve(text.parse().unwrap(), Default::default()).unwrap();
    let (stopped, whole) = (folder.path().join("stopped"), folder.path().join("whole"));
    let mut progress = StopAfterABatch;
    let mut session = Session::open("distill", config, &stopped, false, &mut progress).unwrap();
    let run_teacher = session.teacher().unwrap();
    let error = session.student("distilled-1", session.student_plan(), &run_teacher).map(drop).unwrap_err();
    assert!(matches!(error, Error::Interrupted(_)) && error.to_string().contains("20 of 50 images"), "{error}");
    drop(session);
    assert_eq!(made(&stopped, "images").0.len(), 20 * 28 * 28, "the batch is kept");

    let go = |flags: &[&str], out: &Path| {
        let mut command = kdengine();
        expect(command.args(["distill", "--quiet"]).args(flags).arg(out), 0);
    };
    let config = stopped.join("config.toml").display().to_string();
    go(&["--config", &config, "--out"], &whole);
    go(&["--resume"], &stopped);
    assert!(made(&whole, "images") == made(&stopped, "images"), "images or entropy differ");
    let student = |out: &Path| fs::read(out.join("jobs/distilled-1/model.safetensors")).unwrap();
    assert!(student(&whole) == student(&stopped));
}

#[test]
fn generators_train_a_student_and_a_restart_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (data, teacher) = teacher(folder.path());
    for method in ["dafl", "dfad"] {
        let run = |label: &str, flags: &[&str]| {
            let out = folder.path().join(format!("{method}-{label}"));
            let flags = [&["--method", method, "--set", "iterations=4,latent=8,width=4"], flags].concat();
            expect(&mut distill((&data, &teacher), &out, &flags), 0);
            let of = |file: &str| fs::read(out.join("jobs/distilled-1").join(file)).unwrap();
            (out.clone(), of("model.safetensors"), of("generator.safetensors"))
        };
        let (first, student, generator) = run("first", &[]);
        let (_, again, same) = run("again", &["--threads", "1"]);
        assert!(student == again && generator == same, "{method}: another number of threads gives other bits");
        let (_, other, _) = run("seed", &["--seed", "1"]);
        assert!(student != other, "{method}: another seed gives the same");
        let log = fs::read_to_string(first.join("metrics.jsonl")).unwrap();
        assert_eq!(log.lines().count(), 8, "two epochs of four iterations");
        let extras = &summary(&first)["extras"];
        assert_eq!(extras["galleries"][0]["pictures"].as_array().unwrap().len(), 32, "{method}: a batch is shown");
    }
}

#[test]
fn the_balance_keeps_all_images_from_becoming_one_class() {
    let folder = tempfile::tempdir().unwrap();
    let (data, teacher) = teacher(folder.path());
    let classes = |balance: &str| {
        let out = folder.path().join(balance);
        let set = format!("images=60,images-batch=60,iterations=80,balance={balance}");
        expect(&mut distill((&data, &teacher), &out, &["--method", "data-free-gradient", "--set", &set]), 0);
        let (tensors, _) = load_safetensors(&out.join("distilled-1-images.safetensors")).unwrap();
        let mut labels: Vec<i32> = tensors["labels"].to_vec().unwrap();
        labels.sort_unstable();
        labels.dedup();
        labels.len()
    };
    let (with, without) = (classes("5"), classes("0"));
    assert!(with > without && with >= 5, "{with} classes with balance, {without} without");
}

#[test]
fn what_cannot_work_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 32, 10);
    let cases: [(&[&str], &str); 3] = [
        (&["--method", "dafl", "--hard-weight", "0.5"], "the student, who has no labels"),
        (&["--method", "dfad,at"], "has a loss of its own"),
        (&["--method", "dafl", "--student-view", "low-resolution-14"], "on the same images and classes"),
    ];
    for (flags, part) in cases {
        let mut command = kdengine();
        command.args(["distill", "--quiet", "--epochs", "1", "--data"]).arg(&data).args(flags);
        let error = error_of(command.arg("--out").arg(folder.path().join("run")), 2);
        assert!(error.contains(part), "{flags:?}: {error}");
        assert!(!folder.path().join("run").exists(), "{flags:?}");
    }
}
