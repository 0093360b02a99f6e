//! The notebook end to end: which jobs a run consists of, in which order, and how their results become a report.

mod ablation;
mod compare;
mod config;
mod describe;
mod methods;
pub mod options;
mod session;
mod sides;
mod soft_targets;
mod sweep;

pub use config::RunConfig;
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
}

impl Stages {
    /// Everything.
    pub const ALL: Stages = Stages { distil: true, baseline: true, sweep: true, ablation: true };
}

/// Runs the stages in order and writes the report. Returns its path.
pub fn run(session: &mut Session, stages: Stages) -> Result<PathBuf> {
    if stages.ablation && session.sides.other_task() {
        let reason =
            "the ablation compares answers, which are to another question than the teacher's; leave the ablation out \
                      (`kdengine compare`)";
        return Err(Error::argument("student-classes", reason));
    }
    let teacher = session.teacher()?;
    compare::compare(session, &teacher, stages)?;
    let mut report = session.write_report()?;
    if stages.sweep {
        sweep::sweep(session, &teacher)?;
    }
    if stages.ablation {
        ablation::ablate(session, &teacher)?;
    }
    if stages.sweep || stages.ablation {
        report = session.write_report()?;
    }
    Ok(report)
}
