//! From command-line flags and a configuration file to a [`RunConfig`].

use crate::distill::Scheduled;
use crate::error::{Error, Result};
use crate::pipeline::options::{Kind, RunOption, OPTIONS};
use crate::pipeline::RunConfig;
use clap::builder::PossibleValuesParser;
use clap::{value_parser, Arg, ArgAction, ArgMatches, Command};
use std::fs;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Adds every option of a run to a subcommand.
pub fn with_run_options(command: Command) -> Command {
    let command = command
        .args_override_self(true)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("read options from a TOML file with these same names; the command line wins"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .short('o')
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("the run's folder [runs/<command>-<data>, numbered if it exists]"),
        )
        .arg(
            Arg::new("resume")
                .long("resume")
                .value_name("DIR")
                .num_args(0..=1)
                .value_parser(value_parser!(PathBuf))
                .help("continue the run in DIR (or --out); ends at the same bits as an uninterrupted run"),
        );
    OPTIONS.iter().fold(command, |command, option| command.arg(argument(option)))
}

fn argument(option: &RunOption) -> Arg {
    let arg = Arg::new(option.name).long(option.name).help(option.help).help_heading(option.group.heading());
    let arg = match option.name {
        "optimizer" => {
            arg.value_parser(PossibleValuesParser::new(["sgd", "adam", "adamw", "rmsprop"])).hide_possible_values(true)
        }
        _ => arg,
    };
    match option.kind {
        Kind::Text if option.name == "optimizer" => arg.value_name(option.value),
        Kind::Text => arg.value_name(option.value).value_parser(value_parser!(String)),
        Kind::Scheduled => arg.value_name(option.value).value_parser(Scheduled::parse).allow_hyphen_values(true),
        Kind::Path => arg.value_name(option.value).value_parser(value_parser!(PathBuf)),
        Kind::Count => arg.value_name(option.value).value_parser(value_parser!(u32)),
        Kind::Number => arg.value_name(option.value).value_parser(value_parser!(f64)).allow_negative_numbers(true),
        Kind::Numbers => {
            let arg = arg.value_name(option.value).value_parser(value_parser!(f64));
            arg.value_delimiter(',').allow_negative_numbers(true)
        }
        Kind::Texts => arg.value_name(option.value).value_parser(value_parser!(String)).action(ArgAction::Append),
        Kind::Switch => arg.action(ArgAction::SetTrue),
    }
}

/// The configuration that the flags and the file ask for.
pub fn config(matches: &ArgMatches) -> Result<RunConfig> {
    let file = match (matches.get_one::<PathBuf>("config"), resumed_folder(matches)) {
        (Some(path), _) => read_table(path)?,
        (None, Some(folder)) if folder.join("config.toml").exists() => read_table(&folder.join("config.toml"))?,
        (None, _) => Table::new(),
    };
    RunConfig::resolve(file, flags(matches))
}

/// The folder that `--resume` names, if it was given.
pub fn resumed_folder(matches: &ArgMatches) -> Option<PathBuf> {
    if !matches.contains_id("resume") {
        return None;
    }
    matches.get_one::<PathBuf>("resume").or(matches.get_one::<PathBuf>("out")).cloned()
}

/// The options that stand on the command line.
fn flags(matches: &ArgMatches) -> Table {
    let mut table = Table::new();
    for option in OPTIONS {
        let name = option.name;
        let value = match option.kind {
            Kind::Text => matches.get_one::<String>(name).cloned().map(Value::String),
            Kind::Scheduled => {
                matches.get_one::<Scheduled>(name).map(|s| Value::try_from(s).expect("a number or a string"))
            }
            Kind::Path => matches.get_one::<PathBuf>(name).map(|p| Value::String(p.display().to_string())),
            Kind::Count => matches.get_one::<u32>(name).map(|n| Value::Integer(i64::from(*n))),
            Kind::Number => matches.get_one::<f64>(name).copied().map(Value::Float),
            Kind::Numbers => {
                matches.get_many::<f64>(name).map(|list| Value::Array(list.copied().map(Value::Float).collect()))
            }
            Kind::Texts => {
                matches.get_many::<String>(name).map(|list| Value::Array(list.cloned().map(Value::String).collect()))
            }
            Kind::Switch => matches.get_flag(name).then_some(Value::Boolean(true)),
        };
        if let Some(value) = value {
            table.insert(name.to_string(), value);
        }
    }
    table
}

fn read_table(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    text.parse::<Table>().map_err(|e| {
        let place = e.span().map(|span| format!(" line {}", text[..span.start].matches('\n').count() + 1));
        Error::Config(format!("{}{}: {}", path.display(), place.unwrap_or_default(), e.message()))
    })
}
