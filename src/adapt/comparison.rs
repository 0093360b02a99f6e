//! Several methods before several kinds of corrupted images.

use super::{Adapter, MethodInfo, Settings};
use crate::data::corrupt::{corruption, Corruption, CORRUPTIONS};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::report::Picture;
use crate::tensor::Device;
use crate::train::{evaluate_with, interrupt, Evaluation, Progress};
use serde::Serialize;
use std::time::Instant;

/// A corruption with its severity.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// What is done to the images.
    pub corruption: &'static Corruption,
    /// From 1 to 5.
    pub severity: usize,
}

/// The severity where none is named: the hardest, at which the papers report.
const SEVERITY: usize = 5;

impl Condition {
    /// The conditions of a list `NAME[:SEVERITY],…`; `all` stands for every corruption.
    ///
    /// # Errors
    /// An unknown name, or a severity that is not 1 to 5.
    pub fn list(text: &str) -> Result<Vec<Condition>> {
        let mut conditions = Vec::new();
        for item in text.split(',').map(str::trim) {
            let (name, severity) = item.split_once(':').unwrap_or((item, ""));
            let severity = match severity {
                "" if !item.contains(':') => SEVERITY,
                number => number.parse().ok().filter(|number| (1..=5).contains(number)).ok_or_else(|| {
                    let reason = format!("`{item}`: the severity is 1 to 5, as in gaussian-noise:3");
                    Error::argument("corrupt", reason)
                })?,
            };
            match name {
                "all" => conditions.extend(CORRUPTIONS.iter().map(|corruption| Condition { corruption, severity })),
                name => conditions.push(Condition { corruption: corruption(name)?, severity }),
            }
        }
        Ok(conditions)
    }
}

/// What is compared.
pub struct Plan {
    /// The corruptions in order.
    pub conditions: Vec<Condition>,
    /// The methods in order.
    pub methods: Vec<&'static MethodInfo>,
    /// What the methods are told.
    pub settings: Settings,
    /// Images in a batch.
    pub batch: usize,
    /// Where the images are computed.
    pub device: Device,
    /// Whether a method goes on from one corruption to the next instead of starting from the model again (CoTTA's setting).
    pub continual: bool,
}

/// What came of a method under one condition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The method.
    pub method: &'static str,
    /// Percent of the images classified correctly.
    pub accuracy: f64,
    /// The rest.
    pub error: f64,
    /// Expected calibration error in percent.
    pub calibration_error: f64,
}

/// One condition.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The corruption's name; `clean` for the images as they are.
    pub corruption: &'static str,
    /// From 1 to 5; 0 for clean images.
    pub severity: usize,
    /// One for each method, in order.
    pub outcomes: Vec<Outcome>,
    /// The first image.
    #[serde(skip)]
    pub picture: Picture,
}

impl Row {
    /// `gaussian-noise:5`, or `clean`.
    pub fn label(&self) -> String {
        match self.severity {
            0 => self.corruption.to_string(),
            severity => format!("{}:{severity}", self.corruption),
        }
    }

    /// Percent of the images that each method classified correctly.
    pub fn accuracies(&self) -> Vec<f64> {
        self.outcomes.iter().map(|outcome| outcome.accuracy).collect()
    }
}

/// What was found out so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// Clean images first, then the conditions in order.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// The mean accuracy of each method over the corruptions; `None` before there are two.
    pub fn mean(&self) -> Option<Vec<f64>> {
        let corrupted: Vec<Vec<f64>> = self.rows.iter().filter(|row| row.severity > 0).map(Row::accuracies).collect();
        let mean = |method: usize| corrupted.iter().map(|row| row[method]).sum::<f64>() / corrupted.len() as f64;
        (corrupted.len() > 1).then(|| (0..corrupted[0].len()).map(mean).collect())
    }
}

