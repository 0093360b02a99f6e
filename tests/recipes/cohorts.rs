//! Recipes in which networks are trained in lockstep.

use super::common::{error_of, small_digits};
use super::{distill, run, same_model};
use std::fs;

#[test]
fn mutual_learners_differ_learn_from_each_other_and_need_no_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 96, 20);
    let run = |name: &str, flags: &[&str]| run(folder.path(), &data, name, flags);
    let together = run("dml", &["--method", "dml", "--set", "students=3"]);
    assert!(!same_model((&together, "distilled-1"), (&together, "distilled-1-student2")));
    assert!(!same_model((&together, "distilled-1-student2"), (&together, "distilled-1-student3")));
    let answers = fs::read_dir(&together).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(answers.filter(|name| name.starts_with("teacher-")).count(), 0, "nobody asked the teacher");

    // Without the mutual term a cohort is networks that know nothing of one another.
    let apart = run("apart", &["--method", "dml", "--soft-weight", "0"]);
    let alone = run("alone", &["--method", "hard-labels"]);
    assert!(same_model((&apart, "distilled-1"), (&alone, "distilled-1")));
    assert!(!same_model((&together, "distilled-1"), (&alone, "distilled-1")), "the partners teach");

    // In turn, the second student learns from what the first says after its step; the first step of the first is the same.
    let losses = |update: &str| {
        let out = run(update, &["--method", "dml", "--epochs", "1", "--set", &format!("update={update}")]);
        let log = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let first = |job: &str| {
            let line = log.lines().find(|line| line.contains(&format!("\"{job}\""))).unwrap();
            serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap()
        };
        ["distilled-1", "distilled-1-student2"].map(first)
    };
    let (sequential, simultaneous) = (losses("sequential"), losses("simultaneous"));
    assert_eq!(sequential[0], simultaneous[0]);
    assert_ne!(sequential[1], simultaneous[1]);
    let error =
        error_of(&mut distill(&data, &folder.path().join("one"), &["--method", "dml", "--set", "students=1"]), 2);
    assert!(error.contains("a whole number, 2 to 64"), "{error}");
}

#[test]
fn a_teacher_in_co_training_is_not_disturbed_by_its_student() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 96, 20);
    let run = |name: &str, flags: &[&str]| run(folder.path(), &data, name, flags);
    let together = run("together", &["--method", "co-training"]);
    let alone = run("alone", &["--method", "hard-labels", "--student-model", "teacher_net"]);
    assert!(same_model((&together, "distilled-1-teacher"), (&alone, "distilled-1")));
    let log = fs::read_to_string(together.join("metrics.jsonl")).unwrap();
    assert!(
        log.lines().any(|line| line.contains("\"distilled-1\"") && line.contains("\"soft\"")),
        "the student is taught"
    );
}
