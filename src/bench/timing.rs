//! Timing a case.

use super::{Case, Limits};
use crate::backend;
use crate::error::Result;
use crate::tensor::Device;
use crate::train::quantile;
use serde::{Deserialize, Serialize};

/// The time of one case, and how close it comes to what the machine could do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// The case's name.
    pub what: String,
    /// Where it ran.
    pub device: String,
    /// Milliseconds a run: the median,
    pub median_ms: f64,
    /// the tenth percentile,
    pub p10_ms: f64,
    /// the ninetieth,
    pub p90_ms: f64,
    /// and the shortest.
    pub min_ms: f64,
    /// Runs that were timed.
    pub n: usize,
    /// How fast the median run was, where the case's cost is known.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// A speed, and the limit that it comes up against.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// Floating-point operations a second, in 10⁹.
    pub gflops: f64,
    /// Bytes a second, in 10⁹, if every operand moves once.
    pub gbytes: f64,
    /// What comes first, the arithmetic or the memory.
    pub limit: Limit,
    /// The time that the limit allows, as a percentage of the time taken.
    pub percent_of_limit: f64,
}

/// What a case cannot be faster than.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// The arithmetic units.
    Compute,
    /// The memory.
    Memory,
}

/// Times a case: a warm-up, then single runs, each behind an emptied cache where the device has a way to do that. `runs` is how many,
/// if not as many as the case wants.
pub fn measure(case: Case, device: Device, limits: &Limits, runs: Option<usize>) -> Result<Measurement> {
    let (what, cost, runs) = (case.what.clone(), case.cost, runs.unwrap_or(case.runs).max(1));
    let backend = backend::of(device);
    let mut work = case.prepare()?;
    for _ in 0..runs.div_ceil(6) {
        work()?;
    }
    let mut ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        backend.empty_cache()?;
        ms.push(1e3 * backend.time(&mut work)?);
    }
    let [min_ms, p10_ms, median_ms, p90_ms] = [0, 10, 50, 90].map(|percent| quantile(&mut ms, percent));
    let rate = (cost.flops > 0.0 || cost.bytes > 0.0).then(|| limits.rate(cost, median_ms / 1e3));
    Ok(Measurement { what, device: device.to_string(), median_ms, p10_ms, p90_ms, min_ms, n: runs, rate })
}
