//! Which plots a summary has.

use super::chart::{columns, confusion, Column, LineChart, Mark, Series};
use super::summary::{LossPoint, Role, Summary};
use super::words::spread;
use std::collections::BTreeSet;

/// Steps over which the loss is averaged.
const WINDOW: usize = 50;
/// More raw points than this are thinned out for drawing: lowest and highest of each stretch are kept.
const DRAWN: usize = 1500;

/// A plot and what it is called.
pub(super) struct Plot {
    /// The file's name, without `.svg`.
    pub(super) name: String,
    /// Over the plot on the page.
    pub(super) heading: String,
    /// The picture; its colours come from the page's style sheet.
    pub(super) svg: String,
    /// What it shows, in words.
    pub(super) remark: String,
}

/// Colours of text and lines, for light and dark ground.
pub(super) const STYLE: &str = "svg text{font-family:system-ui,sans-serif;fill:#24292f}\
svg .tick{font-size:12px;fill:#57606a}svg .label{font-size:13px}svg .count{font-size:10px}\
svg .grid{stroke:#8c959f;stroke-opacity:.25}svg .cell{stroke:#8c959f;stroke-opacity:.25}\
@media(prefers-color-scheme:dark){svg text{fill:#e6edf3}svg .tick{fill:#9ea7b3}}";

impl Plot {
    /// The picture as a file of its own.
    pub(super) fn standalone(&self) -> String {
        let end_of_title = self.svg.find("</title>").map_or(0, |at| at + "</title>".len());
        let (head, rest) = self.svg.split_at(end_of_title);
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{head}<style>{STYLE}</style>{rest}\n")
    }
}

/// Every plot for which there are numbers, in the order of the page.
pub(super) fn all(summary: &Summary) -> Vec<Plot> {
    let mut plots = summary.leaderboard.as_ref().map_or(Vec::new(), super::leaderboard::plots);
    plots.extend(summary.search.as_ref().map(super::search::plot));
    plots.extend(summary.search.iter().flat_map(super::architectures::plots));
    plots.extend(summary.heatmaps.iter().map(super::heatmap::plot));
    let mut add = |name: &str, heading: &str, svg: String, remark: &str| {
        plots.push(Plot { name: name.to_string(), heading: heading.to_string(), svg, remark: remark.to_string() });
    };
    if !summary.distillation.is_empty() {
        add("distillation-loss", "Distillation loss", distillation_loss(&summary.distillation), "");
        add("loss-terms", "Terms of the loss", loss_terms(&summary.distillation), "");
    }
    if summary.models.iter().any(|m| !m.history.is_empty()) {
        add("accuracy", "Accuracy per epoch", accuracy_per_epoch(summary), "");
    }
    if !summary.sweep.is_empty() {
        let accuracies: Vec<f64> = summary.sweep.iter().map(|p| p.accuracy).collect();
        let remark = spread("temperatures", &accuracies, summary.data.test);
        add("temperature", "Effect of the temperature", temperature(summary), &remark);
    }
    if !summary.ablation.is_empty() {
        let values: Vec<_> = summary.ablation.iter().map(|row| (row.name.clone(), row.accuracy)).collect();
        let accuracies: Vec<f64> = values.iter().map(|v| v.1).collect();
        let remark = spread("losses", &accuracies, summary.data.test);
        let svg = columns("Accuracy by what is learned from, %", &values, [760.0, 300.0], Column::Dot);
        add("ablation", "Soft targets, labels, both", svg, &remark);
    }
    for (i, target) in summary.soft_targets.iter().enumerate() {
        for (t, distribution) in &target.distributions {
            let values: Vec<_> = summary.data.classes.iter().cloned().zip(distribution.iter().copied()).collect();
            let label = summary.data.classes.get(target.label).map_or("?", String::as_str);
            let title = format!("T = {t} (label: {label})");
            let svg = columns(&title, &values, [330.0, 210.0], Column::Bar);
            add(&format!("soft-targets-{}-t{t}", i + 1), "", svg, "");
        }
    }
    for model in &summary.models {
        let name = model.role.name();
        add(
            &format!("confusion-{name}"),
            "",
            confusion(&format!("{name}, {:.2} %", model.accuracy), &model.confusion, &summary.data.classes),
            "",
        );
    }
    plots
}

