//! Recipes for other images or classes than the teacher's.

use super::common::{error_of, expect, small_digits};
use super::{distill, model, run, same_model, summary};
use std::fs;
use std::path::Path;

#[test]
fn self_training_does_not_look_at_the_labels_that_it_has_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 120, 20);
    let flags = ["--method", "self-training", "--train-limit", "40", "--epochs", "4", "--set"];
    let run = |data: &Path, name: &str, set: &str| run(folder.path(), data, name, &[&flags[..], &[set]].concat());
    let all = run(&data, "all", "rounds=1,confidence=0");
    // The same images with wrong labels beyond the first 40 of the training set's random order: nothing may change.
    let splits = kdengine::data::load(&data.display().to_string(), None).unwrap();
    let order = kdengine::tensor::Rng::new(0, kdengine::train::streams::SUBSET).sequence().permutation(120);
    let mut lies = splits.clone();
    for &i in &order[40..] {
        lies.train.labels[i as usize] = 9 - lies.train.labels[i as usize];
    }
    let lied = folder.path().join("lied");
    kdengine::data::idx::write_splits(&lied, &lies).unwrap();
    let teacher = all.join("jobs/teacher/model.safetensors").display().to_string();
    let blind = folder.path().join("blind");
    let with_teacher = [&flags[..], &["rounds=1,confidence=0", "--teacher", &teacher]].concat();
    expect(&mut distill(&lied, &blind, &with_teacher), 0);
    assert!(same_model((&all, "distilled-1"), (&blind, "distilled-1")));
    let note = |out: &Path| summary(out)["extras"]["notes"][0].as_str().unwrap().to_string();
    assert!(note(&all).contains("80 of 80 images"), "{}", note(&all));
    // Nobody is sure enough: the student learns from the labelled images alone.
    let none = run(&data, "none", "rounds=1,confidence=1");
    assert!(note(&none).contains(" 0 of 80 images"), "{}", note(&none));
    assert!(!same_model((&all, "distilled-1"), (&none, "distilled-1")));
    let error = error_of(&mut distill(&data, &folder.path().join("bad"), &["--method", "self-training"]), 2);
    assert!(error.contains("--train-limit"), "{error}");
}

#[test]
fn the_student_of_the_last_round_starts_as_any_student_of_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 80, 20);
    // At this learning rate the trained weights are the initial ones.
    let still = ["--train-limit", "40", "--lr", "1e-30"];
    let plain = run(folder.path(), &data, "plain", &still);
    let flags = ["--method", "self-training", "--set", "rounds=2,confidence=1"];
    let out = run(folder.path(), &data, "rounds", &[&still[..], &flags].concat());
    let weights = |out: &Path, job: &str| model(out, job)["fc1.weight"].to_vec::<f32>().unwrap();
    assert_eq!(weights(&out, "distilled-1"), weights(&plain, "distilled-1"));
    for earlier in ["distilled-1-labeller", "distilled-1-round1"] {
        assert_ne!(weights(&out, earlier), weights(&plain, "distilled-1"), "{earlier} starts elsewhere");
    }
}

#[test]
fn learning_without_forgetting_remembers_more_than_fine_tuning() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 400, 200);
    let flags = ["--method", "lwf", "--epochs", "8", "--lr", "0.005"];
    let run = |name: &str, more: &[&str]| run(folder.path(), &data, name, &[&flags[..], more].concat());
    let out = run("lwf", &[]);
    let last = |job: &str| {
        let result: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("jobs").join(job).join("result.json")).unwrap()).unwrap();
        result["history"].as_array().unwrap().last().unwrap().clone()
    };
    let groups = |job: &str| [0, 1].map(|group| last(job)["groups"][group].as_f64().unwrap());
    let (with, without) = (groups("distilled-1"), groups("distilled-1-fine-tuned"));
    assert!(with[0] > without[0], "old classes: {with:?} with the old answers, {without:?} without");
    assert!(groups("distilled-1-old")[0] > 50.0);
    // Who never saw the new classes is right about hardly any of them where all classes can be the answer.
    let among_all = last("distilled-1-old")["test_accuracy"].as_f64().unwrap();
    assert!(among_all < 0.75 * groups("distilled-1-old")[0], "{among_all} among all classes");
    // Without the old answers it is fine-tuning.
    let tuned = run("tuned", &["--soft-weight", "0"]);
    assert!(same_model((&tuned, "distilled-1"), (&tuned, "distilled-1-fine-tuned")));
    assert!(same_model((&out, "distilled-1-old"), (&tuned, "distilled-1-old")), "the old network is what it was");
    for (flags, expected) in [
        (["--method", "lwf", "--set", "old-classes=10"], "must leave new classes"),
        (["--method", "lwf,at", "--set", "old-classes=5"], "leave out at"),
    ] {
        let error = error_of(&mut distill(&data, &folder.path().join("bad"), &flags), 2);
        assert!(error.contains(expected), "{error}");
    }
}
