//! Test-time adaptation: what each method changes, what it leaves alone, and what the command says.

mod common;

use common::{error_of, expect, kdengine, small_digits};
use kdengine::adapt::{compare, method, Comparison, Condition, Plan, Settings, METHODS};
use kdengine::autograd::no_grad;
use kdengine::data::digits::{generate, DigitsConfig};
use kdengine::data::Dataset;
use kdengine::distill::data_free::entropy;
use kdengine::models::{Model, Task};
use kdengine::nn::{Context, Module};
use kdengine::tensor::{Device, Rng, Tensor};
use kdengine::train::{evaluate, Silent};
use kdengine::Error;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const NORMALISED: &str = "cnn-bn-4-8-fc16";

fn digits(test: usize) -> Dataset {
    generate(&DigitsConfig { train: 1, test, ..Default::default() }).test
}

/// A network with fresh weights, whose batch norms have seen some digits.
fn model(name: &str) -> Model {
    let data = digits(64);
    let task = Task { input: data.image_shape(), classes: 10 };
    let model = Model::new(name, task, Rng::new(4, 0), Device::Cpu).unwrap();
    for step in 0..20 {
        model.forward(&images(&data), &mut Context::train(Rng::new(step, 0))).unwrap();
    }
    model
}

fn images(data: &Dataset) -> Tensor {
    data.images_tensor(0..data.len(), Device::Cpu).unwrap()
}

/// Every parameter and buffer as bits.
fn bits(model: &Model) -> BTreeMap<String, Vec<u32>> {
    let bits = |tensor: Tensor| tensor.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
    model.state().into_iter().map(|(name, tensor)| (name, bits(tensor))).collect()
}

fn is_scale_or_shift(name: &str) -> bool {
    name.ends_with("norm.weight") || name.ends_with("norm.bias")
}

#[test]
fn tent_changes_scales_and_shifts_alone_and_makes_answers_surer() {
    let (source, x) = (model(NORMALISED), images(&digits(64)));
    let before = bits(&source);
    let settings = Settings { lr: 0.05, ..Settings::default() };
    let mut tent = method("tent").unwrap().adapter(&source, &settings).unwrap();
    let doubt = |logits: &Tensor| entropy(logits, 1e-8).unwrap().item().unwrap();
    let first = doubt(&tent.answer(&x).unwrap());
    let mut last = first;
    for _ in 0..20 {
        last = doubt(&tent.answer(&x).unwrap());
    }
    assert!(last < 0.9 * first, "{first} to {last}");
    for (name, value) in bits(tent.model()) {
        assert_eq!(value != before[&name], is_scale_or_shift(&name), "{name}");
    }
    assert_eq!(bits(&source), before, "the model that was given stays as it is");
}

#[test]
fn the_answers_that_count_are_those_before_the_update() {
    let (source, x) = (model(NORMALISED), images(&digits(32)));
    let answers = |name: &str| {
        let mut adapter = method(name).unwrap().adapter(&source, &Settings::default()).unwrap();
        [(); 2].map(|()| adapter.answer(&x).unwrap().to_vec::<f32>().unwrap())
    };
    let [norm, norm_again] = answers("norm");
    assert_eq!(norm, norm_again, "nothing is remembered");
    let [tent, tent_again] = answers("tent");
    assert_eq!(tent, norm, "before its first update tent is norm");
    assert_ne!(tent_again, norm);
}

#[test]
fn norm_computes_what_training_does_and_tracks_nothing() {
    let (source, x) = (model(NORMALISED), images(&digits(32)));
    let mut norm = method("norm").unwrap().adapter(&source, &Settings::default()).unwrap();
    let answer = norm.answer(&x).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(bits(norm.model()), bits(&source));
    let trained = no_grad(|| source.forward(&x, &mut Context::train(Rng::new(0, 0)))).unwrap();
    assert_eq!(answer, trained.to_vec::<f32>().unwrap());
}

/// All methods on some corruptions.
fn plan(list: &str, continual: bool) -> Plan {
    let settings = Settings { views: 2, seed: 5, ..Settings::default() };
    let (methods, device) = (METHODS.iter().collect(), Device::Cpu);
    Plan { conditions: Condition::list(list).unwrap(), methods, settings, batch: 16, device, continual }
}

fn compared(source: &Model, test: &Dataset, plan: &Plan) -> Comparison {
    let mut found = Comparison::default();
    compare(source, test, plan, &mut found, &mut Silent, &mut |_| Ok(())).unwrap();
    found
}