fn distillation_loss(points: &[LossPoint]) -> String {
    let raw: Vec<(f64, f64)> = points.iter().map(|p| (p.step as f64, p.total)).collect();
    let series = vec![
        Series { name: "each step".to_string(), points: thin(&raw), mark: Mark::Faint },
        Series { name: format!("moving average of {WINDOW}"), points: thin(&moving_average(&raw)), mark: Mark::Line },
    ];
    LineChart {
        title: "Distillation loss",
        x_label: "step",
        y_label: "loss",
        series,
        categorical_x: false,
        log_y: true,
    }
    .svg()
}

fn loss_terms(points: &[LossPoint]) -> String {
    let label = |name: &str| match name {
        "hard" => "hard: cross-entropy".to_string(),
        "soft" => "soft: T² · KL".to_string(),
        other => other.to_string(),
    };
    let names: BTreeSet<&String> = points.iter().flat_map(|p| p.terms.keys()).collect();
    let series = names.into_iter().map(|name| {
        let raw: Vec<(f64, f64)> =
            points.iter().filter_map(|p| Some((p.step as f64, p.terms.get(name).copied()?))).collect();
        Series { name: label(name), points: thin(&moving_average(&raw)), mark: Mark::Line }
    });
    let series = series.collect();
    LineChart {
        title: "Terms of the distillation loss",
        x_label: "step",
        y_label: "moving average",
        series,
        categorical_x: false,
        log_y: true,
    }
    .svg()
}

fn accuracy_per_epoch(summary: &Summary) -> String {
    let trained = summary.models.iter().filter(|m| !m.history.is_empty());
    let series = trained.map(|m| Series {
        name: m.role.name().to_string(),
        points: m.history.iter().enumerate().map(|(i, &accuracy)| ((i + 1) as f64, accuracy)).collect(),
        mark: Mark::Dots,
    });
    let series: Vec<Series> = series.collect();
    // A tick at every epoch, as long as there is room for them.
    let longest = series.iter().map(|s| s.points.len()).max().unwrap_or(0);
    LineChart {
        title: "Accuracy per epoch",
        x_label: "epoch",
        y_label: "test accuracy, %",
        series,
        categorical_x: longest <= 20,
        log_y: false,
    }
    .svg()
}

fn temperature(summary: &Summary) -> String {
    let points = summary.sweep.iter().map(|p| (p.temperature, p.accuracy)).collect();
    let mut series = vec![Series { name: "distilled".to_string(), points, mark: Mark::Dots }];
    for model in summary.models.iter().filter(|m| m.role != Role::Distilled) {
        let name = format!("{} ({} epochs)", model.role.name(), model.history.len());
        let name = if model.history.is_empty() { model.role.name().to_string() } else { name };
        series.push(Series { name, points: vec![(f64::NAN, model.accuracy)], mark: Mark::Reference });
    }
    // The height of a reference line counts for the range; its place along x does not.
    for s in series.iter_mut().filter(|s| s.mark == Mark::Reference) {
        s.points[0].0 = summary.sweep[0].temperature;
    }
    LineChart {
        title: "Accuracy by temperature",
        x_label: "temperature",
        y_label: "test accuracy, %",
        series,
        categorical_x: true,
        log_y: false,
    }
    .svg()
}

/// The mean of each window, at the window's last step.
fn moving_average(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let window = WINDOW.min(points.len());
    points
        .windows(window.max(1))
        .map(|w| (w[w.len() - 1].0, w.iter().map(|p| p.1).sum::<f64>() / w.len() as f64))
        .collect()
}

/// At most about [`DRAWN`] points: the lowest and the highest of each stretch.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= DRAWN {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(DRAWN / 2);
    let extremes = points.chunks(stretch).flat_map(|chunk| {
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let mut pair = [*chunk.iter().min_by(by).expect("not empty"), *chunk.iter().max_by(by).expect("not empty")];
        pair.sort_by(|a, b| a.0.total_cmp(&b.0));
        pair
    });
    extremes.collect()
}
