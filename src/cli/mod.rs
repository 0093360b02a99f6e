//! The command line: only here do parsing, progress bars and printing exist.

mod adapt;
mod args;
mod bench;
mod bench_methods;
mod check;
mod commands;
mod data;
mod doctor;
mod methods;
mod models;
mod output;
mod progress;
mod runs;

use crate::error::Error;
use clap::error::ErrorKind;
use std::process::ExitCode;

/// Done.
const DONE: u8 = 0;
/// Something went wrong.
const FAILED: u8 = 1;
/// The command line or the configuration cannot be used.
const USAGE: u8 = 2;
/// Ctrl-C; everything was saved.
const INTERRUPTED: u8 = 130;

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    end_with_the_reader();
    let matches = match commands::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { DONE } else { USAGE });
        }
    };
    match commands::dispatch(&matches) {
        Ok(()) => ExitCode::from(DONE),
        Err(error) => {
            eprintln!("{} {error}", output::paint(output::Style::Error, "error:"));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// A reader that has seen enough (`kdengine methods | head`) ends this program as it ends others, not with a panic.
fn end_with_the_reader() {
    // SAFETY: nothing else runs yet; it restores the signal's default action, which Rust changes at the start of a program.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL)
    };
}

fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Argument { .. } | Error::Config(_) => USAGE,
        Error::Interrupted(_) => INTERRUPTED,
        _ => FAILED,
    }
}
