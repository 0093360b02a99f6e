//! What `bench` prints: lines of JSON that join with those of the programs that it is compared to, and profiles that leave nothing
//! out. No time is judged.

mod common;

use common::{error_of, expect, kdengine, small_digits};
use serde_json::Value;

/// The lines of JSON that a `bench` command prints.
fn json_lines(arguments: &[&str]) -> Vec<Value> {
    let output = expect(kdengine().arg("bench").args(arguments).arg("--json"), 0);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Those of measurements, each with the fields that other programs print too.
fn measurements(arguments: &[&str]) -> Vec<Value> {
    let lines = json_lines(arguments).into_iter().filter(|line| line.get("what").is_some());
    let measurements: Vec<Value> = lines.collect();
    for line in &measurements {
        assert!(line["median_ms"].as_f64() >= line["min_ms"].as_f64() && line["n"].is_u64(), "{line}");
    }
    measurements
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["what"].as_str().unwrap()).collect()
}

#[test]
fn steps_are_the_seven_of_the_documentation() {
    let lines = measurements(&["step", "--runs", "1"]);
    let expected = [
        "teacher_train_step_b128",
        "student_train_step_b128",
        "distil_step_b128",
        "teacher_forward_b128",
        "student_forward_b128",
        "teacher_forward_b1",
        "student_forward_b1",
    ];
    assert_eq!(names(&lines), expected);
}

#[test]
fn kernels_say_how_close_to_the_limit_they_came() {
    for (filter, count) in [("conv3x3_s2_fwd_bwd", 3), ("depthwise3x3_fwd_128x32", 1), ("bn_relu_fwd_128x64x16", 1)] {
        let lines = measurements(&["kernels", "--runs", "1", "--filter", filter]);
        assert_eq!(lines.len(), count, "{filter}: {:?}", names(&lines));
        assert!(lines.iter().all(|line| line["percent_of_limit"].as_f64() > Some(0.0)), "{lines:?}");
    }
    let lines = measurements(&["loss", "--runs", "1", "--filter", "128x10"]);
    assert_eq!(names(&lines), ["kd_loss_fwd_bwd_128x10"]);
}

#[test]
fn another_programs_lines_are_joined_by_the_cases_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peer.jsonl");
    let lines = "{\"peer\": \"2.0\"}\n{\"what\": \"student_forward_b1\", \"median_ms\": 4.0}\n\n{\"what\": \"student_forward_b1\", \"median_ms\": 2.0}\n";
    std::fs::write(&file, lines).unwrap();
    let path = file.to_str().unwrap();
    let joined = measurements(&["step", "--runs", "1", "--filter", "_forward_b1", "--compare", path]);
    let student = joined.iter().find(|line| line["what"] == "student_forward_b1").unwrap();
    assert_eq!(student["peer_ms"].as_f64(), Some(2.0), "the faster of two counts");
    assert_eq!(student["of_peer"].as_f64(), student["median_ms"].as_f64().map(|ms| ms / 2.0));
    let others = joined.iter().filter(|line| line["what"] != "student_forward_b1");
    assert!(others.clone().count() > 0 && others.into_iter().all(|line| line.get("peer_ms").is_none()));
    std::fs::write(&file, "{\"peer\": \"2.0\"}\n").unwrap();
    let error = error_of(kdengine().args(["bench", "step", "--compare", path]), 1);
    assert!(error.contains("holds no line with `what` and `median_ms`"), "{error}");
}

#[test]
fn a_profile_accounts_for_the_whole_step() {
    let arguments =
        ["step", "--profile", "--model", "student_net", "--batch", "64", "--mode", "distill", "--runs", "3"];
    let lines = json_lines(&arguments);
    let (summary, parts) = lines.split_last().unwrap();
    let has = |phase: &str, op: &str| parts.iter().any(|part| part["phase"] == phase && part["op"] == op);
    assert!(has("forward", "conv2d_relu_pool") && has("backward", "conv2d_relu_pool"), "{parts:?}");
    assert!(has("backward", "hinton_kd") && has("optimizer", "adam") && has("rest", "rest"), "{parts:?}");
    let percent: f64 = parts.iter().map(|part| part["percent"].as_f64().unwrap()).sum();
    assert!((percent - 100.0).abs() < 1e-6, "{percent}");
    assert!(summary["accounted_percent"].as_f64() >= Some(95.0), "{summary}");
}

#[test]
fn recipes_of_one_cohort_are_timed_and_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 64, 10).display().to_string();
    let methods = "hinton,dml,ema,co-training,born-again";
    let lines = json_lines(&["methods", "--methods", methods, "--data", &data, "--batch-size", "16"]);
    let of = |name: &str| lines.iter().find(|line| line["method"] == name).unwrap();
    for name in ["hinton", "dml", "ema", "co-training"] {
        assert!(of(name)["ms"].as_f64() > Some(0.0) && of(name)["claimed"].as_f64() >= Some(1.0), "{lines:?}");
    }
    assert!(of("born-again")["refused"].as_str().unwrap().contains("is several trainings"), "{lines:?}");
}

#[test]
fn an_unknown_case_is_refused_with_the_known_ones() {
    let error = error_of(kdengine().args(["bench", "loss", "--filter", "mnist"]), 2);
    assert!(error.contains("mnist") && error.contains("kd_loss_fwd_bwd_128x10"), "{error}");
}

#[test]
#[cfg(feature = "emulator")]
fn a_profile_on_a_device_is_of_its_kernels() {
    let step = ["step", "--model", "cnn-2-fc4", "--batch", "2", "--runs", "2"];
    let lines = json_lines(&[&step[..], &["--device", "emulator", "--profile"]].concat());
    let (total, parts) = lines.split_last().unwrap();
    let kernels: Vec<&Value> = parts.iter().filter(|part| part["phase"] == "kernel").collect();
    assert!(kernels.iter().any(|part| part["op"] == "adam" && part["calls"] == 1), "{lines:?}");
    assert!(kernels.len() > 10 && kernels.iter().all(|part| part["ms"].as_f64() > Some(0.0)), "{lines:?}");
    let all: f64 = parts.iter().map(|part| part["ms"].as_f64().unwrap()).sum();
    assert!((all - total["step_ms"].as_f64().unwrap()).abs() < 1e-6, "{lines:?}");
}
