//! What a report says about the run as a whole: machine, data, settings.

use super::sides::Side;
use super::RunConfig;
use crate::machine;
use crate::report::{DataSummary, Summary};
use std::collections::BTreeMap;
use std::path::Path;

/// A summary in which nothing was found out yet.
pub(super) fn new_summary(command: &str, config: &RunConfig, student: &Side, out: &Path) -> Summary {
    let threads = rayon::current_num_threads();
    let facts = [
        ("version", concat!("kdengine ", env!("CARGO_PKG_VERSION")).to_string()),
        ("processor", machine::processor()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("device", config.device.clone()),
        ("precision", config.precision.clone()),
        ("threads", threads.to_string()),
        ("command line", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
    ];
    Summary {
        command: command.to_string(),
        run: out.display().to_string(),
        environment: facts.into_iter().map(|(key, value)| (key.to_string(), value)).collect::<BTreeMap<_, _>>(),
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
