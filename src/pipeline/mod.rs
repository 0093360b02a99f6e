//! The notebook end to end: which jobs a run consists of, in which order, and how their results become a report.

mod ablation;
mod analysis;
mod clock;
mod compare;
mod config;
mod costs;
mod describe;
mod grid;
mod leaderboard;
mod methods;
pub mod options;
mod search;
mod session;
mod sides;
mod soft_targets;
mod sweep;

pub use config::RunConfig;
pub use costs::{for_each_method, Bench};
pub use session::Session;

use crate::error::{Error, Result};
use std::path::PathBuf;

/// Which parts of the notebook a command runs. The teacher is always there: trained, or read from a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Distil students.
    pub distil: bool,
    /// Train the same students on labels alone, and compare.
    pub baseline: bool,
    /// One student for each temperature.
    pub sweep: bool,
    /// Soft only, hard only, combined, and other weights.
    pub ablation: bool,
    /// Search for good settings and architectures, by images that nobody learns from.
    pub search: bool,
    /// What explains a distillation: layers, soft targets, attention, and studies that vary one thing.
    pub analysis: bool,
}

impl Stages {
    /// The whole notebook.
    pub const ALL: Stages =
        Stages { distil: true, baseline: true, sweep: true, ablation: true, search: false, analysis: false };
    /// The teacher alone.
    pub const NONE: Stages =
        Stages { distil: false, baseline: false, sweep: false, ablation: false, search: false, analysis: false };
}

/// Refuses a leaderboard or a search as a part of something else.
///
/// # Errors
/// The configuration names several methods or a grid, and the stages are neither of `compare` nor of `distill`; or it has a space to
/// search or a budget, and the stages are not of `search`, or the stages are and there is no space.
pub fn check_stages(config: &RunConfig, stages: Stages) -> Result<()> {
    if config.is_search() != stages.search {
        let reason = "belongs to `search`, which needs it: what to draw from, as in --space temperature=1..10";
        return Err(Error::argument("space", reason));
    }
    if config.budget.is_some() && !stages.search {
        return Err(Error::argument(
            "budget",
            "belongs to `search`: it limits the students that are tried; leave it out",
        ));
    }
    match config.is_leaderboard() && (!stages.distil || stages.sweep || stages.ablation) {
        true => Err(Error::argument("methods and grid", "belong to `compare` and `distill`; leave them out")),
        false => Ok(()),
    }
}

/// Runs the stages in order and writes the report. Returns its path.
pub fn run(session: &mut Session, stages: Stages) -> Result<PathBuf> {
    check_stages(&session.config, stages)?;
    if stages.ablation && session.sides.other_task() {
        let reason =
            "the ablation compares answers, which are to another question than the teacher's; leave the ablation out \
                      (`kdengine compare`)";
        return Err(Error::argument("student-classes", reason));
    }
    let search = stages.search.then(|| search::Search::prepare(session)).transpose()?;
    let teacher = session.teacher()?;
    if let Some(search) = search {
        return search.run(session, &teacher);
    }
    if session.config.is_leaderboard() {
        return leaderboard::run(session, &teacher);
    }
    if stages.analysis {
        return analysis::run(session, &teacher);
    }
    compare::compare(session, &teacher, stages)?;
    let mut report = session.write_report()?;
    if stages.sweep {
        sweep::sweep(session, &teacher)?;
    }
    if stages.ablation && session.config.ablation_epochs > 0 {
        ablation::ablate(session, &teacher)?;
    }
    if stages.sweep || stages.ablation {
        report = session.write_report()?;
    }
    Ok(report)
}
