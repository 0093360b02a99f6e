//! The results table, described once for the terminal and for the page.

use super::summary::{ModelResult, Summary};

/// A table: a heading for each column, and rows of cells.
pub(super) struct Table {
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Teacher, distilled and baseline side by side.
pub(super) fn results(summary: &Summary) -> Table {
    let columns = vec![
        "model",
        "accuracy",
        "parameters",
        "MFLOPs",
        "latency, 1 image",
        "latency, 128",
        "images/s",
        "weights",
        "peak activations",
        "file",
        "agrees with teacher",
        "calibration error",
    ];
    Table { columns, rows: summary.models.iter().map(|model| row(model, summary)).collect() }
}

fn row(model: &ModelResult, summary: &Summary) -> Vec<String> {
    let ms = |[median, p95]: [f64; 2]| format!("{median:.2} ms (p95 {p95:.2})");
    vec![
        format!("{} ({})", model.role.name(), model.architecture),
        accuracy(model, summary),
        thousands(model.parameters as f64),
        format!("{:.1}", model.mflops),
        ms(model.latency_b1_ms),
        ms(model.latency_b128_ms),
        thousands(model.images_per_second),
        megabytes(model.parameter_bytes as f64),
        megabytes(model.peak_activation_bytes as f64),
        megabytes(model.file_bytes as f64),
        format!("{:.2} %", model.agreement),
        format!("{:.2} %", model.calibration_error),
    ]
}

/// The accuracy; over several seeds, mean ± standard deviation.
fn accuracy(model: &ModelResult, summary: &Summary) -> String {
    use super::summary::Role;
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

/// The results for the terminal: one line for each property, one column for each model.
pub fn results_text(summary: &Summary) -> String {
    let table = results(summary);
    let mut lines: Vec<Vec<String>> = (0..table.columns.len())
        .map(|c| {
            [table.columns[c].to_string()].into_iter().chain(table.rows.iter().map(|row| row[c].clone())).collect()
        })
        .collect();
    let blank = |name: &str| vec![name.to_string(); 1];
    for point in &summary.sweep {
        let name = format!("sweep, T = {}", point.temperature);
        lines.push(vec![name, String::new(), format!("{:.2} %", point.accuracy)]);
    }
    for row in &summary.ablation {
        let mut line = blank(&format!("ablation, {}", row.name));
        line.extend([String::new(), format!("{:.2} %", row.accuracy)]);
        lines.push(line);
    }
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |c: usize| lines.iter().filter_map(|line| line.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| {
            let padding = " ".repeat(width - cell.chars().count());
            format!("{cell}{padding}")
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    if let Some(comparison) = &summary.comparison {
        text += &format!("\n{}\n({})\n", comparison.verdict, comparison.test);
    }
    text.trim_end().to_string()
}

/// A number rounded to a whole one, with thousands separators.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn megabytes(bytes: f64) -> String {
    format!("{:.2} MB", bytes / 1e6)
}