#[test]
fn the_source_is_as_accurate_as_its_evaluation_and_stays_as_it_is() {
    let (source, test) = (model(NORMALISED), digits(50));
    let before = bits(&source);
    let plan = plan("contrast:2,rotation", false);
    let found = compared(&source, &test, &plan);
    let labels: Vec<String> = found.rows.iter().map(|row| row.label()).collect();
    assert_eq!(labels, ["clean", "contrast:2", "rotation:5"]);
    let accuracy = |images: &Dataset| evaluate(&source, images, 1000, Device::Cpu).unwrap().accuracy();
    assert_eq!(found.rows[0].outcomes[0].accuracy, accuracy(&test));
    for (row, condition) in found.rows[1..].iter().zip(&plan.conditions) {
        let corrupted = condition.corruption.of(&test, condition.severity, plan.settings.seed).unwrap();
        assert_eq!(row.outcomes[0].accuracy, accuracy(&corrupted));
    }
    assert_eq!(bits(&source), before);
    let means = found.mean().unwrap();
    assert!((means[0] - (found.rows[1].accuracies()[0] + found.rows[2].accuracies()[0]) / 2.0).abs() < 1e-12);
}

#[test]
fn each_corruption_is_met_afresh_unless_adaptation_goes_on() {
    let (source, test) = (model(NORMALISED), digits(160));
    let twice = |continual| {
        let mut plan = plan("gaussian-noise:3,gaussian-noise:3", continual);
        plan.settings.lr = 0.05;
        plan.methods = vec![method("tent").unwrap()];
        let [_, first, again] = &compared(&source, &test, &plan).rows[..] else { panic!("three rows") };
        [first.outcomes[0], again.outcomes[0]]
    };
    let [[first, again], [first_of_all, gone_on]] = [twice(false), twice(true)];
    assert_eq!(first, again);
    assert_eq!(first, first_of_all);
    assert_ne!(gone_on, again, "what was learned is kept");
}

#[test]
fn a_batch_of_one_and_a_batch_of_one_class_are_answered() {
    let (source, test) = (model(NORMALISED), digits(60));
    let class = test.labels[0];
    let same: Vec<u32> = (0..test.len() as u32).filter(|&i| test.labels[i as usize] == class).collect();
    let black = Tensor::zeros([3, 1, 28, 28], kdengine::DType::F32, Device::Cpu).unwrap();
    let batches = [images(&test.subset(&[0]).unwrap()), images(&test.subset(&same).unwrap()), black];
    for method in METHODS {
        let mut adapter = method.adapter(&source, &Settings { views: 2, ..Settings::default() }).unwrap();
        for _ in 0..3 {
            for batch in &batches {
                assert!(adapter.answer(batch).unwrap().is_finite().unwrap(), "{}", method.name);
            }
        }
        assert!(adapter.model().state().values().all(|tensor| tensor.is_finite().unwrap()), "{}", method.name);
    }
}

#[test]
fn images_that_are_not_numbers_teach_nothing() {
    let source = model(NORMALISED);
    let nan = Tensor::full([2, 1, 28, 28], f64::NAN, kdengine::DType::F32, Device::Cpu).unwrap();
    let mut tent = method("tent").unwrap().adapter(&source, &Settings::default()).unwrap();
    match tent.answer(&nan) {
        Err(Error::NonFinite(reason)) => assert!(reason.contains("check the images"), "{reason}"),
        other => panic!("expected an error, found {:?}", other.map(|logits| logits.to_vec::<f32>())),
    }
    assert_eq!(bits(tent.model()), bits(&source));
}

#[test]
fn without_batch_norm_self_distillation_adapts_and_the_others_say_what_to_do() {
    let source = model("student_net");
    for name in ["norm", "tent"] {
        let error = method(name).unwrap().adapter(&source, &Settings::default()).err().expect(name).to_string();
        assert!(error.contains("student_net has none") && error.contains("cnn-bn-16-32-fc64"), "{error}");
    }
    let settings = Settings { views: 2, momentum: 0.5, ..Settings::default() };
    let mut adapter = method("self-distillation").unwrap().adapter(&source, &settings).unwrap();
    let x = images(&digits(16));
    (0..3).for_each(|_| drop(adapter.answer(&x).unwrap()));
    assert_ne!(bits(adapter.model()), bits(&source));
}

