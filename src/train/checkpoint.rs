//! A job's state on disk: weights under their PyTorch names, optimiser state beside them, and where in the data it is.

use super::trainee::{prefixed, under};
use super::EpochRecord;
use crate::compress::{largest_inputs, round_inputs, Compression};
use crate::error::{Error, Result};
use crate::models::{Model, Task};
use crate::nn::Module;
use crate::tensor::io::{load_safetensors, save_safetensors};
use crate::tensor::{Device, Rng, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Everything that a stopped job needs to go on to the same bits.
pub struct Checkpoint {
    /// Where in the job this is.
    pub position: Position,
    /// For each network: parameters and buffers of the model, state of the optimiser, and tensors of the methods' own.
    pub networks: Vec<BTreeMap<String, Tensor>>,
}

/// Where in a job a checkpoint was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Epochs completed.
    pub epoch: usize,
    /// Steps done in the epoch under way.
    pub batch: usize,
    /// Time spent in those steps.
    pub seconds: f64,
    /// What became of each network so far.
    pub courses: Vec<Course>,
    /// Length of the metrics log at this point.
    pub metrics_bytes: u64,
}

/// The training of one network so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Sum of the losses of the steps of the epoch under way.
    pub loss_sum: f64,
    /// The completed epochs.
    pub history: Vec<EpochRecord>,
}

impl Position {
    /// The beginning of a training of so many networks.
    pub fn new(networks: usize) -> Position {
        Position { courses: vec![Course::default(); networks], ..Position::default() }
    }
}

/// In front of the names of the tensors of the second network and those after it: `network2/conv1.weight`.
const NETWORK: &str = "network";
const POSITION: &str = "position";
const NORMALISATION: &str = "normalisation";
const RANGES: &str = "input_ranges";
const CLASSES: &str = "classes";

impl Checkpoint {
    /// Writes the checkpoint; a crash leaves either the old or the new file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let named = |(number, tensors): (usize, &BTreeMap<String, Tensor>)| match number {
            0 => tensors.clone(),
            _ => prefixed(&format!("{NETWORK}{}/", number + 1), tensors.clone()).collect(),
        };
        let tensors = self.networks.iter().enumerate().flat_map(named).collect();
        let position = serde_json::to_string(&self.position).expect("numbers and strings");
        save_safetensors(path, &tensors, &BTreeMap::from([(POSITION.to_string(), position)]))
    }

    /// Reads a checkpoint.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        let (mut tensors, metadata) = load_safetensors(path)?;
        let position: Option<Position> = metadata.get(POSITION).and_then(|json| serde_json::from_str(json).ok());
        let next = "it is not a checkpoint of an unfinished job; remove it to start the job again";
        let position = position.ok_or_else(|| Error::checkpoint(path, next))?;
        let mut networks = Vec::new();
        for number in 1..position.courses.len() {
            let prefix = format!("{NETWORK}{}/", number + 1);
            networks.push(under(&prefix, &tensors));
            tensors.retain(|name, _| !name.starts_with(&prefix));
        }
        networks.insert(0, tensors);
        Ok(Checkpoint { position, networks })
    }
}

/// Saves a finished model: its tensors, and its architecture, task and how its weights were compressed as metadata.
pub fn save_model(model: &Model, compression: Compression, path: &Path) -> Result<()> {
    let [c, h, w] = model.task().input;
    let metadata = [
        ("architecture", model.name().to_string()),
        ("input", format!("{c}x{h}x{w}")),
        (CLASSES, model.task().classes.to_string()),
        (NORMALISATION, serde_json::to_string(model.normalisation()).expect("numbers")),
        ("made_by", concat!("kdengine ", env!("CARGO_PKG_VERSION")).to_string()),
    ];
    let ranges = largest_inputs(model);
    let ranges = (!ranges.is_empty()).then(|| (RANGES, serde_json::to_string(&ranges).expect("numbers")));
    let compressed = (!compression.is_none()).then(|| ("compression", compression.to_string()));
    let metadata =
        metadata.into_iter().chain(compressed).chain(ranges).map(|(key, value)| (key.to_string(), value)).collect();
    save_safetensors(path, &model.state(), &metadata)
}

/// Loads a model. `architecture` says what to build; without it the file's own metadata does.
///
/// # Errors
/// The file is damaged, is of a model for another number of classes, or does not fit the architecture (lists missing, unexpected and
/// misshaped tensors).
pub fn load_model(path: &Path, architecture: Option<&str>, task: Task, device: Device) -> Result<Model> {
    let (_, metadata) = load_safetensors(path)?;
    let name = architecture.or(metadata.get("architecture").map(String::as_str)).ok_or_else(|| {
        Error::checkpoint(path, "does not say which architecture it is; name it with --model (or --teacher-model)")
    })?;
    if let Some(classes) = metadata.get(CLASSES).filter(|classes| **classes != task.classes.to_string()) {
        let next = "give the data that it was trained on, and (eval, predict) --classes as --student-classes was";
        return Err(Error::checkpoint(
            path,
            format!("tells {classes} classes apart, the data has {}; {next}", task.classes),
        ));
    }
    let normalisation = metadata.get(NORMALISATION).map_or(Ok(Vec::new()), |json| serde_json::from_str(json));
    let normalisation = normalisation.map_err(|e| Error::checkpoint(path, format!("has damaged metadata: {e}")))?;
    let model = Model::new(name, task, Rng::new(0, 0), device)?.normalising(normalisation);
    fill(&model, path)?;
    Ok(model)
}

/// Sets a model's weights from its file, and the ranges in which it rounds its layers' inputs.
///
/// # Errors
/// The file is damaged, or does not fit the model.
pub(super) fn fill(model: &Model, path: &Path) -> Result<()> {
    let (tensors, metadata) = load_safetensors(path)?;
    model.load_state(&tensors, path)?;
    if let Some(json) = metadata.get(RANGES) {
        let damaged = |e| Error::checkpoint(path, format!("has damaged metadata: {e}"));
        round_inputs(model, &serde_json::from_str(json).map_err(damaged)?);
    }
    Ok(())
}
