//! `eval`, `predict`, `summary`: commands about one model.

use super::commands::{choose_precision, device_arg, device_of, path_arg, precision_arg};
use super::output::bytes;
use crate::data::{self, Classes, View};
use crate::error::{Error, Result};
use crate::models::{architecture, architecture_names, summarise, Model, ModelSummary, Task};
use crate::report::thousands;
use crate::tensor::{Device, Rng};
use crate::train::{evaluate, load_model, measure};
use clap::{value_parser, Arg, ArgMatches, Command};
use serde_json::json;
use std::path::PathBuf;

/// The `eval` subcommand.
pub fn eval_command() -> Command {
    with_model_options(
        Command::new("eval").about("Accuracy, calibration, latency and memory of a trained model on a test set"),
    )
}

/// The `predict` subcommand.
pub fn predict_command() -> Command {
    let command = Command::new("predict").about("What a trained model says about images of a test set");
    with_model_options(command).arg(
        Arg::new("index")
            .long("index")
            .value_name("I,…")
            .value_delimiter(',')
            .value_parser(value_parser!(usize))
            .default_value("0")
            .help("which test images, counted from 0"),
    )
}

/// The `summary` subcommand.
pub fn summary_command() -> Command {
    Command::new("summary")
        .about("Layers, output shapes, parameters, operations and activation memory of an architecture")
        .arg(Arg::new("model").value_name("MODEL").required(true).help(architecture_names().join(", ")))
        .arg(Arg::new("classes").long("classes").value_name("N").value_parser(value_parser!(u32).range(1..)))
}

/// Adds the file of a trained model and the data set that it is shown to a subcommand.
pub fn with_model_options(command: Command) -> Command {
    command
        .arg(path_arg("file", "FILE", "a trained model (.safetensors)"))
        .arg(Arg::new("model").long("model").value_name("NAME").help("its architecture, if the file does not say"))
        .arg(Arg::new("data").long("data").value_name("NAME|DIR").default_value("digits").help("the data set"))
        .arg(Arg::new("data-dir").long("data-dir").value_name("DIR").value_parser(value_parser!(PathBuf)))
        .arg(
            Arg::new("view")
                .long("view")
                .value_name("VIEW")
                .default_value("identity")
                .help("what the model sees of an image, as --student-view had it"),
        )
        .arg(
            Arg::new("classes")
                .long("classes")
                .value_name("GROUPS")
                .default_value("same")
                .help("the model's task, as --student-classes had it"),
        )
        .arg(device_arg("cpu"))
        .arg(precision_arg())
}

/// The model and the test set that the options name.
pub fn model_and_test(matches: &ArgMatches) -> Result<(Model, data::Dataset, Device)> {
    let device = device_of(matches)?;
    choose_precision(matches, device)?;
    let data = matches.get_one::<String>("data").expect("has a default");
    let test = data::load(data, matches.get_one::<PathBuf>("data-dir").map(PathBuf::as_path))?.test;
    let option = |name: &str| matches.get_one::<String>(name).expect("has a default");
    let test = Classes::named(option("classes"))?.of(&View::named(option("view"))?.of(&test)?)?;
    let task = Task { input: test.image_shape(), classes: test.classes.len() };
    let file = matches.get_one::<PathBuf>("file").expect("required");
    let name = matches.get_one::<String>("model").map(String::as_str);
    Ok((load_model(file, name, task, device)?, test, device))
}