#[test]
fn settings_out_of_range_are_refused() {
    let source = model(NORMALISED);
    let good = Settings::default();
    let bad = [
        ("lr", Settings { lr: 0.0, ..good }),
        ("lr", Settings { lr: f64::NAN, ..good }),
        ("steps", Settings { steps: 0, ..good }),
        ("source-images", Settings { source_images: -1.0, ..good }),
        ("ema", Settings { momentum: 1.5, ..good }),
        ("restore", Settings { restore: -0.1, ..good }),
        ("views", Settings { views: 0, ..good }),
        ("confidence", Settings { confidence: 2.0, ..good }),
    ];
    for (what, settings) in bad {
        let error = METHODS[0].adapter(&source, &settings).err().expect(what).to_string();
        assert!(error.starts_with(what) && error.contains("must be"), "{error}");
    }
}

/// A network trained for a moment, its data, and the command that adapts it.
fn trained(folder: &Path, architecture: &str) -> (PathBuf, PathBuf) {
    let data = small_digits(&folder.join("data"), 300, 60);
    let out = folder.join(architecture);
    let mut train = kdengine();
    train.args(["train", "--quiet", "--teacher-epochs", "3", "--batch-size", "32", "--teacher-model", architecture]);
    expect(train.arg("--data").arg(&data).arg("--out").arg(&out), 0);
    (data, out.join("jobs/teacher/model.safetensors"))
}

fn adapt((data, model): &(PathBuf, PathBuf), flags: &[&str]) -> Command {
    let mut command = kdengine();
    command.arg("adapt").arg(model).arg("--data").arg(data).args(["--views", "2"]).args(flags);
    command
}

#[test]
fn the_command_prints_a_table_writes_a_page_and_leaves_the_model_alone() {
    let folder = tempfile::tempdir().unwrap();
    let trained = trained(folder.path(), NORMALISED);
    let before = fs::read(&trained.1).unwrap();
    let out = folder.path().join("adapted");
    let mut command = adapt(&trained, &["--corrupt", "gaussian-noise:2,stripe", "--quiet"]);
    let table = String::from_utf8(expect(command.arg("--out").arg(&out), 0).stdout).unwrap();
    for part in ["source", "norm", "tent", "self-distillation", "clean", "gaussian-noise:2", "stripe:5", "mean"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Accuracy on corrupted images") && page.contains("stripe:5"));
    assert!(fs::read(&trained.1).unwrap() == before);
    for taken in [&out, &folder.path().join(NORMALISED)] {
        let error = error_of(adapt(&trained, &["--quiet"]).arg("--out").arg(taken), 2);
        assert!(error.contains("already holds results; choose another"), "{error}");
    }

    // The same numbers for machines, and the same again for the same seed.
    let json = || expect(&mut adapt(&trained, &["--corrupt", "gaussian-noise:2,stripe", "--json", "-q"]), 0).stdout;
    let result: serde_json::Value = serde_json::from_slice(&json()).unwrap();
    assert_eq!(json(), json());
    let source = &result["rows"][1]["outcomes"][0];
    assert_eq!(source["method"], "source");
    assert_eq!(source["accuracy"].as_f64().unwrap() + source["error"].as_f64().unwrap(), 100.0);
    let mut eval = kdengine();
    let eval = expect(eval.args(["eval", "--json", "--data"]).arg(&trained.0).arg(&trained.1), 0).stdout;
    let eval: serde_json::Value = serde_json::from_slice(&eval).unwrap();
    assert_eq!(result["rows"][0]["outcomes"][0]["accuracy"], eval["accuracy"]);
}

#[test]
fn bad_input_ends_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let trained = trained(folder.path(), "cnn-4-fc8");
    let cases: [(&[&str], &str); 7] = [
        (&["--corrupt", "gausian-noise"], "did you mean `gaussian-noise`?"),
        (&["--corrupt", "contrast:6"], "the severity is 1 to 5"),
        (&["--corrupt", "contrast:"], "the severity is 1 to 5"),
        (&["--methods", "tnet"], "did you mean `tent`?"),
        (&["--methods", "source,tent"], "cnn-4-fc8 has none"),
        (&["--batch-size", "0"], "batch-size: must be at least 1"),
        (&["--lr", "-1"], "lr: must be above 0"),
    ];
    for (flags, expected) in cases {
        let error = error_of(&mut adapt(&trained, flags), 2);
        assert!(error.contains(expected), "{flags:?}: {error}");
    }
    // Without --methods it does what it can, and says what it leaves out.
    let output = expect(&mut adapt(&trained, &["--corrupt", "contrast"]), 0);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("without norm and tent"), "{said}");
}
