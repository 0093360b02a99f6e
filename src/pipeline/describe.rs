//! What a report says about the run as a whole: machine, data, settings.

use super::sides::Side;
use super::RunConfig;
use crate::machine;
use crate::report::{DataSummary, Summary};
use std::path::Path;

/// A summary in which nothing was found out yet.
pub(super) fn new_summary(command: &str, config: &RunConfig, student: &Side, out: &Path) -> Summary {
    Summary {
        command: command.to_string(),
        run: out.display().to_string(),
        environment: machine::facts(&config.device),
        config: config.to_toml(),
        data: DataSummary {
            name: student.test.name.clone(),
            train: student.train.len(),
            test: student.test.len(),
            classes: student.test.classes.clone(),
        },
        ..Summary::default()
    }
}
