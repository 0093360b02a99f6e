//! `compare --methods`: the leaderboard. Who takes part, what the students of a seed share, what is trained again, and what is not.

mod common;

use common::{error_of, expect, kdengine, small_digits};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// A tiny board: small networks, little data, one epoch.
fn board(data: &Path, out: &Path, flags: &[&str]) -> Command {
    let mut command = kdengine();
    command.args(["compare", "--quiet", "--epochs", "1", "--teacher-epochs", "1", "--batch-size", "32"]);
    command.args(["--teacher-model", "student_net", "--train-limit", "40"]).args(flags);
    command.arg("--data").arg(data).arg("--out").arg(out);
    command
}

fn resume(out: &Path, flags: &[&str]) -> Command {
    let mut command = kdengine();
    command.args(["compare", "--quiet"]).args(flags).arg("--resume").arg(out);
    command
}

fn data(folder: &tempfile::TempDir) -> PathBuf {
    small_digits(&folder.path().join("data"), 64, 20)
}

fn summary(out: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(out.join("summary.json")).unwrap()).unwrap()
}

fn names(out: &Path) -> BTreeSet<String> {
    let summary = summary(out);
    let rows = summary["leaderboard"]["rows"].as_array().unwrap();
    rows.iter().map(|row| row["name"].as_str().unwrap().to_string()).collect()
}

/// When each job of a run was finished.
fn finished(out: &Path) -> Vec<(String, SystemTime)> {
    let jobs = fs::read_dir(out.join("jobs")).unwrap().map(|entry| entry.unwrap());
    let at = |path: PathBuf| fs::metadata(path.join("result.json")).unwrap().modified().unwrap();
    let mut jobs: Vec<_> = jobs.map(|job| (job.file_name().into_string().unwrap(), at(job.path()))).collect();
    jobs.sort();
    jobs
}

#[test]
fn a_board_has_the_baselines_its_methods_and_everything_in_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (data(&folder), folder.path().join("board"));
    let output = expect(&mut board(&data, &out, &["--methods", "at,at+hinton", "--seeds", "2"]), 0);
    let text = String::from_utf8(output.stdout).unwrap();
    let everyone = ["at", "at+hinton", "hard-labels", "hinton"];
    assert_eq!(names(&out).iter().map(String::as_str).collect::<Vec<_>>(), everyone);
    for part in ["over labels", "p (Holm)", "paired t-test over 2 seeds", "calibration error"].iter().chain(&everyone) {
        assert!(text.contains(part), "{part} in {text}");
    }
    let csv = fs::read_to_string(out.join("leaderboard.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for part in ["Leaderboard", "Where the methods stand", "Accuracy by epoch", "at+hinton"] {
        assert!(page.contains(part), "{part}");
    }
    for row in summary(&out)["leaderboard"]["rows"].as_array().unwrap() {
        let cost = &row["cost"];
        assert!(cost["relative"].as_f64().unwrap() > 0.0 && cost["peak_bytes"].as_u64().unwrap() > 0, "{row}");
        assert_eq!(row["students"].as_array().unwrap().len(), 2);
        let is_baseline = row["name"] == "hard-labels";
        assert_eq!(row["over_labels"].is_null(), is_baseline, "{row}");
    }
}

/// With a loss of the same weight 0 everywhere but in the labels' part, students that share weights and batches end at the same bits.
#[test]
fn students_of_a_seed_share_initial_weights_and_batches() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (data(&folder), folder.path().join("board"));
    let flags = ["--methods", "at,logit-mse", "--set", "at.weight=0,logit-mse.weight=0", "--seeds", "2"];
    expect(&mut board(&data, &out, &flags), 0);
    let weights = |job: &str| fs::read(out.join("jobs").join(job).join("model.safetensors")).unwrap();
    for seed in ["1", "2"] {
        let alone = weights(&format!("hard-labels-{seed}"));
        assert!(weights(&format!("at-{seed}")) == alone, "at, seed {seed}");
        assert!(weights(&format!("hinton-{seed}")) != alone, "hinton learns something else");
    }
    assert!(weights("at-1") != weights("at-2"), "seeds differ");
}

#[test]
fn a_resumed_board_trains_what_is_missing_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (data(&folder), folder.path().join("board"));
    expect(&mut board(&data, &out, &["--methods", "at", "--seeds", "1"]), 0);
    let before = finished(&out);
    let jobs: Vec<&str> = before.iter().map(|(job, _)| job.as_str()).collect();
    assert_eq!(jobs, ["at-1", "hard-labels-1", "hinton-1", "teacher"]);
    let first = summary(&out);

    expect(&mut resume(&out, &["--methods", "at,sp", "--seeds", "2"]), 0);
    let after = finished(&out);
    let added: Vec<&str> = after.iter().filter(|job| !before.contains(job)).map(|(job, _)| job.as_str()).collect();
    assert_eq!(added, ["at-2", "hard-labels-2", "hinton-2", "sp-1", "sp-2"], "nothing was trained again");
    assert!(before.iter().all(|job| after.contains(job)));

    // The first seed's numbers are still what they were, and the board says so without being told its settings again.
    expect(&mut resume(&out, &[]), 0);
    assert_eq!(finished(&out), after);
    let score = |summary: &serde_json::Value| {
        let rows = summary["leaderboard"]["rows"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["name"] == "at").unwrap()["students"][0].clone()
    };
    assert_eq!(score(&first), score(&summary(&out)));
    let error = error_of(&mut resume(&out, &["--lr", "0.1"]), 2);
    assert!(error.contains("lr"), "{error}");
}

