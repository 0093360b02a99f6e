//! `search` and `analyze`: what is chosen by which images, and what is in the report.

mod common;

use common::{error_of, expect, kdengine, small_digits};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn command(name: &str, data: &Path, out: &Path, flags: &[&str]) -> Command {
    let mut command = kdengine();
    command.args([name, "--quiet", "--epochs", "3", "--teacher-epochs", "2", "--batch-size", "32"]);
    command.args(["--teacher-model", "student_net", "--sweep-epochs", "1"]).args(flags);
    command.arg("--data").arg(data).arg("--out").arg(out);
    command
}

fn summary(out: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(out.join("summary.json")).unwrap()).unwrap()
}

fn jobs(out: &Path) -> BTreeSet<String> {
    fs::read_dir(out.join("jobs")).unwrap().map(|job| job.unwrap().file_name().into_string().unwrap()).collect()
}

const SPACE: [&str; 6] = ["--method", "at", "--space", "at.weight=1..10000", "--space", "lr=0.0003,0.003"];

#[test]
fn a_search_is_decided_by_images_that_are_not_of_the_test_set() {
    let folder = tempfile::tempdir().unwrap();
    let right = small_digits(&folder.path().join("right"), 100, 40);
    let wrong = small_digits(&folder.path().join("wrong"), 100, 40);
    // Other labels for the test images: every accuracy on them changes.
    let labels = fs::read_dir(&wrong).unwrap().map(|f| f.unwrap().path());
    let labels = labels.into_iter().find(|f| f.to_string_lossy().contains("t10k-labels")).unwrap();
    let mut bytes = fs::read(&labels).unwrap();
    bytes[8..].iter_mut().for_each(|label| *label = (*label + 1) % 10);
    fs::write(&labels, bytes).unwrap();

    // Enough epochs for the winner to tell classes apart: one that always answers the same has the same accuracy on any labels.
    let flags = [&SPACE[..], &["--trials", "4", "--epochs", "12", "--batch-size", "16"]].concat();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    expect(&mut command("search", &right, &a, &flags), 0);
    expect(&mut command("search", &wrong, &b, &flags), 0);
    let (a, b) = (summary(&a)["search"].clone(), summary(&b)["search"].clone());
    assert_eq!(a["trials"], b["trials"], "the same trials with the same accuracies");
    assert_eq!(a["winner"], b["winner"]);
    assert_eq!(a["validation"], 20);
    assert_ne!(a["test_accuracy"], b["test_accuracy"], "which is the winner's, on the test set");
    let accuracies: Vec<f64> =
        a["trials"].as_array().unwrap().iter().map(|trial| trial["rungs"][0]["accuracy"].as_f64().unwrap()).collect();
    let winner = a["winner"].as_u64().unwrap() as usize;
    assert!(accuracies.iter().all(|&accuracy| accuracy <= accuracies[winner - 1]), "{accuracies:?}");
    assert_eq!(a["trials"][0]["settings"], "", "the first trial has the settings as they come");
}

#[test]
fn a_resumed_search_has_the_trials_it_had_and_trains_only_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (small_digits(&folder.path().join("data"), 64, 20), folder.path().join("search"));
    expect(&mut command("search", &data, &out, &[&SPACE[..], &["--trials", "2"]].concat()), 0);
    let (before, trials) = (jobs(&out), summary(&out)["search"]["trials"].clone());
    let mut resume = kdengine();
    expect(resume.args(["search", "--quiet", "--trials", "3", "--resume"]).arg(&out), 0);
    let added: Vec<String> = jobs(&out).difference(&before).cloned().collect();
    assert_eq!(added, ["trial-3-e3"]);
    let after = summary(&out)["search"]["trials"].clone();
    assert_eq!(after.as_array().unwrap()[..2], trials.as_array().unwrap()[..]);
}

#[test]
fn halving_trains_few_trials_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (small_digits(&folder.path().join("data"), 64, 20), folder.path().join("search"));
    let flags = [&SPACE[..], &["--trials", "6", "--strategy", "halving", "--set", "power=3"]].concat();
    expect(&mut command("search", &data, &out, &flags), 0);
    let jobs = jobs(&out);
    assert_eq!(jobs.iter().filter(|job| job.ends_with("-e1")).count(), 6, "{jobs:?}");
    assert_eq!(jobs.iter().filter(|job| job.ends_with("-e3")).count(), 2, "{jobs:?}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("halving search for at") && page.contains("power=3"));
}

