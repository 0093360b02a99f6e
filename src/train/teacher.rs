//! The frozen teacher's logits, computed once for the whole training set and used by every student.

use super::{predict, Progress};
use crate::data::{Batch, Dataset};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::io::{load_safetensors, save_safetensors};
use crate::tensor::{Device, Tensor};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What the teacher says about the images of a batch.
pub enum TeacherLogits {
    /// Known for every image of the training set: `[images, classes]`.
    Cached(Tensor),
    /// Computed for each batch, because augmentation shows different pixels every time.
    Online(Arc<Model>),
}

const LOGITS: &str = "logits";

impl TeacherLogits {
    /// The logits over the training set: read from `folder` if they were computed before for these very weights and images,
    /// else computed and kept there.
    pub fn cached(
        teacher: &Model,
        data: &Dataset,
        batch: usize,
        folder: &Path,
        device: Device,
        progress: &mut dyn Progress,
    ) -> Result<TeacherLogits> {
        let path = folder.join(format!("teacher-logits-{}.safetensors", &cache_key(teacher, data)?[..16]));
        let shape = [data.len(), data.classes.len()];
        if let Ok((mut tensors, _)) = load_safetensors(&path) {
            if let Some(logits) = tensors.remove(LOGITS).filter(|t| t.shape()[..] == shape) {
                return Ok(TeacherLogits::Cached(logits.to_device(device)?));
            }
        }
        progress.stage("computing the teacher's logits over the training set (once for all students)");
        let logits = Tensor::from_slice(&predict(teacher, data, batch, device)?, shape, device)?;
        if !logits.is_finite()? {
            let reason =
                "the teacher's logits are not finite on the training set; train it again with a lower --lr".to_string();
            return Err(Error::NonFinite(reason));
        }
        save_safetensors(&path, &BTreeMap::from([(LOGITS.to_string(), logits.clone())]), &BTreeMap::new())?;
        Ok(TeacherLogits::Cached(logits))
    }

    /// The logits of a batch, `[n, classes]`.
    pub(super) fn of_batch(&self, batch: &Batch, images: &Tensor) -> Result<Tensor> {
        match self {
            TeacherLogits::Cached(logits) => {
                let rows: Vec<i32> = batch.index.iter().map(|&i| i as i32).collect();
                logits.gather_rows(&Tensor::from_slice(&rows, [rows.len()], images.device())?)
            }
            TeacherLogits::Online(teacher) => teacher.forward(images, &mut Context::eval()),
        }
    }
}

/// Changes whenever the teacher's weights or the images do.
fn cache_key(teacher: &Model, data: &Dataset) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(teacher.name());
    for (name, tensor) in teacher.state() {
        hash.update(name);
        hash.update(tensor.to_host()?.storage().bytes());
    }
    hash.update(data.content_hash());
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
