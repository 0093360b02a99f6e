//! A comparison as a page.

use super::{Comparison, Plan};
use crate::data::Dataset;
use crate::error::Result;
use crate::machine;
use crate::models::Model;
use crate::report::{self, AccuracyTable, Captioned, DataSummary, Extras, Gallery, Heatmap, Summary};
use std::path::{Path, PathBuf};

impl Comparison {
    /// The accuracies: a row for each condition and one for their mean, a column for each method.
    pub fn table(&self) -> AccuracyTable {
        let methods: Vec<&str> =
            self.rows.first().map_or(Vec::new(), |row| row.outcomes.iter().map(|o| o.method).collect());
        let mut table = AccuracyTable::new("Accuracy on corrupted images", &methods);
        self.rows.iter().for_each(|row| table.row(row.label(), &row.accuracies()));
        if let Some(mean) = self.mean() {
            table.row("mean of the corrupted", &mean);
        }
        table
    }
}

/// Writes `summary.json` and `report.html` into a folder, and returns the page's path.
///
/// # Errors
/// The folder cannot be written.
pub fn write_report(found: &Comparison, model: &Model, test: &Dataset, plan: &Plan, folder: &Path) -> Result<PathBuf> {
    let table = found.table();
    let heatmap = Heatmap {
        name: "adaptation".to_string(),
        title: format!("Share of right answers of {}", model.name()),
        remark: "Rows are corruptions with their severity, columns methods. Each answer was given before its batch was learned from."
            .to_string(),
        rows: table.rows.iter().map(|row| row.label.clone()).collect(),
        columns: table.columns.clone(),
        values: table.rows.iter().map(|row| row.accuracies.iter().map(|percent| percent / 100.0).collect()).collect(),
    };
    let pictures = found.rows.iter().map(|row| Captioned { picture: row.picture.clone(), caption: row.label() });
    let gallery = Gallery {
        title: "What was done to the images".to_string(),
        about: "The first test image under each condition.".to_string(),
        pictures: pictures.collect(),
    };
    let summary = Summary {
        command: "adapt".to_string(),
        run: folder.display().to_string(),
        environment: machine::facts(&plan.device.to_string()),
        config: describe(model, plan),
        data: DataSummary { name: test.name.clone(), train: 0, test: test.len(), classes: test.classes.clone() },
        heatmaps: vec![heatmap],
        extras: Extras { tables: vec![table], galleries: vec![gallery], notes: Vec::new() },
        ..Summary::default()
    };
    report::write(folder, &summary)
}

/// Every value that the comparison used, as TOML.
fn describe(model: &Model, plan: &Plan) -> String {
    let settings = &plan.settings;
    format!(
        "model = \"{}\"\nbatch-size = {}\nlr = {}\nsteps = {}\nsource-images = {}\nema = {}\nrestore = {}\nviews = {}\nconfidence = {}\nseed = {}\ncontinual = {}\n",
        model.name(),
        plan.batch,
        settings.lr,
        settings.steps,
        settings.source_images,
        settings.momentum,
        settings.restore,
        settings.views,
        settings.confidence,
        settings.seed,
        plan.continual
    )
}