/// Small networks of two families, few of which are within the budget.
const ARCHITECTURES: [&str; 6] = [
    "--method",
    "at",
    "--space",
    "student-model=cnn-2..12-4..16-fc8..32,cnn-bn-2..8-fc8",
    "--budget",
    "parameters=6k,flops=300k",
];

/// A search's trials in order, each with its architecture, parameters and operations.
fn costs(search: &serde_json::Value) -> Vec<(String, u64, f64)> {
    let cost = |trial: &serde_json::Value| {
        let cost = &trial["cost"];
        let model = cost["model"].as_str().unwrap().to_string();
        (model, cost["parameters"].as_u64().unwrap(), cost["flops"].as_f64().unwrap())
    };
    search["trials"].as_array().unwrap().iter().map(cost).collect()
}

#[test]
fn every_student_of_a_search_is_within_the_budget_and_the_winner_can_be_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (small_digits(&folder.path().join("data"), 64, 20), folder.path().join("search"));
    let flags = [&ARCHITECTURES[..], &["--trials", "6", "--strategy", "halving"]].concat();
    let printed = String::from_utf8(expect(&mut command("search", &data, &out, &flags), 0).stdout).unwrap();
    let search = summary(&out)["search"].clone();
    let costs = costs(&search);
    assert_eq!(costs.len(), 6);
    assert!(costs.iter().all(|(_, parameters, flops)| *parameters <= 6000 && *flops <= 3e5), "{costs:?}");
    assert_eq!(search["over_budget"]["model"], "student_net", "the first trial is a draw");
    assert!(search["trials"].as_array().unwrap().iter().all(|trial| trial["settings"] != ""));
    let number = search["winner"].as_u64().unwrap() as usize;
    let winner = &costs[number - 1].0;
    assert!(printed.contains(&format!("It is {winner}, ")) && printed.contains("took no part"), "{printed}");

    let model = out.join(format!("jobs/trial-{number}-e3/model.safetensors"));
    let evaluated = expect(kdengine().args(["eval", "--json"]).arg(&model).arg("--data").arg(&data), 0).stdout;
    let evaluated: serde_json::Value = serde_json::from_slice(&evaluated).unwrap();
    assert_eq!(evaluated["model"], winner.as_str());
    assert_eq!(evaluated["accuracy"], search["test_accuracy"], "of the file that the report speaks of");

    for name in ["search-parameters", "search-flops"] {
        assert!(out.join(format!("plots/{name}.svg")).exists(), "{name}");
    }
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("Pareto front"));
}

#[test]
fn a_search_within_a_latency_draws_the_same_trials_when_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (small_digits(&folder.path().join("data"), 64, 20), folder.path().join("search"));
    let flags = [&ARCHITECTURES[..4], &["--budget", "parameters=6k,latency-ms=1000", "--trials", "2"]].concat();
    expect(&mut command("search", &data, &out, &flags), 0);
    let (before, trained) = (summary(&out)["search"].clone(), jobs(&out));
    let resume = |trials: &str| {
        let mut resume = kdengine();
        expect(resume.args(["search", "--quiet", "--trials", trials, "--resume"]).arg(&out), 0);
        summary(&out)["search"].clone()
    };
    assert_eq!(resume("2"), before);
    assert_eq!(jobs(&out), trained);

    // What is in the folder decides, not another measurement: as slow as the first one is said to be now, it is not drawn again.
    let first = before["trials"][0]["cost"]["model"].as_str().unwrap();
    let file = out.join("latencies.json");
    let mut latencies: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    latencies[first] = 1001.0.into();
    fs::write(&file, latencies.to_string()).unwrap();
    for job in trained.iter().filter(|job| job.starts_with("trial-")) {
        fs::remove_dir_all(out.join("jobs").join(job)).unwrap();
    }
    let after = resume("2");
    assert!(after["trials"].as_array().unwrap().iter().all(|trial| trial["cost"]["model"] != first), "{after}");
}

