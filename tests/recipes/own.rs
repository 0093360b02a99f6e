//! Recipes in which a network learns from its own past.

use super::common::{expect, small_digits};
use super::{distill, model, run, same_model, summary};
use std::fs;

#[test]
fn generations_start_from_different_weights_and_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 64, 20);
    let out = folder.path().join("run");
    // At this learning rate the trained weights are the initial ones.
    let flags = ["--method", "born-again", "--set", "generations=3", "--lr", "1e-30"];
    expect(&mut distill(&data, &out, &flags), 0);
    let weights = |job: &str| model(&out, job)["fc1.weight"].to_vec::<f32>().unwrap();
    let generations = ["distilled-1-gen1", "distilled-1-gen2", "distilled-1"].map(weights);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let same = generations[a].iter().zip(&generations[b]).filter(|(x, y)| x == y).count();
        assert!(same * 100 < generations[a].len(), "{same} weights are the same in generations {a} and {b}");
    }
    let plain = folder.path().join("plain");
    expect(&mut distill(&data, &plain, &["--hard-weight", "0", "--temperature", "1", "--lr", "1e-30"]), 0);
    assert_eq!(
        model(&plain, "distilled-1")["fc1.weight"].to_vec::<f32>().unwrap(),
        generations[2],
        "the one returned starts as any student of this seed"
    );
    let rows = summary(&out)["extras"]["tables"][0]["rows"].as_array().unwrap().len();
    assert_eq!(rows, 4, "three generations and all together");
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("all generations together"));
}

#[test]
fn an_average_teacher_follows_its_student_and_either_can_be_returned() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 96, 20);
    let run = |name: &str, set: &str| run(folder.path(), &data, name, &["--method", "ema", "--set", set]);
    let forgetful = run("forgetful", "momentum=0");
    assert!(same_model((&forgetful, "distilled-1"), (&forgetful, "distilled-1-student")), "no momentum: the student");
    let (average, student) = (run("average", "momentum=0.9"), run("student", "momentum=0.9,deploy=student"));
    assert!(!same_model((&average, "distilled-1"), (&average, "distilled-1-student")));
    assert!(same_model((&average, "distilled-1"), (&student, "distilled-1-average")));
    assert!(same_model((&average, "distilled-1-student"), (&student, "distilled-1")));
}
