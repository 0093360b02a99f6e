//! The leaderboard's plots: mean accuracy by epoch, and where the methods stand.

use super::super::chart::{LineChart, Mark, Series};
use super::super::intervals::{intervals, Interval};
use super::super::plots::Plot;
use super::super::statistics::{mean, standard_deviation, t_quantile_95};
use super::{Leaderboard, Part, Standing};

/// Curves in one chart, with those of labels alone and plain hinton: as many as there are colours.
const CURVES: usize = 6;
/// Characters that a legend has room for.
const LEGEND: usize = 92;

/// Every plot for which there are numbers.
pub(in super::super) fn all(board: &Leaderboard) -> Vec<Plot> {
    let mut plots = Vec::new();
    if board.rows.is_empty() {
        return plots;
    }
    plots.push(Plot {
        name: "leaderboard".to_string(),
        heading: "Where the methods stand".to_string(),
        svg: standings(board),
        remark: "Mean accuracy after the last epoch; lines are 95 % confidence intervals of the mean (Student's t), dots single seeds. \
                 Students of a seed are paired, so a gain can be significant although intervals overlap."
            .to_string(),
    });
    let reference = |row: &&Standing| row.part != Part::Entrant;
    let references: Vec<&Standing> = board.rows.iter().filter(reference).take(2).collect();
    let others: Vec<&Standing> =
        board.rows.iter().filter(|row| !references.iter().any(|r| r.name == row.name)).collect();
    for (i, chunk) in charts(&references, &others).into_iter().enumerate() {
        plots.push(Plot {
            name: format!("leaderboard-curves-{}", i + 1),
            heading: if i == 0 { "Accuracy by epoch".to_string() } else { String::new() },
            svg: curves(references.iter().chain(chunk.iter()).copied()),
            remark: String::new(),
        });
    }
    plots
}

/// Which entrants share a chart: as many as there are colours and room for names beside those of the references; at least one each.
fn charts<'a>(references: &[&Standing], others: &'a [&'a Standing]) -> Vec<&'a [&'a Standing]> {
    let room = |rows: &[&Standing]| rows.iter().map(|row| 6 + row.name.chars().count()).sum::<usize>();
    let mut charts = Vec::new();
    let mut left = others;
    while !left.is_empty() {
        let fits = |&n: &usize| references.len() + n <= CURVES && room(references) + room(&left[..n]) <= LEGEND;
        let count = (1..=left.len()).take_while(fits).last().unwrap_or(1);
        let (chart, rest) = left.split_at(count);
        charts.push(chart);
        left = rest;
    }
    match charts.is_empty() {
        true => vec![&[]],
        false => charts,
    }
}

fn curves<'a>(rows: impl Iterator<Item = &'a Standing>) -> String {
    let series = rows.map(|row| Series {
        name: row.name.clone(),
        points: row.curve.iter().enumerate().map(|(i, &accuracy)| ((i + 1) as f64, accuracy)).collect(),
        mark: if row.curve.len() > 1 { Mark::Line } else { Mark::Dots },
    });
    LineChart {
        title: "Mean accuracy by epoch",
        x_label: "epoch",
        y_label: "test accuracy, %",
        series: series.collect(),
        categorical_x: false,
        log_y: false,
    }
    .svg()
}

fn standings(board: &Leaderboard) -> String {
    let interval = |row: &Standing| {
        let values = row.values(|student| student.last);
        let half = standard_deviation(&values)
            .map_or(0.0, |sd| t_quantile_95(values.len() - 1) * sd / (values.len() as f64).sqrt());
        let middle = mean(&values);
        Interval {
            name: row.name.clone(),
            middle,
            low: middle - half,
            high: middle + half,
            points: values,
            highlight: row.part != Part::Entrant,
        }
    };
    let rows: Vec<Interval> = board.rows.iter().map(interval).collect();
    intervals("Accuracy after the last epoch, %", &rows)
}
