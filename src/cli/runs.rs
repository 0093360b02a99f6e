//! `run`, `train`, `distill`, `compare`, `sweep`, `ablate`: the commands that train.

use super::args;
use super::output::{paint, verbosity, Style};
use super::progress::TerminalProgress;
use crate::backend;
use crate::error::{Error, Result};
use crate::pipeline::{self, Session, Stages};
use crate::report;
use crate::train::interrupt;
use clap::ArgMatches;
use std::path::{Path, PathBuf};

/// Trains what the stages need, prints the results and where the report is.
pub fn run(command: &str, stages: Stages, matches: &ArgMatches) -> Result<()> {
    let config = args::config(matches)?;
    pipeline::check_stages(&config, stages)?;
    set_threads(config.threads)?;
    on_interrupt("saving after this step …");
    let resumed = args::resumed_folder(matches);
    let out = match (&resumed, matches.get_one::<PathBuf>("out")) {
        (Some(folder), _) | (None, Some(folder)) => folder.clone(),
        (None, None) => unused_folder(command, &config.data),
    };
    let device = config.device()?;
    let mut progress = TerminalProgress::new();
    let mut session = Session::open(command, config, &out, resumed.is_some(), &mut progress)?;
    let report = pipeline::run(&mut session, stages).map_err(|error| name_folder(error, command, &out))?;
    match matches.get_flag("json") {
        true => println!("{}", serde_json::to_string(&session.summary).expect("plain values")),
        false => {
            println!("\n{}", report::results_text(&session.summary));
            println!("\nreport: {}", report.display());
            if verbosity() > 0 {
                if let Some(launches) = backend::of(device).launches() {
                    eprintln!("{}", paint(Style::Faint, &launches));
                }
                eprintln!("{}", paint(Style::Faint, "open it in a browser; everything else of the run is beside it"));
            }
        }
    }
    Ok(())
}

/// `runs/<command>-<data>`, with a number if that exists.
fn unused_folder(command: &str, data: &str) -> PathBuf {
    let data = Path::new(data).file_name().map_or("data".into(), |name| name.to_string_lossy());
    let base = format!("{command}-{data}");
    let numbered = (1..).map(|n| if n == 1 { base.clone() } else { format!("{base}-{n}") });
    let folders = numbered.map(|name| Path::new("runs").join(name));
    folders.into_iter().find(|folder| !folder.exists()).expect("there is always a larger number")
}

/// After Ctrl-C, the command that goes on.
fn name_folder(error: Error, command: &str, out: &Path) -> Error {
    match error {
        Error::Interrupted(what) => {
            Error::Interrupted(format!("{what}: kdengine {command} --resume {}", out.display()))
        }
        other => other,
    }
}

/// The first Ctrl-C asks the work to stop at its next pause, and says so; the second ends the process at once.
pub fn on_interrupt(says: &'static str) {
    let handler = move || {
        if interrupt::requested() {
            std::process::exit(i32::from(super::INTERRUPTED));
        }
        interrupt::request();
        eprintln!("\n{says} (Ctrl-C again to stop at once)");
    };
    if ctrlc::set_handler(handler).is_err() && verbosity() > 1 {
        eprintln!("Ctrl-C will not save: another handler is in place");
    }
}

/// More threads than any machine has; so many would not even start.
const MOST_THREADS: usize = 1024;

/// Limits the threads that kernels use; 0 means all.
pub fn set_threads(threads: usize) -> Result<()> {
    if threads == 0 {
        return Ok(());
    }
    if threads > MOST_THREADS {
        return Err(Error::argument(
            "threads",
            format!("must be at most {MOST_THREADS}, found {threads}; 0 takes all"),
        ));
    }
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    built.map_err(|e| Error::argument("threads", format!("cannot start {threads} threads: {e}")))
}
