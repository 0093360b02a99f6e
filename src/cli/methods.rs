//! `methods`: what a student can learn from, and how each method is used.

use crate::distill::{find_method, Domain, Hyperparameter, MethodInfo, FORMS, METHODS};
use crate::error::Result;
use clap::{Arg, ArgMatches, Command};
use serde_json::json;

/// The `methods` subcommand.
pub fn command() -> Command {
    Command::new("methods")
        .about("What a student can learn from: all methods, or one explained")
        .arg(Arg::new("name").value_name("NAME").help("explain this method"))
}

/// Carries out `methods`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let json = matches.get_flag("json");
    match matches.get_one::<String>("name") {
        Some(name) => {
            let info = find_method(name)?;
            if json {
                println!("{}", describe(info));
            } else {
                explain(info);
            }
        }
        None if json => METHODS.iter().for_each(|info| println!("{}", describe(info))),
        None => list(),
    }
    Ok(())
}

fn list() {
    println!("{:<22} {:<9} {:<17} {:>5}  {:<28} about", "method", "family", "needs", "cost", "paper");
    for info in METHODS {
        let (family, needs) = (info.family.name(), info.needs.describe());
        println!("{:<22} {family:<9} {needs:<17} {:>4}×  {:<28} {}", info.name, info.cost, info.paper, info.about);
    }
    println!("\ncost: time of a step relative to training on labels; `kdengine methods NAME` explains one");
}

fn explain(info: &MethodInfo) {
    println!("{}: {}", info.name, info.about);
    println!(
        "{}; {} family; needs {}; about {}× the time of a plain step\n",
        info.paper,
        info.family.name(),
        info.needs.describe(),
        info.cost
    );
    println!("loss     {} · [{}]", info.weight, info.formula);
    println!("labels   {} · cross-entropy beside it (--hard-weight)", info.hard_weight);
    println!("use it   {}", info.when);
    for trap in info.traps {
        println!("trap     {trap}");
    }
    if !info.hyperparameters.is_empty() {
        println!("\n{:<24} {:<10} {:<28} meaning", "hyperparameter", "default", "range");
        for h in info.hyperparameters {
            println!("{:<24} {:<10} {:<28} {}", h.name, h.default_text(), h.range_text(), h.about);
        }
    }
    let scheduled = |h: &&Hyperparameter| matches!(h.domain, Domain::Scheduled { .. });
    let also = info.hyperparameters.iter().filter(scheduled).map(|h| h.name);
    let names: Vec<&str> = ["weight", "--hard-weight"].into_iter().chain(also).collect();
    println!("\n{} may change over the epochs: {FORMS}", names.join(", "));
    println!("\nexample  {}", example(info));
}

/// A command line that uses the method, with its first hyperparameter written out.
fn example(info: &MethodInfo) -> String {
    let set = |h: &Hyperparameter| format!(" --set {}={}", h.name, h.default_text());
    let set = info.hyperparameters.first().map(set).unwrap_or_default();
    format!("kdengine distill --data digits --method {}{set}", info.name)
}

fn describe(info: &MethodInfo) -> serde_json::Value {
    let hyperparameters: Vec<_> = info
        .hyperparameters
        .iter()
        .map(|h| json!({"name": h.name, "default": h.default_text(), "range": h.range_text(), "about": h.about}))
        .collect();
    json!({
        "name": info.name, "paper": info.paper, "family": info.family.name(), "about": info.about,
        "formula": info.formula, "needs": info.needs.describe(), "weight": info.weight,
        "hard_weight": info.hard_weight, "cost": info.cost, "when": info.when, "traps": info.traps,
        "hyperparameters": hyperparameters, "example": example(info),
    })
}
