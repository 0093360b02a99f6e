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
    let measurements =
        json_lines(path)?.into_iter().filter_map(|value| serde_json::from_value::<Measurement>(value).ok());
    let sound = measurements.filter(|measurement| measurement.median_ms > 0.0);
    let baseline: BTreeMap<_, _> =
        sound.map(|measurement| ((measurement.what.clone(), measurement.device.clone()), measurement)).collect();
    match baseline.is_empty() {
        true => Err(Error::data(path, "holds no measurement; save the output of `bench --json` there first")),
        false => Ok(baseline),
    }
}

/// Reads medians in milliseconds that another program printed for cases of the same names: lines of JSON with `what` and `median_ms`. Of
/// several for one case, the shortest counts. Other lines of JSON are passed over.
///
/// # Errors
/// The file cannot be read, a line is not JSON, or there is no such line.
pub fn load_peer(path: &Path) -> Result<BTreeMap<String, f64>> {
    let mut peer: BTreeMap<String, f64> = BTreeMap::new();
    for value in json_lines(path)? {
        let (Some(what), Some(ms)) = (value["what"].as_str(), value["median_ms"].as_f64()) else { continue };
        if ms > 0.0 {
            peer.entry(what.to_string()).and_modify(|best| *best = best.min(ms)).or_insert(ms);
        }
    }
    match peer.is_empty() {
        true => Err(Error::data(
            path,
            "holds no line with `what` and `median_ms`; save the other program's JSON lines there",
        )),
        false => Ok(peer),
    }
}

fn json_lines(path: &Path) -> Result<Vec<serde_json::Value>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|e| Error::data(path, format!("line {} is not JSON ({e}); save `bench --json`", number + 1)))
    };
    lines.map(parse).collect()
}
