//! `gradcheck` and `conformance`: proof that ops are right.

use super::commands::{device_arg, device_of, path_arg};
use super::output::{paint, Style};
use crate::conformance::{gradcheck as check_op, registry, run, CaseResult, Status, Summary};
use crate::error::{Error, Result};
use clap::{value_parser, Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The `gradcheck` subcommand.
pub fn gradcheck_command() -> Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u32)).default_value(default).help(help)
    };
    Command::new("gradcheck")
        .about("Every op's gradient against central differences in f64, on random shapes")
        .arg(Arg::new("op").long("op").value_name("NAME").help("only this op"))
        .arg(number("cases", "5", "random cases for each op"))
        .arg(number("seed", "0", "determines the cases"))
        .arg(device_arg("reference"))
}

/// The `conformance` subcommand.
pub fn conformance_command() -> Command {
    Command::new("conformance")
        .about("Reference fixtures (safetensors, `<op>__<case>.safetensors`) against this engine")
        .arg(path_arg("dir", "DIR", "the folder of fixtures"))
        .arg(Arg::new("op").long("op").value_name("NAME").help("only this op"))
        .arg(device_arg("cpu"))
        .arg(Arg::new("strict").long("strict").action(ArgAction::SetTrue).help("fail on unsupported ops as well"))
}

/// Carries out `gradcheck`.
pub fn gradcheck(matches: &ArgMatches) -> Result<()> {
    let only = matches.get_one::<String>("op");
    let cases = *matches.get_one::<u32>("cases").expect("has a default") as usize;
    let seed = u64::from(*matches.get_one::<u32>("seed").expect("has a default"));
    let (json, device) = (matches.get_flag("json"), device_of(matches)?);
    let mut rows = Vec::new();
    for spec in registry().filter(|spec| only.is_none_or(|only| only == spec.name)) {
        rows.extend(check_op(spec, cases, seed, device)?);
    }
    if rows.is_empty() {
        return Err(Error::argument(
            "op",
            format!("there is no differentiable op `{}`", only.map_or("", String::as_str)),
        ));
    }
    if !json {
        println!("{:<30} {:>6} {:>9} {:>22} {:>10}", "op", "cases", "elements", "largest relative error", "");
    }
    for row in &rows {
        let verdict = if row.passed() { paint(Style::Good, "ok") } else { paint(Style::Error, "WRONG") };
        match json {
            true => println!("{}", serde_json::to_string(row).expect("plain values")),
            false => println!(
                "{:<30} {:>6} {:>9} {:>22.2e} {verdict:>10}",
                row.op, row.cases, row.elements, row.worst_relative_error
            ),
        }
    }
    let wrong: Vec<&str> = rows.iter().filter(|row| !row.passed()).map(|row| row.op).collect();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::Conformance(format!("gradients disagree with finite differences: {}", wrong.join(", ")))),
    }
}

/// Carries out `conformance`.
pub fn conformance(matches: &ArgMatches) -> Result<()> {
    let folder = matches.get_one::<PathBuf>("dir").expect("required");
    let results = run(folder, matches.get_one::<String>("op").map(String::as_str), device_of(matches)?)?;
    let summary = Summary::of(&results);
    match matches.get_flag("json") {
        true => {
            for result in &results {
                println!("{}", serde_json::to_string(result).expect("plain values"));
            }
            println!("{}", json!({ "summary": summary }));
        }
        false => print_by_op(&results, summary),
    }
    let strict = matches.get_flag("strict");
    match summary.failed + if strict { summary.unsupported } else { 0 } {
        0 => Ok(()),
        _ => {
            let counts = format!("{} failed, {} unsupported", summary.failed, summary.unsupported);
            Err(Error::Conformance(format!("{counts} of {} cases", results.len())))
        }
    }
}

fn print_by_op(results: &[CaseResult], summary: Summary) {
    let mut by_op: BTreeMap<&str, Vec<&CaseResult>> = BTreeMap::new();
    for result in results {
        by_op.entry(&result.op).or_default().push(result);
    }
    println!("{:<30} {:>7} {:>7} {:>12} {:>12}", "op", "passed", "failed", "unsupported", "worst/allowed");
    for (op, results) in by_op {
        let count = |status| results.iter().filter(|r| r.status == status).count();
        let worst = results
            .iter()
            .filter_map(|r| r.worst)
            .fold(None, |worst: Option<f64>, w| Some(worst.map_or(w, |x| x.max(w))));
        let worst = worst.map_or(String::new(), |worst| format!("{worst:.2e}"));
        let (passed, failed, unsupported) = (count(Status::Passed), count(Status::Failed), count(Status::Unsupported));
        println!("{op:<30} {passed:>7} {failed:>7} {unsupported:>12} {worst:>12}");
        for failed in results.iter().filter(|r| r.status == Status::Failed) {
            println!("    {}: {}", failed.case, failed.reason.as_deref().unwrap_or("a value is out of tolerance"));
        }
    }
    println!("\n{} passed, {} failed, {} unsupported", summary.passed, summary.failed, summary.unsupported);
}
