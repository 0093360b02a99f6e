//! `adapt`: test-time adaptation on corrupted images.

use super::models::{model_and_test, with_model_options};
use super::progress::TerminalProgress;
use super::runs::on_interrupt;
use crate::adapt::{compare, method, write_report, Comparison, Condition, MethodInfo, Plan, Settings, METHODS};
use crate::data::corrupt::CORRUPTIONS;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::report::accuracies_text;
use crate::train::Progress;
use clap::{value_parser, Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The `adapt` subcommand.
pub fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        text(name, "X", help).value_parser(value_parser!(f64)).allow_negative_numbers(true).default_value(default)
    };
    let count = |name: &'static str, default: &'static str, help: &'static str| {
        text(name, "N", help).value_parser(value_parser!(u32)).default_value(default)
    };
    with_model_options(Command::new("adapt"))
        .about("Test-time adaptation: how a trained model copes with corrupted test images, as it is and adapting without labels")
        .after_help(lists())
        .arg(text("corrupt", "NAME[:SEVERITY],…", "what is done to the images, severity 1 to 5 [5]").default_value("all"))
        .arg(text("methods", "NAME,…", "how the model adapts [every method that fits it]"))
        .arg(count("batch-size", "128", "images that are answered, and learned from, at a time"))
        .arg(number("lr", "0.001", "Adam's learning rate (tent, self-distillation)"))
        .arg(count("steps", "1", "steps for each batch; the answer of the last one counts"))
        .arg(number("source-images", "0", "how many images the training's statistics count for beside a batch's (norm)"))
        .arg(number("ema", "0.999", "how much of the teacher stays in each step (self-distillation)"))
        .arg(number("restore", "0.01", "share of the weights set back in each step (self-distillation)"))
        .arg(count("views", "32", "views of an image whose answers the teacher averages (self-distillation)"))
        .arg(number("confidence", "0.92", "mean confidence of the source model from which it averages none (self-distillation)"))
        .arg(
            Arg::new("continual")
                .long("continual")
                .action(ArgAction::SetTrue)
                .help("adapt on from one corruption to the next instead of starting from the model again"),
        )
        .arg(count("seed", "0", "determines noise, views and restored weights"))
        .arg(
            text("out", "DIR", "write report.html and summary.json there")
                .short('o')
                .value_parser(value_parser!(PathBuf)),
        )
}

/// What there is to choose from, for the end of the help.
fn lists() -> String {
    let mut text = "Methods:\n".to_string();
    for MethodInfo { name, paper, about, formula, .. } in METHODS {
        let _ = writeln!(text, "  {name:<18} {about} ({paper})\n  {:<18} {formula}", "");
    }
    text += "\nCorruptions, with their strength s at severity 1 to 5 (MNIST-C's, for 28 pixels):\n";
    for corruption in CORRUPTIONS {
        let strengths = corruption.strengths.map(|strength| strength.to_string()).join(" ");
        let _ = writeln!(text, "  {:<15} {:<45} {strengths}", corruption.name, corruption.about);
    }
    text + "\nHow the methods differ from their papers: docs/test-time-adaptation.md"
}

/// Carries out `adapt`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let number = |name: &str| *matches.get_one::<f64>(name).expect("has a default");
    let count = |name: &str| *matches.get_one::<u32>(name).expect("has a default") as usize;
    let settings = Settings {
        lr: number("lr"),
        steps: count("steps"),
        source_images: number("source-images"),
        momentum: number("ema"),
        restore: number("restore"),
        views: count("views"),
        confidence: number("confidence"),
        seed: count("seed") as u64,
    };
    settings.validate()?;
    if count("batch-size") == 0 {
        return Err(Error::argument("batch-size", "must be at least 1, found 0"));
    }
    let conditions = Condition::list(matches.get_one::<String>("corrupt").expect("has a default"))?;
    let named = matches.get_one::<String>("methods").map(|list| named(list)).transpose()?;
    let (model, test, device) = model_and_test(matches)?;
    let mut progress = TerminalProgress::new();
    let methods = named.unwrap_or_else(|| fitting(&model, &mut progress));
    let plan = Plan {
        conditions,
        methods,
        settings,
        batch: count("batch-size"),
        device,
        continual: matches.get_flag("continual"),
    };
    let folder = matches.get_one::<PathBuf>("out").map(|path| empty_folder(path)).transpose()?;
    on_interrupt("stopping after this batch …");
    let mut found = Comparison::default();
    let mut page = None;
    let outcome = compare(&model, &test, &plan, &mut found, &mut progress, &mut |found| {
        if let Some(folder) = &folder {
            page = Some(write_report(found, &model, &test, &plan, folder)?);
        }
        Ok(())
    });
    // What was finished before an interruption is worth showing.
    if !found.rows.is_empty() {
        show(&found, &model, &test, &plan, matches.get_flag("json"));
        if let Some(page) = page.filter(|_| !matches.get_flag("json")) {
            println!("\nreport: {}", page.display());
        }
    }
    outcome
}

/// The folder for the report, made if it is not there. What another command or comparison left is not overwritten.
fn empty_folder(path: &Path) -> Result<&Path> {
    if ["config.toml", "summary.json"].iter().any(|file| path.join(file).exists()) {
        return Err(Error::argument("out", format!("{} already holds results; choose another", path.display())));
    }
    fs::create_dir_all(path).map_err(|e| Error::io("create the folder", path, e))?;
    Ok(path)
}

/// The methods of a list.
fn named(list: &str) -> Result<Vec<&'static MethodInfo>> {
    list.split(',').map(|name| method(name.trim())).collect()
}

/// The methods that can adapt the model; those that cannot are named.
fn fitting(model: &Model, progress: &mut dyn Progress) -> Vec<&'static MethodInfo> {
    let (fitting, others): (Vec<_>, Vec<_>) = METHODS.iter().partition(|method| method.fits(model));
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|method| method.name).collect();
        progress.note(&format!("{} has no batch normalisation: without {}", model.name(), names.join(" and ")));
    }
    fitting
}

fn show(found: &Comparison, model: &Model, test: &Dataset, plan: &Plan, as_json: bool) {
    if as_json {
        let result = json!({
            "model": model.name(), "data": test.name, "images": test.len(), "batch_size": plan.batch,
            "continual": plan.continual, "rows": found.rows, "mean_accuracy": found.mean(),
        });
        println!("{result}");
        return;
    }
    let order = if plan.continual { ", adapting on from row to row" } else { "" };
    println!("Accuracy of {} on {} images of {}{order}:\n", model.name(), test.len(), test.name);
    println!("{}", accuracies_text(&found.table()).trim_end());
}
