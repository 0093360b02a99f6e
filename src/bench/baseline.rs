//! Comparing with a saved run.

use super::Measurement;
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A case now and in the saved run.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The median in the saved run.
    pub baseline_ms: f64,
    /// How much longer the median is now, in percent; negative if it is shorter.
    pub change_percent: f64,
}

impl Comparison {
    /// A measurement beside that of the saved run, if the case is there.
    pub fn new(now: &Measurement, baseline: &BTreeMap<(String, String), Measurement>) -> Option<Comparison> {
        let then = baseline.get(&(now.what.clone(), now.device.clone()))?;
        let change_percent = 100.0 * (now.median_ms / then.median_ms - 1.0);
        Some(Comparison { baseline_ms: then.median_ms, change_percent })
    }
}

/// Reads what `bench --json` printed, by case and device. Other lines of JSON, such as the limits, are passed over.
///
/// # Errors
/// The file cannot be read, a line is not JSON, or there is no measurement in it.
pub fn load_baseline(path: &Path) -> Result<BTreeMap<(String, String), Measurement>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let mut baseline = BTreeMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value: serde_json::Value = serde_json::from_str(line)
            .map_err(|e| Error::data(path, format!("line {} is not JSON ({e}); save `bench --json`", number + 1)))?;
        if let Ok(measurement) = serde_json::from_value::<Measurement>(value) {
            if measurement.median_ms > 0.0 {
                baseline.insert((measurement.what.clone(), measurement.device.clone()), measurement);
            }
        }
    }
    match baseline.is_empty() {
        true => Err(Error::data(path, "holds no measurement; save the output of `bench --json` there first")),
        false => Ok(baseline),
    }
}
