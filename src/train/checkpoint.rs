//! A job's state on disk: weights under their PyTorch names, optimiser state beside them, and where in the data it is.

use super::EpochRecord;
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
    /// Parameters and buffers of the model.
    pub model: BTreeMap<String, Tensor>,
    /// State of the optimiser, and parameters of the method's own.
    pub extra: BTreeMap<String, Tensor>,
}

/// Where in a job a checkpoint was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Epochs completed.
    pub epoch: usize,
    /// Steps done in the epoch under way.
    pub batch: usize,
    /// Sum of the losses of those steps.
    pub loss_sum: f64,
    /// Time spent in those steps.
    pub seconds: f64,
    /// The completed epochs.
    pub history: Vec<EpochRecord>,
    /// Length of the metrics log at this point.
    pub metrics_bytes: u64,
}

/// In front of names that are not the model's.
const EXTRA: &str = "optimizer/";
const POSITION: &str = "position";
const NORMALISATION: &str = "normalisation";

impl Checkpoint {
    /// Writes the checkpoint; a crash leaves either the old or the new file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let extra = self.extra.iter().map(|(name, tensor)| (format!("{EXTRA}{name}"), tensor.clone()));
        let tensors = self.model.clone().into_iter().chain(extra).collect();
        let position = serde_json::to_string(&self.position).expect("numbers and strings");
        save_safetensors(path, &tensors, &BTreeMap::from([(POSITION.to_string(), position)]))
    }

    /// Reads a checkpoint.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        let (tensors, metadata) = load_safetensors(path)?;
        let position = metadata.get(POSITION).and_then(|json| serde_json::from_str(json).ok());
        let next = "it is not a checkpoint of an unfinished job; remove it to start the job again";
        let position = position.ok_or_else(|| Error::checkpoint(path, next))?;
        let (mut model, mut extra) = (BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in tensors {
            match name.strip_prefix(EXTRA) {
                Some(name) => extra.insert(name.to_string(), tensor),
                None => model.insert(name, tensor),
            };
        }
        Ok(Checkpoint { position, model, extra })
    }
}

/// Saves a finished model: its tensors, and its architecture and task as metadata.
pub fn save_model(model: &Model, path: &Path) -> Result<()> {
    let [c, h, w] = model.task().input;
    let metadata = [
        ("architecture", model.name().to_string()),
        ("input", format!("{c}x{h}x{w}")),
        ("classes", model.task().classes.to_string()),
        (NORMALISATION, serde_json::to_string(model.normalisation()).expect("numbers")),
        ("made_by", concat!("kdengine ", env!("CARGO_PKG_VERSION")).to_string()),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_string(), value)).into_iter().collect();
    save_safetensors(path, &model.state(), &metadata)
}

/// Loads a model. `architecture` says what to build; without it the file's own metadata does.
///
/// # Errors
/// The file is damaged, or does not fit the architecture (lists missing, unexpected and misshaped tensors).
pub fn load_model(path: &Path, architecture: Option<&str>, task: Task, device: Device) -> Result<Model> {
    let (tensors, metadata) = load_safetensors(path)?;
    let name = architecture.or(metadata.get("architecture").map(String::as_str)).ok_or_else(|| {
        Error::checkpoint(path, "does not say which architecture it is; name it with --model (or --teacher-model)")
    })?;
    let normalisation = metadata.get(NORMALISATION).map_or(Ok(Vec::new()), |json| serde_json::from_str(json));
    let normalisation = normalisation.map_err(|e| Error::checkpoint(path, format!("has damaged metadata: {e}")))?;
    let model = Model::new(name, task, Rng::new(0, 0), device)?.normalising(normalisation);
    model.load_state(&tensors, path)?;
    Ok(model)
}
