//! What a run found out, as a table, as plots, and as a page that opens in any browser.

mod architectures;
mod chart;
mod extras;
mod heatmap;
mod html;
mod intervals;
mod leaderboard;
mod plots;
mod search;
mod statistics;
mod summary;
mod table;
mod words;

pub use architectures::{ArchitectureCost, Limit, Quantity};
pub use extras::{AccuracyRow, AccuracyTable, Captioned, Extras, Gallery};
pub use heatmap::Heatmap;
pub use leaderboard::{leaderboard_csv, leaderboard_text, Cost, Gain, Leaderboard, Part, Refusal, Score, Standing};
pub use search::{Rung, SearchResult, Trial};
pub use statistics::{holm, mcnemar, mean, paired_t_test, standard_deviation, t_quantile_95};
pub use summary::*;
pub use table::{accuracies_text, results_text, thousands};
pub use words::{spread, verdict};

use crate::error::{Error, Result};
use crate::tensor::io::write_atomically;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes `summary.json`, `report.html`, `plots/*.svg` and, if there is a leaderboard, `leaderboard.csv` into a run's folder, and returns the page's path.
///
/// # Errors
/// The folder cannot be written.
pub fn write(folder: &Path, summary: &Summary) -> Result<PathBuf> {
    let json = serde_json::to_vec_pretty(summary).expect("plain values");
    write_atomically(&folder.join("summary.json"), &json)?;
    if let Some(board) = &summary.leaderboard {
        write_atomically(&folder.join("leaderboard.csv"), leaderboard_csv(board).as_bytes())?;
    }
    let plots = plots::all(summary);
    let plots_folder = folder.join("plots");
    fs::create_dir_all(&plots_folder).map_err(|e| Error::io("create the folder", &plots_folder, e))?;
    for plot in &plots {
        write_atomically(&plots_folder.join(format!("{}.svg", plot.name)), plot.standalone().as_bytes())?;
    }
    let page = folder.join("report.html");
    write_atomically(&page, html::page(summary, &plots).as_bytes())?;
    Ok(page)
}

/// The command that wrote the report in a run's folder, if there is a readable one.
pub fn command_of(folder: &Path) -> Option<String> {
    let summary: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("summary.json")).ok()?).ok()?;
    Some(summary.get("command")?.as_str()?.to_string())
}

#[cfg(test)]
mod tests;
