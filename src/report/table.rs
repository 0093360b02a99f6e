//! The results table, described once for the terminal and for the page.

use super::summary::{ModelResult, Role, Summary};
use super::{AccuracyRow, AccuracyTable};

/// A table: a heading for each column, and rows of cells.
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Teacher, distilled and baseline side by side: one column for each model, one row for each property.
pub(super) fn results(summary: &Summary) -> Table {
    let ms = |[median, p95]: [f64; 2]| format!("{median:.2} ms (p95 {p95:.2})");
    let megabytes = |bytes: f64| format!("{:.2} MB", bytes / 1e6);
    let row = |name: &str, cell: &dyn Fn(&ModelResult) -> String| {
        [name.to_string()].into_iter().chain(summary.models.iter().map(cell)).collect::<Vec<String>>()
    };
    let mut table = Table {
        columns: row("", &|m| m.role.name().to_string()),
        rows: vec![
            row("accuracy", &|m| accuracy(m, summary)),
            row("architecture", &|m| m.architecture.clone()),
            row("parameters", &|m| thousands(m.parameters as f64)),
            row("MFLOPs per image", &|m| format!("{:.1}", m.mflops)),
            row("latency, 1 image", &|m| ms(m.latency_b1_ms)),
            row("latency, 128 images", &|m| ms(m.latency_b128_ms)),
            row("throughput, images/s", &|m| thousands(m.images_per_second)),
            row("weights", &|m| megabytes(m.parameter_bytes as f64)),
            row("peak activations, 128 images", &|m| megabytes(m.peak_activation_bytes as f64)),
            row("file", &|m| megabytes(m.file_bytes as f64)),
            row("agreement with the teacher", &|m| format!("{:.2} %", m.agreement)),
            row("expected calibration error", &|m| format!("{:.2} %", m.calibration_error)),
        ],
    };
    let none = || "–".to_string();
    if summary.models.iter().any(|m| m.packed_bytes.is_some()) {
        let packed = |m: &ModelResult| m.packed_bytes.map_or_else(none, |bytes| megabytes(bytes as f64));
        table.rows.push(row("weights, packed", &packed));
    }
    if summary.models.iter().any(|m| m.sparsity.is_some()) {
        let zeros = |m: &ModelResult| m.sparsity.map_or_else(none, |share| format!("{share:.1} %"));
        table.rows.push(row("weights that are 0", &zeros));
    }
    table
}

/// The accuracy; over several seeds, mean ± standard deviation.
fn accuracy(model: &ModelResult, summary: &Summary) -> String {
    let over_seeds = summary.comparison.as_ref().and_then(|c| match model.role {
        Role::Teacher => None,
        Role::Distilled => Some(&c.distilled),
        Role::Baseline => Some(&c.baseline),
    });
    match over_seeds.and_then(|values| Some((super::mean(values), super::standard_deviation(values)?))) {
        Some((mean, sd)) => format!("{mean:.2} ± {sd:.2} %"),
        None => format!("{:.2} %", model.accuracy),
    }
}

/// The results for the terminal: the table, sweep and ablation below it in the distilled student's column, and the verdict.
pub fn results_text(summary: &Summary) -> String {
    let Table { columns, rows } = match summary.models.is_empty() {
        true => Table { columns: Vec::new(), rows: Vec::new() },
        false => results(summary),
    };
    let mut lines: Vec<Vec<String>> = [columns].into_iter().chain(rows).collect();
    let extras = summary.extras.tables.iter().filter(|table| table.columns.len() == 1);
    let mut add = |name: String, accuracy: f64| lines.push(vec![name, String::new(), format!("{accuracy:.2} %")]);
    summary.sweep.iter().for_each(|point| add(format!("sweep, T = {}", point.temperature), point.accuracy));
    summary.ablation.iter().for_each(|row| add(format!("ablation, {}", row.name), row.accuracy));
    for (table, row) in extras.flat_map(|table| table.rows.iter().map(move |row| (table, row))) {
        add(format!("{}, {}", table.title, row.label), row.accuracies[0]);
    }
    let mut text = align(&lines);
    if let Some(comparison) = &summary.comparison {
        text += &format!("\n{}\n({})\n", comparison.verdict, comparison.test);
    }
    if let Some(search) = &summary.search {
        text += &super::search::text(search);
    }
    if let Some(board) = &summary.leaderboard {
        text += &format!("\n{}\n", super::leaderboard_text(board));
    }
    // The first column has no heading: blanks at the beginning belong to the table.
    text.trim_start_matches('\n').trim_end().to_string()
}

/// Accuracies in percent, the rows' labels in the first column.
pub(super) fn accuracies(table: &AccuracyTable) -> Table {
    let cells = |row: &AccuracyRow| {
        let numbers = row.accuracies.iter().map(|accuracy| format!("{accuracy:.2} %"));
        [row.label.clone()].into_iter().chain(numbers).collect()
    };
    Table {
        columns: [String::new()].into_iter().chain(table.columns.iter().cloned()).collect(),
        rows: table.rows.iter().map(cells).collect(),
    }
}

/// Accuracies for the terminal.
pub fn accuracies_text(table: &AccuracyTable) -> String {
    aligned(&accuracies(table))
}

/// A table for the terminal.
pub(super) fn aligned(table: &Table) -> String {
    align(&[std::slice::from_ref(&table.columns), &table.rows[..]].concat())
}

/// Lines of cells, each column as wide as its widest cell.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |c: usize| lines.iter().filter_map(|line| line.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| {
            let padding = " ".repeat(width - cell.chars().count());
            format!("{cell}{padding}")
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A number rounded to a whole one, with thousands separators.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn digits_are_grouped() {
        let found = [1.0, 999.0, 1000.0, 1_554_954.4].map(thousands);
        assert_eq!(found, ["1", "999", "1,000", "1,554,954"]);
    }
}
