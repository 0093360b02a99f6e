//! What architectures cost, each looked at once.

use super::budget::Budget;
use crate::error::{Error, Result};
use crate::models::{summarise_architecture, Model, Task};
use crate::report::ArchitectureCost;
use crate::tensor::io::write_atomically;
use crate::tensor::{Device, Rng};
use crate::train::single_latency;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The costs of architectures for one task.
pub(super) struct Prices {
    task: Task,
    stopwatch: Option<Stopwatch>,
    /// By name; `None` for those that cannot be built for the task.
    known: BTreeMap<String, Option<ArchitectureCost>>,
}

/// Measures latencies, and remembers them in the run's folder: measured again they would be others, and a resumed search would draw other
/// trials.
struct Stopwatch {
    device: Device,
    file: PathBuf,
    ms: BTreeMap<String, f64>,
}

impl Prices {
    /// Nothing is known yet, and latencies are not measured.
    pub(super) fn counted(task: Task) -> Prices {
        Prices { task, stopwatch: None, known: BTreeMap::new() }
    }

    /// The same with latencies on `device`, as far as a budget needs them; those of the run's folder are kept.
    ///
    /// # Errors
    /// The folder's file cannot be read.
    pub(super) fn measured(task: Task, device: Device, folder: &Path) -> Result<Prices> {
        let file = folder.join("latencies.json");
        let ms = match file.exists() {
            false => BTreeMap::new(),
            true => {
                let text = fs::read_to_string(&file).map_err(|e| Error::io("read", &file, e))?;
                let damaged = |e| Error::data(&file, format!("is damaged ({e}); restore it or start a new run"));
                serde_json::from_str(&text).map_err(damaged)?
            }
        };
        Ok(Prices { stopwatch: Some(Stopwatch { device, file, ms }), ..Prices::counted(task) })
    }

    /// What an architecture costs; `None` if it cannot be built for the task, which its training will explain. The latency is measured
    /// if the budget limits it and everything else is within it.
    ///
    /// # Errors
    /// It fails for another reason than the architecture, or the folder cannot be written.
    pub(super) fn of(&mut self, model: &str, budget: &Budget) -> Result<Option<ArchitectureCost>> {
        if let Some(known) = self.known.get(model) {
            return Ok(known.clone());
        }
        let cost = match count(model, self.task) {
            Ok(cost) => Some(cost),
            Err(Error::Argument { .. }) => None,
            Err(error) => return Err(error),
        };
        let cost = match (cost, &mut self.stopwatch) {
            (Some(cost), Some(stopwatch)) if budget.limits_latency() && budget.share(&cost) <= 1.0 => {
                Some(ArchitectureCost { latency_ms: Some(stopwatch.time(model, self.task)?), ..cost })
            }
            (cost, _) => cost,
        };
        self.known.insert(model.to_string(), cost.clone());
        Ok(cost)
    }
}

/// Parameters and operations.
fn count(model: &str, task: Task) -> Result<ArchitectureCost> {
    let summary = summarise_architecture(model, task)?;
    Ok(ArchitectureCost {
        model: summary.model,
        parameters: summary.parameters,
        flops: summary.flops,
        latency_ms: None,
    })
}

impl Stopwatch {
    /// The median time of a pass of one image, in milliseconds.
    fn time(&mut self, name: &str, task: Task) -> Result<f64> {
        if let Some(&ms) = self.ms.get(name) {
            return Ok(ms);
        }
        let model = Model::new(name, task, Rng::new(0, 0), self.device)?;
        let median = single_latency(&model, self.device)?.median_ms;
        // Four digits are more than a measurement is worth, and are read back as they were written.
        let ms = format!("{median:.3e}").parse().unwrap_or(median);
        self.ms.insert(name.to_string(), ms);
        let json = serde_json::to_vec_pretty(&self.ms).expect("names and numbers");
        write_atomically(&self.file, &json)?;
        Ok(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: Task = Task { input: [1, 8, 8], classes: 10 };

    #[test]
    fn latencies_are_measured_once_in_a_run_and_only_where_they_can_matter() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("latencies.json");
        let budget = Budget::parse("parameters=2000,latency-ms=1000").unwrap();
        let prices = || Prices::measured(TASK, Device::Cpu, folder.path()).unwrap();
        let mut first = prices();
        assert_eq!(
            first.of("mlp-64", &budget).unwrap().unwrap().latency_ms,
            None,
            "4,810 parameters are over the budget"
        );
        assert!(!file.exists());
        let measured = first.of("mlp-16", &budget).unwrap().unwrap();
        assert!(measured.latency_ms.unwrap() > 0.0);
        assert_eq!(prices().of("mlp-16", &budget).unwrap().unwrap(), measured);
        write_atomically(&file, br#"{"mlp-16": 123.4}"#).unwrap();
        assert_eq!(prices().of("mlp-16", &budget).unwrap().unwrap().latency_ms, Some(123.4), "as the folder has it");
        write_atomically(&file, b"{").unwrap();
        let error = Prices::measured(TASK, Device::Cpu, folder.path()).err().unwrap().to_string();
        assert!(error.contains("latencies.json") && error.contains("is damaged"), "{error}");
    }

    #[test]
    fn what_cannot_be_built_has_no_price() {
        let mut prices = Prices::counted(TASK);
        let mut of = |name| prices.of(name, &Budget::default()).unwrap().map(|cost| cost.parameters);
        assert_eq!(of("mlp-16"), Some(64 * 16 + 16 + 160 + 10));
        assert_eq!(of("cnn-4-4-4-4"), None, "16×16 pixels at least");
    }
}
