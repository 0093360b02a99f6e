//! What a search for settings found.

use super::architectures::{self, ArchitectureCost, Limit};
use super::chart::{LineChart, Mark, Series};
use super::plots::Plot;
use super::table::{aligned, Table};
use serde::{Deserialize, Serialize};

/// Trials, and which of them won.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// What the student learns from.
    pub method: String,
    /// `random` or `halving`.
    pub strategy: String,
    /// How many images the trials were judged by, none of which a student learned from.
    pub validation: usize,
    /// Whether the teacher came from a file: nobody knows whether it has seen those images.
    #[serde(default)]
    pub given_teacher: bool,
    /// The number of the trial that was best on them.
    pub winner: usize,
    /// The winner's accuracy on the test set, in percent; it had no part in the choice.
    pub test_accuracy: f64,
    /// What the student may cost; empty for no limit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budget: Vec<Limit>,
    /// What the student as it comes costs, if that is over the budget: then no trial has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_budget: Option<ArchitectureCost>,
    /// All trials in order.
    pub trials: Vec<Trial>,
}

/// One choice of settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// From 1.
    pub number: usize,
    /// `KEY=VALUE` with spaces between; empty for the settings as they come.
    pub settings: String,
    /// What the student costs to keep and to run; `None` if it cannot be built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<ArchitectureCost>,
    /// Each training, shortest first.
    pub rungs: Vec<Rung>,
    /// Why it could not be trained.
    pub failed: Option<String>,
}

/// One training of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// How long.
    pub epochs: usize,
    /// Accuracy on the validation images after the last epoch, in percent.
    pub accuracy: f64,
}

impl Trial {
    /// Of the longest training; NaN without any.
    pub fn accuracy(&self) -> f64 {
        self.rungs.last().map_or(f64::NAN, |rung| rung.accuracy)
    }
}

/// Trials by how far they came and how good they were.
pub(super) fn table(search: &SearchResult) -> Table {
    let mut trials: Vec<&Trial> = search.trials.iter().collect();
    let merit = |trial: &Trial| (trial.rungs.len(), trial.accuracy());
    trials.sort_by(|a, b| {
        let ((rungs_a, a_is), (rungs_b, b_is)) = (merit(a), merit(b));
        rungs_b.cmp(&rungs_a).then(b_is.total_cmp(&a_is)).then(a.number.cmp(&b.number))
    });
    let costs = architectures::matter(search);
    let row = |trial: &&Trial| {
        let settings = if trial.settings.is_empty() { "as they come" } else { &trial.settings };
        let accuracy = match &trial.failed {
            Some(reason) => format!("failed: {reason}"),
            None => format!("{:.2}", trial.accuracy()),
        };
        let epochs = trial.rungs.last().map_or(String::new(), |rung| rung.epochs.to_string());
        let cost = if costs { architectures::cells(search, trial) } else { Vec::new() };
        [vec![trial.number.to_string(), settings.to_string()], cost, vec![epochs, accuracy]].concat()
    };
    let cost = if costs { architectures::columns(search) } else { Vec::new() };
    let [setting, result] =
        [["trial", "settings"], ["epochs", "validation accuracy, %"]].map(|c| c.map(String::from).to_vec());
    Table { columns: [setting, cost, result].concat(), rows: trials.iter().map(row).collect() }
}

/// What came of it, in words.
pub(super) fn remark(search: &SearchResult) -> String {
    let unseen = match search.given_teacher {
        true => "which no student learned from (the teacher is from a file and may have)",
        false => "which neither the teacher nor any student learned from",
    };
    let cost =
        if architectures::matter(search) { format!(" {}", architectures::remark(search)) } else { String::new() };
    format!(
        "{} search for {}: trial {} is the best on {} validation images, {unseen}. On the test set, which had no part in the choice, it \
         reaches {:.2} %.{cost}",
        search.strategy, search.method, search.winner, search.validation, search.test_accuracy
    )
}

/// The search for the terminal.
pub(super) fn text(search: &SearchResult) -> String {
    format!("{}\n{}\n", aligned(&table(search)), remark(search))
}

/// Accuracy by trial, and the best so far.
pub(super) fn plot(search: &SearchResult) -> Plot {
    let points: Vec<(f64, f64)> = search.trials.iter().map(|t| (t.number as f64, t.accuracy())).collect();
    let mut best = f64::NEG_INFINITY;
    let best_so_far = points.iter().map(|&(number, accuracy)| {
        best = best.max(accuracy);
        (number, best)
    });
    let series = vec![
        Series { name: "trial".to_string(), points: points.clone(), mark: Mark::Dots },
        Series { name: "best so far".to_string(), points: best_so_far.collect(), mark: Mark::Line },
    ];
    let chart = LineChart {
        title: "Validation accuracy by trial",
        x_label: "trial",
        y_label: "validation accuracy, %",
        series,
        categorical_x: points.len() <= 20,
        log_y: false,
    };
    Plot {
        name: "search".to_string(),
        heading: "Trials".to_string(),
        svg: chart.svg(),
        remark: "Each trial after its longest training.".to_string(),
    }
}
