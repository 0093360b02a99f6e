//! `summary.json`: everything that a run found out. The report is made from it, and other tools can read it.

use super::heatmap::Heatmap;
use super::leaderboard::Leaderboard;
use super::search::SearchResult;
use super::Extras;
use crate::data::Dataset;
use crate::distill::Scheduled;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a run found out. Parts of the notebook that a command did not run are empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The command that made it.
    pub command: String,
    /// The run's folder.
    pub run: String,
    /// Version, machine, wall time.
    pub environment: BTreeMap<String, String>,
    /// Every value that the run used, as TOML.
    pub config: String,
    /// What was learned from.
    pub data: DataSummary,
    /// The models that are compared.
    pub models: Vec<ModelResult>,
    /// Distilled against baseline.
    pub comparison: Option<Comparison>,
    /// Many methods side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaderboard: Option<Leaderboard>,
    /// A search for settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchResult>,
    /// The first distilled student's loss, every step.
    pub distillation: Vec<LossPoint>,
    /// Matrices: which layers are alike, which classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heatmaps: Vec<Heatmap>,
    /// Accuracy by temperature.
    pub sweep: Vec<SweepPoint>,
    /// What the loss's terms are worth.
    pub ablation: Vec<AblationRow>,
    /// What the teacher says about some test images.
    pub soft_targets: Vec<SoftTarget>,
    /// What a recipe found out besides its student.
    pub extras: Extras,
    /// Test images that the distilled student gets right and the baseline does not.
    pub improved: Vec<ChangedSample>,
    /// Test images that the baseline gets right and the distilled student does not.
    pub hurt: Vec<ChangedSample>,
}

/// What was learned from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DataSummary {
    /// The data set's name.
    pub name: String,
    /// Images that students learn from.
    pub train: usize,
    /// Images that models are judged by.
    pub test: usize,
    /// The classes' names.
    pub classes: Vec<String>,
}

/// What a model is in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The big one.
    Teacher,
    /// The small one, taught.
    Distilled,
    /// The small one, on labels alone.
    Baseline,
}

impl Role {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Role::Teacher => "teacher",
            Role::Distilled => "distilled",
            Role::Baseline => "baseline",
        }
    }
}

/// One model of the comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelResult {
    /// What it is in the comparison.
    pub role: Role,
    /// Its architecture.
    pub architecture: String,
    /// Trainable values.
    pub parameters: usize,
    /// Millions of floating-point operations for one image.
    pub mflops: f64,
    /// Percent of the test set classified correctly, of the first seed's model.
    pub accuracy: f64,
    /// Test accuracy after each epoch, in percent.
    pub history: Vec<f64>,
    /// Milliseconds for one image: median and 95th percentile.
    pub latency_b1_ms: [f64; 2],
    /// Milliseconds for 128 images: median and 95th percentile.
    pub latency_b128_ms: [f64; 2],
    /// Images per second at batch 128.
    pub images_per_second: f64,
    /// Bytes of the weights.
    pub parameter_bytes: usize,
    /// The most bytes that a pass over 128 images needs besides the weights and the images.
    pub peak_activation_bytes: usize,
    /// Bytes of the weights if quantised ones were packed; absent where none are quantised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed_bytes: Option<usize>,
    /// Percent of the weights that are 0; absent where none are pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// Bytes of the model's file.
    pub file_bytes: u64,
    /// Percent of test images on which it says what the teacher says.
    pub agreement: f64,
    /// Expected calibration error in percent.
    pub calibration_error: f64,
    /// Counts by true class (row) and predicted class (column).
    pub confusion: Vec<Vec<u64>>,
}

/// Distilled against baseline students.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Accuracy of the distilled students in percent, one for each seed.
    pub distilled: Vec<f64>,
    /// Accuracy of the baseline students in percent, one for each seed.
    pub baseline: Vec<f64>,
    /// Mean difference in points.
    pub gain: f64,
    /// Standard deviation of the difference over seeds; absent for one seed.
    pub gain_sd: Option<f64>,
    /// How likely so large a difference is by chance.
    pub p_value: f64,
    /// The test that says so.
    pub test: String,
    /// What it means, in words.
    pub verdict: String,
}

/// One step of a distillation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LossPoint {
    /// The step, from 1.
    pub step: u64,
    /// The weighted sum.
    pub total: f64,
    /// The unweighted terms by name; `hard` is the cross-entropy with the labels, `soft` T² · KL from the teacher.
    pub terms: BTreeMap<String, f64>,
}

/// One temperature of the sweep.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SweepPoint {
    /// T.
    pub temperature: f64,
    /// Accuracy in percent.
    pub accuracy: f64,
}

/// One row of the ablation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AblationRow {
    /// What is learned from.
    pub name: String,
    /// Weight of the labels.
    pub hard_weight: Scheduled,
    /// Weight of the teacher.
    pub soft_weight: Scheduled,
    /// Accuracy in percent.
    pub accuracy: f64,
}

/// An image for the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// 1 for grey, 3 for red, green, blue (one plane after another).
    pub channels: usize,
    /// Bytes, `[channels, height, width]`.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// One image of a data set.
    pub fn of(data: &Dataset, index: usize) -> Picture {
        Picture { size: [data.height, data.width], channels: data.channels, pixels: data.image(index).to_vec() }
    }
}

/// What the teacher says about an image at several temperatures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SoftTarget {
    /// The image.
    pub picture: Picture,
    /// Its class.
    pub label: usize,
    /// T and the probability of each class.
    pub distributions: Vec<(f64, Vec<f64>)>,
}

/// An image on which the two students differ.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangedSample {
    /// The image.
    pub picture: Picture,
    /// Its index in the test set.
    pub index: usize,
    /// Its class.
    pub label: usize,
    /// The baseline's answer.
    pub baseline: usize,
    /// The distilled student's answer.
    pub distilled: usize,
    /// The teacher's answer.
    pub teacher: usize,
}
