//! The leaderboard as a table for the terminal and the page, and as CSV.

use super::super::statistics::{mean, standard_deviation};
use super::super::table::{aligned, Table};
use super::{Gain, Leaderboard, Part, Standing};
use std::fmt::Write;

/// Below this, a corrected p-value is called significant.
const SIGNIFICANT: f64 = 0.05;

/// The standings, best first.
pub(in super::super) fn standings(board: &Leaderboard) -> Table {
    let columns = [
        "",
        "method",
        "last epoch, %",
        "best epoch, %",
        "over labels",
        "p",
        "p (Holm)",
        "over hinton",
        "p",
        "p (Holm)",
        "agreement, %",
        "calibration error, %",
        "step",
        "peak memory",
    ];
    let row = |(place, row): (usize, &Standing)| {
        let mut cells = vec![(place + 1).to_string(), row.name.clone()];
        cells.push(spread(&row.values(|student| student.last)));
        cells.push(spread(&row.values(|student| student.best)));
        for gain in [&row.over_labels, &row.over_hinton] {
            cells.extend(gain_cells(gain.as_ref()));
        }
        cells.push(format!("{:.2}", mean(&row.values(|student| student.agreement))));
        cells.push(format!("{:.2}", mean(&row.values(|student| student.calibration_error))));
        cells.push(row.cost.map_or(String::new(), |cost| format!("{:.2}×", cost.relative)));
        cells.push(row.cost.map_or(String::new(), |cost| format!("{:.1} MB", cost.peak_bytes as f64 / 1e6)));
        cells
    };
    Table { columns: columns.map(String::from).to_vec(), rows: board.rows.iter().enumerate().map(row).collect() }
}

/// What could not be trained, and why.
pub(in super::super) fn refusals(board: &Leaderboard) -> Table {
    let rows = board.refused.iter().map(|refusal| vec![refusal.name.clone(), refusal.reason.clone()]);
    Table { columns: ["refused", "reason"].map(String::from).to_vec(), rows: rows.collect() }
}

/// How the table is to be read, and what it shows.
pub(in super::super) fn remarks(board: &Leaderboard) -> Vec<String> {
    let mut remarks = vec![
        "Accuracy of the test set, mean ± standard deviation over seeds. The best epoch was chosen on the test set itself: it \
         flatters every method and serves to compare with papers that report it. Gains are of the last epoch, in points, seed by seed."
            .to_string(),
        "Step: median time relative to a step on labels alone, timed in turn, with the teacher's answers at hand as in the run; peak \
         memory: beyond weights, optimiser, batch and those answers."
            .to_string(),
    ];
    if board.seeds < 2 {
        remarks.push("One seed cannot tell a gain from chance: repeat with --seeds 3 or more.".to_string());
        return remarks;
    }
    let comparisons = board.rows.iter().filter(|row| row.over_labels.is_some_and(|gain| gain.p.is_some())).count();
    remarks.push(format!(
        "p: paired t-test over {} seeds, of one comparison looked at alone; of {comparisons} methods that change nothing, {:.1} would \
         have p < 0.05 by chance. p (Holm) is corrected for all comparisons of its column: only that below 0.05 is evidence.",
        board.seeds,
        0.05 * comparisons as f64
    ));
    for (of, rival) in [(over_labels as fn(&Standing) -> Option<Gain>, "labels alone"), (over_hinton, "plain hinton")] {
        let proven = |better: bool| {
            let named = board.rows.iter().filter(|row| {
                of(row).is_some_and(|gain| gain.p_holm.is_some_and(|p| p < SIGNIFICANT) && (gain.mean > 0.0) == better)
            });
            let names: Vec<&str> = named.map(|row| row.name.as_str()).collect();
            if names.is_empty() {
                "none".to_string()
            } else {
                names.join(", ")
            }
        };
        remarks.push(format!("Better than {rival} after correction: {}; worse: {}.", proven(true), proven(false)));
    }
    remarks
}

fn over_labels(row: &Standing) -> Option<Gain> {
    row.over_labels
}

fn over_hinton(row: &Standing) -> Option<Gain> {
    row.over_hinton
}

/// The board for the terminal.
pub fn leaderboard_text(board: &Leaderboard) -> String {
    let mut text = aligned(&standings(board));
    if !board.refused.is_empty() {
        text += "\n";
        text += &aligned(&refusals(board));
    }
    for remark in remarks(board) {
        let _ = write!(text, "\n{remark}");
    }
    text
}

/// The board as CSV: a line for each entrant, every number in full; lists over seeds are separated by spaces.
pub fn leaderboard_csv(board: &Leaderboard) -> String {
    let mut csv = "place,method,training,part,seeds,last_mean,last_sd,best_mean,best_sd,gain_over_labels,p_over_labels,\
                   p_holm_over_labels,gain_over_hinton,p_over_hinton,p_holm_over_hinton,agreement,calibration_error,step_ms,\
                   step_relative,peak_bytes,last_by_seed,best_by_seed\n"
        .to_string();
    for (place, row) in board.rows.iter().enumerate() {
        let (last, best) = (row.values(|student| student.last), row.values(|student| student.best));
        let part = match row.part {
            Part::Labels => "labels",
            Part::Hinton => "hinton",
            Part::Entrant => "entrant",
        };
        let mut cells = vec![
            (place + 1).to_string(),
            quoted(&row.name),
            quoted(&row.training),
            part.to_string(),
            last.len().to_string(),
        ];
        for values in [&last, &best] {
            cells.push(mean(values).to_string());
            cells.push(optional(standard_deviation(values)));
        }
        for gain in [row.over_labels, row.over_hinton] {
            cells.push(optional(gain.map(|gain| gain.mean)));
            cells.push(optional(gain.and_then(|gain| gain.p)));
            cells.push(optional(gain.and_then(|gain| gain.p_holm)));
        }
        cells.push(mean(&row.values(|student| student.agreement)).to_string());
        cells.push(mean(&row.values(|student| student.calibration_error)).to_string());
        cells.push(optional(row.cost.map(|cost| cost.step_ms)));
        cells.push(optional(row.cost.map(|cost| cost.relative)));
        cells.push(row.cost.map_or(String::new(), |cost| cost.peak_bytes.to_string()));
        for values in [&last, &best] {
            cells.push(values.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
        }
        csv += &cells.join(",");
        csv.push('\n');
    }
    csv
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    }
}

fn optional(number: Option<f64>) -> String {
    number.map_or(String::new(), |number| number.to_string())
}

/// Mean ± standard deviation; the value alone where there is one.
fn spread(values: &[f64]) -> String {
    match standard_deviation(values) {
        Some(sd) => format!("{:.2} ± {sd:.2}", mean(values)),
        None => format!("{:.2}", mean(values)),
    }
}

/// The gain and both p-values.
fn gain_cells(gain: Option<&Gain>) -> [String; 3] {
    let chance = |p: Option<f64>| match p {
        None => String::new(),
        Some(p) if p < 0.001 => "<0.001".to_string(),
        Some(p) => format!("{p:.3}"),
    };
    match gain {
        None => ["–".to_string(), String::new(), String::new()],
        Some(gain) => [format!("{:+.2}", gain.mean), chance(gain.p), chance(gain.p_holm)],
    }
}
