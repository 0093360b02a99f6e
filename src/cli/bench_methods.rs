//! `bench methods`: what a training step costs with each distillation method.

use super::bench::{count, print_profile};
use super::commands::{device_arg, device_of, precision_arg};
use super::runs::set_threads;
use crate::bench;
use crate::error::Result;
use crate::pipeline::{for_each_method, Bench};
use crate::recipes::{find, Named};
use crate::train::{step_cost, StepCost};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use toml::Table;

/// The subcommand's name.
pub const NAME: &str = "methods";

const AFTER_HELP: &str = "\
A step of each method (forward, loss, backward, update) and a step on labels alone are timed in turn on the same batches, with the teacher's
answers at hand as in a run; the table has medians, their ratio beside what the registry claims, and the most memory that a step
takes beyond weights, optimiser, batch and those answers. Recipes that train networks in lockstep are timed, too: a step of all of them,
divided by the students that learn from others, as is the claim.

Examples:
  kdengine bench methods
  kdengine bench methods --methods rkd,at+hinton --batch-size 512
  kdengine bench methods --methods dml,ema,co-training
  kdengine bench methods --methods reviewkd --profile      which op takes how much of its step";

/// `bench methods`.
pub fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new(NAME)
        .about("What a step of each distillation method costs, relative to labels alone")
        .after_help(AFTER_HELP)
        .arg(text("methods", "A,B+C,…", "these only").default_value("all"))
        .arg(text("data", "NAME|DIR", "images of this data set").default_value("digits"))
        .arg(text("data-dir", "DIR", "where data sets are kept"))
        .arg(text("student-model", "NAME", "the student's architecture [student_net]"))
        .arg(text("teacher-model", "NAME", "the teacher's architecture [teacher_net]"))
        .arg(count("batch-size", "N", "images a step [128]"))
        .arg(device_arg("cpu"))
        .arg(precision_arg())
        .arg(count("threads", "N", "threads to compute with [0: all]"))
        .arg(
            Arg::new("profile")
                .long("profile")
                .action(ArgAction::SetTrue)
                .help("say which op takes how much of each method's step instead"),
        )
}

/// Carries out `bench methods`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    set_threads(matches.get_one::<u32>("threads").map_or(0, |&n| n as usize))?;
    let device = device_of(matches)?;
    let mut options = Table::new();
    for name in ["data", "data-dir", "student-model", "teacher-model", "device", "precision"] {
        if let Some(value) = matches.get_one::<String>(name) {
            options.insert(name.to_string(), value.clone().into());
        }
    }
    if let Some(&batch) = matches.get_one::<u32>("batch-size") {
        options.insert("batch-size".to_string(), i64::from(batch).into());
    }
    let methods = matches.get_one::<String>("methods").expect("has a default").clone();
    let (json, profile) = (matches.get_flag("json"), matches.get_flag("profile"));
    if !json && !profile {
        println!(
            "{:<24} {:>10} {:>10} {:>9} {:>9} {:>12}",
            "method", "step ms", "labels ms", "relative", "claimed", "peak memory"
        );
    }
    for_each_method(&Bench { options, methods }, &mut |name, steps| {
        match steps {
            Err(error) if json => println!("{}", json!({"method": name, "refused": error.to_string()})),
            Err(error) => println!("{name:<24} refused: {error}"),
            Ok((_, method)) if profile => {
                print_profile(&bench::profile_work(name.to_string(), device, 20, &mut || method.step())?, json);
            }
            Ok((labels, method)) => print_row(name, &step_cost(labels, method)?, json),
        }
        Ok(())
    })
}

fn print_row(name: &str, cost: &StepCost, json: bool) {
    // What is claimed of single methods and recipes, of these for all students; terms together are nobody's claim.
    let claimed = find(name).ok().map(|named| match named {
        Named::Method(info) => info.cost,
        Named::Recipe(info) => info.cost / cost.students as f64,
    });
    if json {
        let mut value = serde_json::to_value(cost).expect("plain values");
        let object = value.as_object_mut().expect("a struct");
        object.insert("method".to_string(), name.into());
        object.insert("relative".to_string(), cost.relative().into());
        object.insert("claimed".to_string(), claimed.into());
        println!("{value}");
        return;
    }
    let claimed = claimed.map_or(String::new(), |claimed| format!("{claimed}×"));
    let relative = format!("{:.2}×", cost.relative());
    let memory = format!("{:.1} MB", cost.peak_bytes as f64 / 1e6);
    println!("{name:<24} {:>10.3} {:>10.3} {relative:>9} {claimed:>9} {memory:>12}", cost.ms, cost.labels_ms);
}