#[test]
fn a_method_that_cannot_be_used_is_listed_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (data(&folder), folder.path().join("board"));
    let mut command = board(&data, &out, &["--methods", "fsp,sp", "--seeds", "1", "--teacher-model", "teacher_net"]);
    expect(&mut command, 0);
    let board = summary(&out);
    let refused = board["leaderboard"]["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0]["name"], "fsp");
    assert!(refused[0]["reason"].as_str().unwrap().contains("channels"), "{refused:?}");
    assert!(names(&out).contains("sp") && !names(&out).contains("fsp"));
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("Not on the board"));
}

#[test]
fn a_student_of_another_question_is_compared_without_those_that_compare_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (data(&folder), folder.path().join("board"));
    expect(&mut board(&data, &out, &["--methods", "sp", "--student-classes", "parity", "--seeds", "1"]), 0);
    assert_eq!(names(&out).iter().map(String::as_str).collect::<Vec<_>>(), ["hard-labels", "sp"]);
    let refused = summary(&out)["leaderboard"]["refused"].clone();
    assert_eq!((refused.as_array().unwrap().len(), &refused[0]["name"]), (1, &"hinton".into()));
    assert!(refused[0]["reason"].as_str().unwrap().contains("compares answers"), "{refused}");
}

#[test]
fn a_grid_makes_a_student_of_each_setting_and_compares_those_trained_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (data(&folder), folder.path().join("board"));
    let grid = ["--grid", "at.weight=10,1000", "--grid", "lr=0.001,0.01"];
    expect(&mut board(&data, &out, &[&["--methods", "at,sp", "--seeds", "1"], &grid[..]].concat()), 0);
    let expected = [
        "at@at.weight=10,lr=0.001",
        "at@at.weight=10,lr=0.01",
        "at@at.weight=1000,lr=0.001",
        "at@at.weight=1000,lr=0.01",
        "hard-labels@lr=0.001",
        "hard-labels@lr=0.01",
        "hinton@lr=0.001",
        "hinton@lr=0.01",
        "sp@lr=0.001",
        "sp@lr=0.01",
    ];
    assert_eq!(names(&out).iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let summary = summary(&out);
    let last = |name: &str| {
        let rows = summary["leaderboard"]["rows"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap()["students"][0]["last"].as_f64().unwrap()
    };
    for row in summary["leaderboard"]["rows"].as_array().unwrap() {
        let (name, training) = (row["name"].as_str().unwrap(), row["training"].as_str().unwrap());
        if let Some(gain) = row["over_labels"]["mean"].as_f64() {
            assert_eq!(gain, last(name) - last(&format!("hard-labels@{training}")), "{name}");
        }
    }
    let distilled = folder.path().join("distilled");
    let mut command = board(&data, &distilled, &["--method", "hinton", "--seeds", "1", "--grid", "temperature=2,5"]);
    expect(&mut command, 0);
    let expected = ["hard-labels", "hinton", "hinton@temperature=2", "hinton@temperature=5"];
    assert_eq!(names(&distilled).iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (data(&folder), folder.path().join("board"));
    for (flags, reason) in [
        (&["--methods", "hintn"][..], "did you mean `hinton`"),
        (&["--methods", "at", "--method", "sp"], "leave one of them out"),
        (&["--methods", "at", "--set", "weight=3"], "METHOD.weight=VALUE"),
        (&["--methods", "at", "--set", "sp.weight=3"], "not among --methods at"),
        (&["--methods", "at", "--grid", "sp.weight=3"], "not among --methods at"),
        (&["--methods", "at", "--grid", "at.powr=3"], "did you mean `power`"),
        (&["--methods", "at", "--grid", "device=cpu"], "cannot be varied"),
        (&["--methods", "at", "--temperature", "7"], "--grid temperature=7"),
    ] {
        let error = error_of(&mut board(&data, &out, flags), 2);
        assert!(error.contains(reason), "{flags:?}: {error}");
    }
    let mut run = kdengine();
    run.args(["run", "--methods", "at", "--data"]).arg(&data).arg("--out").arg(&out);
    assert!(error_of(&mut run, 2).contains("belong to `compare` and `distill`"));
    assert!(!out.exists());
}