/// Adapts a copy of `model` by each method to the test images as they are and under each condition, and adds a row to `found` for each;
/// `finished` is told after every row. Clean images are always met by a fresh copy.
///
/// # Errors
/// The batches are empty; a method does not fit the model; an answer is not finite; or the user interrupts, and `found` has what was
/// finished.
pub fn compare(
    model: &Model,
    test: &Dataset,
    plan: &Plan,
    found: &mut Comparison,
    progress: &mut dyn Progress,
    finished: &mut dyn FnMut(&Comparison) -> Result<()>,
) -> Result<()> {
    if plan.batch == 0 || plan.methods.is_empty() || plan.conditions.is_empty() {
        return Err(Error::argument("adapt", "needs a method, a corruption and batches of at least one image"));
    }
    let fresh = || plan.methods.iter().map(|method| method.adapter(model, &plan.settings)).collect::<Result<Vec<_>>>();
    let conditions: Vec<Option<&Condition>> = std::iter::once(None).chain(plan.conditions.iter().map(Some)).collect();
    let total = conditions.len() * plan.methods.len() * test.len().div_ceil(plan.batch);
    let (mut done, start) = (0, Instant::now());
    let mut adapters = fresh()?;
    for (number, condition) in conditions.iter().enumerate() {
        if number <= 1 || !plan.continual {
            adapters = fresh()?;
        }
        let (name, severity) = condition.map_or(("clean", 0), |c| (c.corruption.name, c.severity));
        let corrupted = condition.map(|c| c.corruption.of(test, c.severity, plan.settings.seed)).transpose()?;
        let images = corrupted.as_ref().unwrap_or(test);
        let mut row = Row { corruption: name, severity, outcomes: Vec::new(), picture: Picture::of(images, 0) };
        for (method, adapter) in plan.methods.iter().zip(&mut adapters) {
            let what = format!("{}, {}", row.label(), method.name);
            let answers = online(adapter.as_mut(), images, plan, &what, &mut || {
                done += 1;
                progress.advanced(&what, done as u64, total as u64);
            })?;
            let accuracy = answers.accuracy();
            row.outcomes.push(Outcome {
                method: method.name,
                accuracy,
                error: 100.0 - accuracy,
                calibration_error: answers.calibration_error(),
            });
        }
        let left = start.elapsed().as_secs_f64() / done as f64 * (total - done) as f64;
        progress.stage(&line(&row, left));
        found.rows.push(row);
        finished(found)?;
    }
    Ok(())
}

/// A row for whoever waits, with the seconds that the others will take.
fn line(row: &Row, left: f64) -> String {
    let accuracies = row.outcomes.iter().map(|outcome| format!("{} {:.2} %", outcome.method, outcome.accuracy));
    let accuracies = accuracies.collect::<Vec<_>>().join(", ");
    let left = if left >= 1.0 { format!("; {left:.0} s left") } else { String::new() };
    format!("{}: {accuracies}{left}", row.label())
}

/// The answers of an adapter to a stream of images.
fn online(
    adapter: &mut dyn Adapter,
    images: &Dataset,
    plan: &Plan,
    what: &str,
    after_batch: &mut dyn FnMut(),
) -> Result<Evaluation> {
    evaluate_with(images, plan.batch, plan.device, &mut |batch| {
        if interrupt::requested() {
            return Err(Error::Interrupted(format!("stopped at {what}; start again to finish the comparison")));
        }
        let logits = adapter.answer(batch)?;
        if !logits.is_finite()? {
            return Err(Error::NonFinite(format!("{what}: an answer is not finite; lower --lr")));
        }
        after_batch();
        logits.to_vec::<f32>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_corruptions_and_severities() {
        let labels = |text: &str| -> Vec<(&str, usize)> {
            Condition::list(text).unwrap().iter().map(|c| (c.corruption.name, c.severity)).collect()
        };
        assert_eq!(labels("contrast:2, stripe"), [("contrast", 2), ("stripe", 5)]);
        let all: Vec<(&str, usize)> = CORRUPTIONS.iter().map(|corruption| (corruption.name, 3)).collect();
        assert_eq!(labels("all:3"), all);
        for text in ["contrast:0", "contrast:six", "contrast:", "", "contrast,"] {
            assert!(Condition::list(text).is_err(), "{text}");
        }
    }
}