/// Carries out `eval`.
pub fn eval(matches: &ArgMatches) -> Result<()> {
    let (model, test, device) = model_and_test(matches)?;
    let evaluation = evaluate(&model, &test, 1000, device)?;
    let cost = measure(&model, device)?;
    if matches.get_flag("json") {
        let row = json!({
            "model": model.name(), "images": test.len(), "accuracy": evaluation.accuracy(),
            "expected_calibration_error": evaluation.calibration_error(), "confusion": evaluation.confusion(),
            "latency_b1_ms": cost.single.median_ms, "latency_b128_ms": cost.batch.median_ms,
            "images_per_second": cost.throughput, "parameter_bytes": cost.parameter_bytes,
            "peak_activation_bytes": cost.peak_activation_bytes,
        });
        println!("{row}");
        return Ok(());
    }
    let rows = [
        ("model", model.name().to_string()),
        ("test images", thousands(test.len() as f64)),
        ("accuracy", format!("{:.2} %", evaluation.accuracy())),
        ("expected calibration error", format!("{:.2} %", evaluation.calibration_error())),
        ("latency, 1 image", format!("{:.3} ms (95 %: {:.3} ms)", cost.single.median_ms, cost.single.p95_ms)),
        ("latency, 128 images", format!("{:.2} ms (95 %: {:.2} ms)", cost.batch.median_ms, cost.batch.p95_ms)),
        ("throughput", format!("{} images/s", thousands(cost.throughput))),
        ("weights", bytes(cost.parameter_bytes)),
        ("peak activations, 128 images", bytes(cost.peak_activation_bytes)),
    ];
    for (what, value) in rows {
        println!("{what:<30}{value}");
    }
    Ok(())
}

/// Carries out `predict`.
pub fn predict(matches: &ArgMatches) -> Result<()> {
    let (model, test, device) = model_and_test(matches)?;
    let wanted: Vec<usize> = matches.get_many("index").expect("has a default").copied().collect();
    if let Some(beyond) = wanted.iter().find(|&&i| i >= test.len()) {
        let reason = format!("there is no test image {beyond}; the last one is {}", test.len() - 1);
        return Err(Error::argument("index", reason));
    }
    let rows: Vec<u32> = wanted.iter().map(|&i| i as u32).collect();
    let evaluation = evaluate(&model, &test.subset(&rows)?, 1000, device)?;
    for (row, index) in wanted.iter().enumerate() {
        let probabilities = evaluation.probabilities(row, 1.0);
        let (predicted, label) = (evaluation.predictions[row], evaluation.labels[row]);
        if matches.get_flag("json") {
            let line = json!({
                "index": index, "label": test.classes[label], "prediction": test.classes[predicted],
                "probabilities": probabilities,
            });
            println!("{line}");
        } else {
            let confidence = 100.0 * probabilities[predicted];
            let verdict =
                if predicted == label { String::new() } else { format!("   wrong: it is {}", test.classes[label]) };
            println!("image {index:<6} {} ({confidence:.1} %){verdict}", test.classes[predicted]);
        }
    }
    Ok(())
}

/// Carries out `summary`.
pub fn summary(matches: &ArgMatches) -> Result<()> {
    let architecture = architecture(matches.get_one::<String>("model").expect("required"))?;
    let mut task = architecture.default_task;
    if let Some(&classes) = matches.get_one::<u32>("classes") {
        task.classes = classes as usize;
    }
    let model = Model::new(architecture.name, task, Rng::new(0, 0), Device::default())?;
    let summary = summarise(&model)?;
    match matches.get_flag("json") {
        true => println!("{}", serde_json::to_string(&summary).expect("plain values")),
        false => print_summary(&summary),
    }
    Ok(())
}

fn print_summary(summary: &ModelSummary) {
    let [c, h, w] = summary.input;
    println!("{} for {c}×{h}×{w} images, {} classes; per image:\n", summary.model, summary.classes);
    println!(
        "{:<10} {:<44} {:>14} {:>12} {:>9} {:>12}  tap",
        "name", "layer", "output", "parameters", "MFLOPs", "activations"
    );
    for layer in &summary.layers {
        let output = layer.output.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
        println!(
            "{:<10} {:<44} {:>14} {:>12} {:>9.2} {:>12}  {}",
            layer.name,
            layer.layer,
            output,
            thousands(layer.parameters as f64),
            layer.flops / 1e6,
            bytes(layer.activation_bytes),
            layer.tap.as_deref().unwrap_or("")
        );
    }
    println!(
        "\n{:<70} {:>12} {:>9.2} {:>12}",
        "total",
        thousands(summary.parameters as f64),
        summary.flops / 1e6,
        bytes(summary.activation_bytes)
    );
}
