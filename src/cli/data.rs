//! `data`: getting, listing and exporting data sets.

use super::commands::path_arg;
use super::output::{paint, verbosity, Style};
use crate::data::{digits, download, find_source, idx, sources};
use crate::error::{Error, Result};
use crate::suggest::nearest;
use clap::{value_parser, Arg, ArgMatches, Command};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;

/// The `data` subcommand.
pub fn command() -> Command {
    let folder = || Arg::new("data-dir").long("data-dir").value_name("DIR").value_parser(value_parser!(PathBuf));
    Command::new("data")
        .about("Download data sets, list them, or write the embedded one to files")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("get")
                .about("Download a data set: resumes, tries several mirrors, checks checksums")
                .arg(Arg::new("name").value_name("NAME").required(true).help("mnist, fashion-mnist or kmnist"))
                .arg(folder().help("where to keep it [$KDENGINE_DATA, else the cache folder]")),
        )
        .subcommand(Command::new("list").about("The known data sets, and which of them are here").arg(folder()))
        .subcommand(
            Command::new("export")
                .about("Write the embedded digits as IDX files, for use by other tools")
                .arg(path_arg("dir", "DIR", "the folder to write to")),
        )
}

/// Carries out `data`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("get", matches)) => get(matches),
        Some(("list", matches)) => list(matches),
        Some(("export", matches)) => export(matches),
        _ => unreachable!("clap requires one of these"),
    }
}

fn get(matches: &ArgMatches) -> Result<()> {
    let name = matches.get_one::<String>("name").expect("required");
    let known: Vec<&str> = sources::SOURCES.iter().map(|source| source.name).collect();
    let source = sources::source(name).ok_or_else(|| {
        let hint = nearest(name, &known).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
        Error::argument("data get", format!("`{name}` cannot be downloaded; {hint}known: {}", known.join(", ")))
    })?;
    let folder = folder(matches).join(source.name);
    let bar = if verbosity() > 0 { ProgressBar::no_length() } else { ProgressBar::hidden() };
    bar.set_style(
        ProgressStyle::with_template("{msg:<28} {bytes:>10} of {total_bytes}  {eta} left").expect("a valid template"),
    );
    let mirrors: Vec<String> = source.mirrors.iter().map(|mirror| mirror.to_string()).collect();
    let result = download::get(source, &mirrors, &folder, &mut |file, received, total| {
        bar.set_message(file.to_string());
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(received);
    });
    bar.finish_and_clear();
    result?;
    println!("{name} is in {}; use it with --data {name}", folder.display());
    Ok(())
}

fn list(matches: &ArgMatches) -> Result<()> {
    println!(
        "{:<14} {:<9} handwritten-looking digits, drawn by program, 12,000 + 2,000 images of 28×28",
        "digits", "embedded"
    );
    for source in sources::SOURCES {
        let state = match find_source(source, &folder(matches)) {
            Some(_) => paint(Style::Good, "here     "),
            None => "absent   ".to_string(),
        };
        println!("{:<14} {state} {}", source.name, source.about);
    }
    println!("\nA folder of IDX files works as well: --data DIR. Data sets are kept in {}.", folder(matches).display());
    Ok(())
}

fn export(matches: &ArgMatches) -> Result<()> {
    let folder = matches.get_one::<PathBuf>("dir").expect("required");
    idx::write_splits(folder, &digits::generate(&digits::DigitsConfig::default()))?;
    println!("digits are in {}; use them with --data {0}", folder.display());
    Ok(())
}

fn folder(matches: &ArgMatches) -> PathBuf {
    matches.get_one::<PathBuf>("data-dir").cloned().unwrap_or_else(sources::default_folder)
}
