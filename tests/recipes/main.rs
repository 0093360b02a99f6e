//! What every recipe of the registry promises, and what each does in particular.

mod cohorts;
#[path = "../common/mod.rs"]
mod common;
mod own;
mod teachers;
mod transfer;

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

/// Every weight of two jobs' models is the same, to the bit.
fn same_model(a: (&Path, &str), b: (&Path, &str)) -> bool {
    let bits = |(out, job): (&Path, &str)| -> Vec<(String, Vec<u32>)> {
        let values = |t: &Tensor| t.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
        model(out, job).iter().map(|(name, t)| (name.clone(), values(t))).collect()
    };
    bits(a) == bits(b)
}

/// `--set` of hyperparameters that make a recipe short which would take minutes.
fn short(recipe: &str) -> Vec<&'static str> {
    match recipe {
        "data-free-gradient" | "activation-max" => vec!["--set", "images=20,images-batch=10,iterations=3"],
        "deep-inversion" => vec!["--set", "images=20,images-batch=10,iterations=3,rounds=2"],
        "dafl" | "dfad" => vec!["--set", "iterations=2,latent=8,width=4"],
        _ => Vec::new(),
    }
}

/// A run in a folder of its own.
fn run(folder: &Path, data: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let out = folder.join(name);
    expect(&mut distill(data, &out, flags), 0);
    out
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
        let flags = [&["--method", info.name, "--train-limit", "200", "--epochs", "3"], &short(info.name)[..]].concat();
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
        let set = short(info.name).last().map_or(String::new(), |set| format!("set = \"{set}\"\n"));
        let values = format!(
            "data = \"{}\"\nmethod = \"{}\"\n{set}epochs = 1\ntrain-limit = 100\nbatch-size = 32",
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
    assert_eq!((word.hard_weight, word.soft_weight, word.temperature), (0.0.into(), 1.0.into(), 1.0.into()));
    let over_file = |file: &str, word: &str| {
        let command_line = format!("method = \"{word}\"").parse().unwrap();
        RunConfig::resolve(file.parse().unwrap(), command_line).unwrap()
    };
    assert_eq!(over_file("[[term]]\nmethod = \"at\"", "born-again"), word, "the command line's recipe replaces terms");
    assert_eq!(over_file("[recipe]\nmethod = \"born-again\"", "at").recipe, None, "and its terms a recipe");
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
        (&["--method", "born-again", "--set", "generations=0"], "a whole number, 1 to 100"),
        (&["--method", "born-again", "--set", "generation=2"], "did you mean `generations`?"),
        (&["--method", "born-again,at,vid", "--set", "weight=2"], "which method's `weight` is meant?"),
        (&["--method", "self-training", "--train-limit", "32", "--mixup", "0.2"], "leave --mixup out"),
        (&["--method", "born-again,crd", "--mixup", "0.2"], "use crd-infonce"),
        (&["--method", "crd", "--mixup", "0.2"], "use crd-infonce"),
        (&["--method", "ps-kd", "--mixup", "0.2"], "a mixture is none; leave --mixup out"),
        (&["--method", "temporal-ensemble", "--mixup", "0.2"], "a mixture is none; leave --mixup out"),
    ];
    for (i, (flags, expected)) in cases.iter().enumerate() {
        let out = folder.path().join(i.to_string());
        let error = error_of(&mut distill(&data, &out, flags), 2);
        assert!(error.contains(expected), "{error}");
        assert!(!out.exists(), "it is refused before anything is trained");
    }
}
