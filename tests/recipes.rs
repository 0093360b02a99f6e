//! What every recipe of the registry promises, and what each does in particular.

mod common;

use common::{error_of, expect, kdengine, small_digits};
use kdengine::nn::Module;
use kdengine::pipeline::{RunConfig, Session};
use kdengine::recipes::RECIPES;
use kdengine::tensor::io::load_safetensors;
use kdengine::train::Silent;
use kdengine::Tensor;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// A short distillation with small networks; half of the training images are left over for recipes that want images without labels.
fn distill(data: &Path, out: &Path, flags: &[&str]) -> Command {
    let mut command = kdengine();
    command.args(["distill", "--quiet", "--epochs", "2", "--teacher-epochs", "1", "--batch-size", "32"]);
    command.args(["--teacher-model", "teacher_net", "--seeds", "1"]).args(flags);
    command.arg("--data").arg(data).arg("--out").arg(out);
    command
}

fn model(out: &Path, job: &str) -> BTreeMap<String, Tensor> {
    load_safetensors(&out.join("jobs").join(job).join("model.safetensors")).unwrap().0
}

fn summary(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap()
}

/// The bytes of every model and of the metrics log.
fn results(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let jobs = fs::read_dir(out.join("jobs")).unwrap().map(|entry| entry.unwrap().path().join("model.safetensors"));
    let mut files: Vec<PathBuf> = jobs.chain([out.join("metrics.jsonl")]).collect();
    files.sort();
    files.into_iter().map(|file| (file.strip_prefix(out).unwrap().to_path_buf(), fs::read(&file).unwrap())).collect()
}

#[test]
fn the_registry_is_complete() {
    let methods = kdengine::distill::METHODS.iter().map(|info| info.name);
    let mut names: Vec<&str> = RECIPES.iter().map(|info| info.name).chain(methods).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "names are unique");
    for info in RECIPES {
        for text in [info.paper, info.about, info.formula, info.when] {
            assert!(!text.is_empty(), "{}", info.name);
        }
        assert!(info.weight + info.hard_weight > 0.0, "{} teaches nothing by default", info.name);
    }
    let text = String::from_utf8(expect(kdengine().args(["methods", "born-again"]), 0).stdout).unwrap();
    for part in ["Furlanello", "generations", "kdengine distill --data digits --method born-again"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn every_recipe_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 400, 60);
    for info in RECIPES {
        let flags = ["--method", info.name, "--train-limit", "200", "--epochs", "3"];
        let (whole, killed) = (folder.path().join(info.name), folder.path().join(format!("{}-killed", info.name)));
        expect(&mut distill(&data, &whole, &flags), 0);
        for delay_ms in [700, 900, 1100] {
            let mut command = distill(&data, &killed, &flags);
            if killed.join("config.toml").exists() {
                command.arg("--resume");
            }
            let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
            sleep(Duration::from_millis(delay_ms));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let mut last = distill(&data, &killed, &flags);
        if killed.join("config.toml").exists() {
            last.arg("--resume");
        }
        expect(&mut last, 0);
        let (a, b) = (results(&whole), results(&killed));
        assert_eq!(a.len(), b.len(), "{}", info.name);
        for ((name, a), (other, b)) in a.iter().zip(&b) {
            assert!(name == other && a == b, "{}: {} differs", info.name, name.display());
        }
        let extras = |out: &Path| summary(out)["extras"].clone();
        assert_eq!(extras(&whole), extras(&killed), "{}", info.name);
    }
}

#[test]
fn no_recipe_changes_the_teacher_and_each_returns_the_student_that_it_saved() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 200, 40);
    for info in RECIPES {
        let values = format!(
            "data = \"{}\"\nmethod = \"{}\"\nepochs = 1\ntrain-limit = 100\nbatch-size = 32",
            data.display(),
            info.name
        );
        let config = RunConfig::resolve(values.parse().unwrap(), Default::default()).unwrap();
        let (out, mut silent) = (folder.path().join(info.name), Silent);
        let mut session = Session::open("test", config, &out, false, &mut silent).unwrap();
        let teacher = session.teacher().unwrap();
        let bits = |model: &dyn Module| -> Vec<Vec<u32>> {
            let values = model.state().into_values().map(|t| t.to_vec::<f32>().unwrap());
            values.map(|v| v.into_iter().map(f32::to_bits).collect()).collect()
        };
        let before = bits(&*teacher.model);
        let (student, result) = session.student("student", session.student_plan(), &teacher).unwrap();
        assert!(bits(&*teacher.model) == before, "{} changed the teacher", info.name);
        assert_eq!(result.name, "student", "{}", info.name);
        let saved = model(&out, "student");
        for (name, value) in student.state() {
            assert_eq!(saved[&name].to_vec::<f32>().unwrap(), value.to_vec::<f32>().unwrap(), "{}: {name}", info.name);
        }
    }
}

