//! Recipes with several teachers.

use super::common::{error_of, expect, small_digits};
use super::{distill, run, same_model};
use std::fs;

#[test]
fn an_assistant_lies_between_teacher_and_student() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 96, 20);
    let out = run(folder.path(), &data, "auto", &["--method", "teacher-assistant"]);
    let result = |job: &str| fs::read_to_string(out.join("jobs").join(job).join("result.json")).unwrap();
    assert!(result("distilled-1-assistant1").contains("student_net-x2"));
    let plain = run(folder.path(), &data, "plain", &[]);
    assert!(!same_model((&out, "distilled-1"), (&plain, "distilled-1")), "the assistant teaches, not the teacher");
    let chain = "assistants=student_net-x3+student_net-x2";
    let out = run(folder.path(), &data, "chain", &["--method", "teacher-assistant", "--set", chain]);
    assert!(out.join("jobs/distilled-1-assistant2/model.safetensors").exists());
    for (flags, expected) in [
        (&["--set", "assistants=student_nat-x2"][..], "did you mean `student_net-x2`?"),
        (&["--teacher-model", "student_net"], "no architecture lies between"),
    ] {
        let mut command = distill(&data, &folder.path().join("bad"), &["--method", "teacher-assistant"]);
        let error = error_of(command.args(flags), 2);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn several_teachers_are_trained_once_a_run_and_combined() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 96, 20);
    let run = |name: &str, set: &str| {
        run(folder.path(), &data, name, &["--method", "multi-teacher", "--set", set, "--seeds", "2"])
    };
    let mean = run("mean", "teachers=2");
    let jobs: Vec<String> = fs::read_dir(mean.join("jobs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(jobs.len(), 4, "two teachers for two students: {jobs:?}");
    assert!(!same_model((&mean, "teacher"), (&mean, "teacher-2")));
    // A committee of which only the run's own teacher counts is that teacher.
    let own = run("own", "teachers=2,combine=weighted,weights=1+0");
    let plain = folder.path().join("plain");
    expect(&mut distill(&data, &plain, &[]), 0);
    assert!(same_model((&own, "distilled-1"), (&plain, "distilled-1")));
    assert!(!same_model((&mean, "distilled-1"), (&own, "distilled-1")));
    let confident = run("confident", "teachers=2,combine=confidence");
    assert!(!same_model((&mean, "distilled-1"), (&confident, "distilled-1")));
    // Teachers from files are those very teachers.
    let file = mean.join("jobs/teacher-2/model.safetensors");
    let from_file = run("files", &format!("files={}", file.display()));
    assert!(same_model((&mean, "distilled-1"), (&from_file, "distilled-1")));
    // Whatever a grid varies for students, the teachers of the run stay what they are.
    let grid = folder.path().join("grid");
    let flags = ["--methods", "multi-teacher", "--set", "multi-teacher.teachers=2", "--grid", "lr=0.02"];
    expect(&mut distill(&data, &grid, &flags), 0);
    for teacher in ["teacher", "teacher-2"] {
        assert!(same_model((&mean, teacher), (&grid, teacher)), "{teacher}");
    }
    for (set, expected) in [
        ("teachers=3,combine=weighted,weights=1+2", "must be 3 numbers"),
        ("teachers=2,combine=weighted,weights=1+x+1", "must be 2 numbers"),
        ("teachers=2,combine=weighted,weights=0+0", "not all 0"),
        ("files=nowhere.safetensors", "there is no file nowhere.safetensors"),
    ] {
        let out = folder.path().join("bad");
        let error = error_of(&mut distill(&data, &out, &["--method", "multi-teacher", "--set", set]), 2);
        assert!(error.contains(expected), "{error}");
        assert!(!out.exists(), "{set} is refused before anything is computed");
    }
    let error = error_of(&mut distill(&data, &folder.path().join("bad"), &["--method", "multi-teacher,at"]), 2);
    assert!(error.contains("leave out at"), "{error}");
}
