//! `methods`: what a student can learn from, and how each method is used.

use crate::distill::{Domain, Entry, Hyperparameter, Settings, FORMS, METHODS};
use crate::error::Result;
use crate::recipes::{find, Accepts, Named, RECIPES};
use clap::{Arg, ArgMatches, Command};
use serde_json::json;
use std::collections::BTreeMap;

/// The `methods` subcommand.
pub fn command() -> Command {
    Command::new("methods")
        .about("What a student can learn from: all methods and recipes, or some explained")
        .arg(Arg::new("name").value_name("NAME").num_args(0..).help("explain these methods and recipes"))
}

/// Carries out `methods`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let json = matches.get_flag("json");
    let names = matches.get_many::<String>("name").unwrap_or_default();
    let named = names.map(|name| find(name)).collect::<Result<Vec<_>>>()?;
    for (i, one) in named.iter().enumerate() {
        if i > 0 && !json {
            println!();
        }
        match (one, json) {
            (Named::Method(info), true) => println!("{}", describe(METHOD, info)),
            (Named::Recipe(info), true) => println!("{}", describe(RECIPE, info)),
            (Named::Method(info), false) => {
                explain(info, &format!("loss     {} · [{}]", info.weight, info.formula), true);
            }
            (Named::Recipe(info), false) => {
                let accepts = (info.build)(&Settings::new(info, &BTreeMap::new())?)?.accepts();
                let terms = match accepts {
                    Accepts::AnyMethod => format!("{} · hinton, or those of the methods named beside it", info.weight),
                    Accepts::MethodsOfLogits => {
                        format!("{} · hinton, or methods named beside it that compare no feature maps", info.weight)
                    }
                    Accepts::NoMethod => "the recipe's own: no other method can be named beside it".to_string(),
                    Accepts::Nothing => {
                        "the recipe's own, of the teacher's answers alone: nothing can be named beside it".into()
                    }
                };
                let loss = format!("recipe   {}\nterms    {terms}", info.formula);
                explain(info, &loss, accepts != Accepts::Nothing);
            }
        }
    }
    match (named.is_empty(), json) {
        (true, true) => {
            METHODS.iter().for_each(|info| println!("{}", describe(METHOD, info)));
            RECIPES.iter().for_each(|info| println!("{}", describe(RECIPE, info)));
        }
        (true, false) => list(),
        (false, _) => {}
    }
    Ok(())
}

/// What an entry is, in JSON.
const METHOD: &str = "method";
const RECIPE: &str = "recipe";

fn list() {
    println!("{:<24} {:<9} {:<17} {:>5}  {:<28} about", "method", "family", "needs", "cost", "paper");
    METHODS.iter().for_each(|info| println!("{}", line(info)));
    println!("\nrecipes: ways to arrange trainings; at most one beside any number of methods (--method born-again,at)");
    RECIPES.iter().for_each(|info| println!("{}", line(info)));
    println!("\ncost: time of a step relative to training on labels; `kdengine methods NAME` explains one, NAME NAME several");
}

fn line<Build>(info: &Entry<Build>) -> String {
    let (family, needs) = (info.family.name(), info.needs.describe());
    format!("{:<24} {family:<9} {needs:<17} {:>4}×  {:<28} {}", info.name, info.cost, info.paper, info.about)
}

fn explain<Build>(info: &Entry<Build>, loss: &str, has_weights: bool) {
    println!("{}: {}", info.name, info.about);
    println!(
        "{}; {} family; needs {}; about {}× the time of a plain step\n",
        info.paper,
        info.family.name(),
        info.needs.describe(),
        info.cost
    );
    println!("{loss}");
    if has_weights {
        println!("labels   {} · cross-entropy beside it (--hard-weight)", info.hard_weight);
    }
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
    let weights = if has_weights { &["weight", "--hard-weight"][..] } else { &[] };
    let names: Vec<&str> = weights.iter().copied().chain(also).collect();
    if !names.is_empty() {
        println!("\n{} may change over the epochs: {FORMS}", names.join(", "));
    }
    println!("\nexample  {}", example(info));
}

/// A command line that uses the method, with its first hyperparameter written out.
fn example<Build>(info: &Entry<Build>) -> String {
    let set = |h: &Hyperparameter| format!(" --set {}={}", h.name, h.default_text());
    let set = info.hyperparameters.first().map(set).unwrap_or_default();
    // The default teacher is wider than the default student.
    let teacher = if info.needs.equal_widths { " --teacher-model cnn-16-32-64-fc128" } else { "" };
    format!("kdengine distill --data digits --method {}{set}{teacher}", info.name)
}

fn describe<Build>(kind: &str, info: &Entry<Build>) -> serde_json::Value {
    let hyperparameters: Vec<_> = info
        .hyperparameters
        .iter()
        .map(|h| json!({"name": h.name, "default": h.default_text(), "range": h.range_text(), "about": h.about}))
        .collect();
    json!({
        "name": info.name, "kind": kind, "paper": info.paper, "family": info.family.name(), "about": info.about,
        "formula": info.formula, "needs": info.needs.describe(), "weight": info.weight,
        "hard_weight": info.hard_weight, "cost": info.cost, "when": info.when, "traps": info.traps,
        "hyperparameters": hyperparameters, "example": example(info),
    })
}