#[test]
fn a_recipe_is_written_down_and_read_back_and_goes_together_with_methods() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 64, 20);
    let (first, again) = (folder.path().join("first"), folder.path().join("again"));
    let flags = ["--method", "born-again,at", "--set", "generations=2,at.power=3"];
    expect(&mut distill(&data, &first, &flags), 0);
    let config: toml::Table = fs::read_to_string(first.join("config.toml")).unwrap().parse().unwrap();
    assert_eq!(config["recipe"]["method"].as_str(), Some("born-again"));
    assert_eq!(config["recipe"]["generations"].as_float(), Some(2.0));
    assert_eq!(config["term"][0]["power"].as_float(), Some(3.0));
    assert_eq!(config["soft-weight"].as_float(), Some(0.0), "named terms replace the recipe's own");
    let mut command = kdengine();
    command.args(["distill", "--quiet", "--config"]).arg(first.join("config.toml")).arg("--out").arg(&again);
    expect(&mut command, 0);
    assert!(results(&first) == results(&again));

    // A table alone stands for the same as the word alone.
    let resolve = |text: &str| RunConfig::resolve(text.parse().unwrap(), Default::default()).unwrap();
    let (table, word) = (resolve("[recipe]\nmethod = \"born-again\""), resolve("method = \"born-again\""));
    assert_eq!(table, word);
    assert_eq!((word.hard_weight, word.soft_weight, word.temperature), (0.0, 1.0, 1.0));
    let hot = resolve("method = \"born-again\"\ntemperature = 4");
    assert_eq!(hot.recipe.unwrap().values["temperature"], kdengine::distill::Value::Number(4.0));
}

#[test]
fn what_a_recipe_cannot_do_is_refused_with_a_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 64, 20);
    let cases: &[(&[&str], &str)] = &[
        (&["--method", "born-agian"], "did you mean `born-again`?"),
        (&["--method", "born-again,born-again"], "a student has one at most"),
        (&["--method", "born-again", "--set", "generations=0"], "a whole number, 1 or more"),
        (&["--method", "born-again", "--set", "generation=2"], "did you mean `generations`?"),
        (&["--method", "born-again,at,vid", "--set", "weight=2"], "which method's `weight` is meant?"),
    ];
    for (i, (flags, expected)) in cases.iter().enumerate() {
        let out = folder.path().join(i.to_string());
        let error = error_of(&mut distill(&data, &out, flags), 2);
        assert!(error.contains(expected), "{error}");
        assert!(!out.exists(), "it is refused before anything is trained");
    }
}

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
    assert_eq!(model(&plain, "distilled-1")["fc1.weight"].to_vec::<f32>().unwrap(), generations[0]);
    let rows = summary(&out)["extras"]["tables"][0]["rows"].as_array().unwrap().len();
    assert_eq!(rows, 4, "three generations and all together");
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("all generations together"));
}

/// Every weight of two jobs' models is the same, to the bit.
fn same_model(a: (&Path, &str), b: (&Path, &str)) -> bool {
    let bits = |(out, job): (&Path, &str)| -> Vec<(String, Vec<u32>)> {
        let values = |t: &Tensor| t.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
        model(out, job).iter().map(|(name, t)| (name.clone(), values(t))).collect()
    };
    bits(a) == bits(b)
}

/// A run in a folder of its own.
fn run(folder: &Path, data: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let out = folder.join(name);
    expect(&mut distill(data, &out, flags), 0);
    out
}

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
    assert!(error.contains("a whole number, 2 or more"), "{error}");
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
    for (set, expected) in [
        ("teachers=3,combine=weighted,weights=1+2", "must be 3 numbers"),
        ("files=nowhere.safetensors", "there is no file nowhere.safetensors"),
    ] {
        let out = folder.path().join("bad");
        let error = error_of(&mut distill(&data, &out, &["--method", "multi-teacher", "--set", set]), 2);
        assert!(error.contains(expected), "{error}");
    }
    let error = error_of(&mut distill(&data, &folder.path().join("bad"), &["--method", "multi-teacher,at"]), 2);
    assert!(error.contains("leave out at"), "{error}");
}

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
fn learning_without_forgetting_remembers_more_than_fine_tuning() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 400, 200);
    let flags = ["--method", "lwf", "--epochs", "8", "--lr", "0.005"];
    let run = |name: &str, more: &[&str]| run(folder.path(), &data, name, &[&flags[..], more].concat());
    let out = run("lwf", &[]);
    let groups = |job: &str| {
        let result: serde_json::Value =
            serde_json::from_slice(&fs::read(out.join("jobs").join(job).join("result.json")).unwrap()).unwrap();
        let last = result["history"].as_array().unwrap().last().unwrap()["groups"].clone();
        [last[0].as_f64().unwrap(), last[1].as_f64().unwrap()]
    };
    let (with, without) = (groups("distilled-1"), groups("distilled-1-fine-tuned"));
    assert!(with[0] > without[0], "old classes: {with:?} with the old answers, {without:?} without");
    assert!(groups("distilled-1-old")[0] > 50.0);
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