#[test]
fn evolution_ends_at_the_same_trials_when_more_are_asked_for_later() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 64, 20);
    let (long, short) = (folder.path().join("long"), folder.path().join("short"));
    let flags =
        |trials| [&ARCHITECTURES[..], &["--strategy", "evolution", "--epochs", "1", "--trials", trials]].concat();
    expect(&mut command("search", &data, &long, &flags("12")), 0);
    expect(&mut command("search", &data, &short, &flags("9")), 0);
    let mut resume = kdengine();
    expect(resume.args(["search", "--quiet", "--trials", "12", "--resume"]).arg(&short), 0);
    let [long, short] = [long, short].map(|out| summary(&out)["search"].clone());
    assert_eq!(long, short);
    let costs = costs(&long);
    assert_eq!(costs.len(), 12);
    assert!(costs.iter().all(|(_, parameters, flops)| *parameters <= 6000 && *flops <= 3e5), "{costs:?}");
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (small_digits(&folder.path().join("data"), 64, 20), folder.path().join("search"));
    for (name, flags, reason) in [
        ("search", &["--method", "at"][..], "--space temperature=1..10"),
        ("compare", &["--space", "temperature=1..10"], "belongs to `search`"),
        ("search", &["--methods", "at,sp", "--space", "lr=0.1..1"], "for one student"),
        ("search", &["--method", "at", "--space", "sp.weight=1..2"], "`sp` is searched but not used"),
        ("search", &["--method", "at", "--space", "at.power=5..50", "--trials", "9"], "at: power"),
        ("search", &["--space", "temperature=2..3", "--strategy", "grid"], "must be random or halving"),
        ("search", &["--space", "student-model=cnn-4..x"], "no LOW..HIGH of whole numbers"),
        ("search", &[&ARCHITECTURES[..4], &["--budget", "flop=1"]].concat(), "did you mean `flops`"),
        ("search", &[&ARCHITECTURES[..4], &["--budget", "flops=0"]].concat(), "above 0"),
        ("search", &[&ARCHITECTURES[..4], &["--budget", "parameters=100"]].concat(), "the smallest of them, cnn-"),
        ("search", &["--budget", "parameters=1k"], "--space temperature=1..10"),
        ("compare", &["--budget", "parameters=1k"], "belongs to `search`"),
        ("analyze", &["--studies", "layer"], "did you mean `layers`"),
    ] {
        let error = error_of(&mut command(name, &data, &out, flags), 2);
        assert!(error.contains(reason), "{name} {flags:?}: {error}");
    }
    assert!(!out.exists());
}

#[test]
fn an_analysis_has_figures_and_tables_and_is_the_same_when_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (small_digits(&folder.path().join("data"), 64, 20), folder.path().join("analysis"));
    expect(&mut command("analyze", &data, &out, &["--seeds", "1"]), 0);
    let first = summary(&out);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for part in [
        "Layers of the teacher",
        "mean answer",
        "Where the networks look",
        "Capacity",
        "Label noise",
        "Teachers",
        "Data:",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let layers = first["heatmaps"][0]["values"].as_array().unwrap();
    let alike = |value: &serde_json::Value| (0.0..=1.0 + 1e-6).contains(&value.as_f64().unwrap());
    assert!(layers.iter().all(|row| row.as_array().unwrap().iter().all(alike)), "{layers:?}");
    let mut resume = kdengine();
    expect(resume.args(["analyze", "--quiet", "--resume"]).arg(&out), 0);
    assert_eq!(summary(&out)["heatmaps"], first["heatmaps"]);
    assert_eq!(summary(&out)["extras"], first["extras"]);
}

#[test]
fn a_search_with_one_image_has_nothing_to_judge_by() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (small_digits(&folder.path().join("data"), 64, 20), folder.path().join("search"));
    let error = error_of(&mut command("search", &data, &out, &[&SPACE[..], &["--train-limit", "1"]].concat()), 2);
    assert!(error.contains("at least 2 images"), "{error}");
    assert!(!out.exists());
}
