//! What the frozen teacher says about the students' images, as it sees them: its logits and the feature maps that methods compare,
//! computed once for all students where the images do not change and the answers fit in memory, else batch by batch. Nothing here is
//! recorded.

use super::Progress;
use crate::autograd::no_grad;
use crate::data::{Batch, Dataset};
use crate::distill::{combine_logits, Combine, Features, TeacherFeature};
use crate::error::{Error, Result};
use crate::models::{tap_shapes, Model, TapShape, Task};
use crate::nn::{Context, Module};
use crate::tensor::io::{load_safetensors, save_safetensors};
use crate::tensor::{Device, Tensor};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the logits among the answers; models offer them as a tap of this name, too.
const LOGITS: &str = "logits";

/// Answers over a training set that are kept, all together, in bytes.
const BUDGET: usize = 256 << 20;

/// What the teacher says about the images of a batch.
pub struct TeacherOutputs {
    shapes: Vec<TapShape>,
    taps: Vec<String>,
    source: Source,
}

enum Source {
    /// Known for every image of the training set: `[images, …]` by tap.
    Known(Features),
    /// Computed for each batch: of the batch's own images, or of these `[images, c, h, w]` (`U8`), where the teacher sees something else
    /// than the student.
    Online(Arc<Model>, Option<Tensor>),
    /// The logits of several teachers, combined.
    Committee(Vec<TeacherOutputs>, Combine),
}

/// Answers about one training set, which students with different needs share.
pub struct TeacherCache {
    known: Features,
    folder: Option<PathBuf>,
    batch: usize,
    device: Device,
}

impl TeacherCache {
    /// A cache that keeps its files in `folder` and asks for `batch` images at a time.
    pub fn new(folder: &Path, batch: usize, device: Device) -> TeacherCache {
        TeacherCache { folder: Some(folder.to_path_buf()), ..TeacherCache::in_memory(batch, device) }
    }

    /// A cache that forgets everything at its end.
    pub fn in_memory(batch: usize, device: Device) -> TeacherCache {
        TeacherCache { known: Features::new(), folder: None, batch, device }
    }

    /// The logits and these features over the training set: those that are not known yet are read from the folder if they were
    /// computed before for these very weights and images, else computed and kept there. Too many for the memory they may take are not
    /// kept at all.
    ///
    /// # Errors
    /// The teacher cannot be computed, its answers are not finite, or the folder cannot be written.
    pub fn outputs(
        &mut self,
        teacher: &Arc<Model>,
        data: &Dataset,
        features: &[TeacherFeature],
        progress: &mut dyn Progress,
    ) -> Result<TeacherOutputs> {
        let taps: BTreeSet<String> = features.iter().map(|feature| feature.tap.clone()).collect();
        let online = TeacherOutputs::online(teacher, &taps.into_iter().collect::<Vec<_>>())?;
        let logits = TeacherFeature::whole(LOGITS);
        let others = features.iter().filter(|feature| **feature != logits);
        let wanted: Vec<&TeacherFeature> = std::iter::once(&logits).chain(others).collect();
        let numbers = |feature: &&TeacherFeature| {
            online.shapes.iter().find(|s| s.name == feature.tap).map_or(0, |s| feature.numbers(&s.shape))
        };
        let per_image: usize = wanted.iter().map(numbers).sum();
        if per_image * data.len() * size_of::<f32>() > BUDGET {
            let images = data.images.to_device(self.device)?;
            return Ok(TeacherOutputs { source: Source::Online(teacher.clone(), Some(images)), ..online });
        }
        let key = cache_key(teacher, data)?;
        let path = |name: &str| Some(self.folder.as_ref()?.join(format!("teacher-{}-{name}.safetensors", &key[..16])));
        for name in wanted.iter().map(|feature| feature.name()) {
            let saved = path(&name).and_then(|path| load_safetensors(&path).ok()?.0.remove(&name));
            if let (false, Some(saved)) = (self.known.contains_key(&name), saved) {
                self.known.insert(name, saved.to_device(self.device)?);
            }
        }
        let missing: Vec<&TeacherFeature> =
            wanted.iter().filter(|feature| !self.known.contains_key(&feature.name())).copied().collect();
        if !missing.is_empty() {
            progress.stage("computing the teacher's answers over the training set (once for all students)");
            for (name, answers) in over_data_set(teacher, data, &missing, self.batch, self.device)? {
                if let Some(path) = path(&name) {
                    save_safetensors(&path, &BTreeMap::from([(name.clone(), answers.clone())]), &BTreeMap::new())?;
                }
                self.known.insert(name, answers);
            }
        }
        let known = wanted.iter().map(|feature| feature.name()).filter_map(|name| self.known.get_key_value(&name));
        let known = known.map(|(name, answers)| (name.clone(), answers.clone())).collect();
        Ok(TeacherOutputs { source: Source::Known(known), ..online })
    }
}

impl TeacherOutputs {
    /// The logits and these feature maps, computed for each batch of what the student sees.
    ///
    /// # Errors
    /// The teacher cannot be computed.
    pub fn online(teacher: &Arc<Model>, taps: &[String]) -> Result<TeacherOutputs> {
        let shapes = tap_shapes(teacher.name(), teacher.task())?;
        Ok(TeacherOutputs { shapes, taps: taps.to_vec(), source: Source::Online(teacher.clone(), None) })
    }

    /// Logits that are known for every image of the training set, `[images, classes]`, as if a network of this architecture had given
    /// them.
    ///
    /// # Errors
    /// There is no such architecture.
    pub fn known_logits(architecture: &str, task: Task, logits: Tensor) -> Result<TeacherOutputs> {
        let known = Features::from([(LOGITS.to_string(), logits.detach())]);
        Ok(TeacherOutputs { shapes: tap_shapes(architecture, task)?, taps: Vec::new(), source: Source::Known(known) })
    }

    /// The combined logits of several teachers; no feature maps.
    ///
    /// # Errors
    /// There are none.
    pub fn committee(teachers: Vec<TeacherOutputs>, combine: Combine) -> Result<TeacherOutputs> {
        let first = teachers.first().ok_or_else(|| Error::argument("teachers", "there are none"))?;
        let shapes = first.shapes.clone();
        Ok(TeacherOutputs { shapes, taps: Vec::new(), source: Source::Committee(teachers, combine) })
    }

    /// The teacher's taps.
    pub fn shapes(&self) -> &[TapShape] {
        &self.shapes
    }

    /// All images of the training set, those first whose label the teacher finds likeliest. The order of equals is that of the set.
    ///
    /// # Errors
    /// The teacher cannot be computed, or its answers are not finite.
    pub fn easiest_first(&self, data: &Dataset, batch: usize, device: Device) -> Result<Vec<u32>> {
        let logits = self.over_all(data, batch, device)?;
        let log_p = no_grad(|| logits.log_softmax(1.0))?.to_f64_vec()?;
        let rows = log_p.chunks(logits.shape()[1]).zip(&data.labels);
        let likely: Vec<f64> = rows.map(|(row, &label)| row[label as usize]).collect();
        let mut order: Vec<u32> = (0..likely.len() as u32).collect();
        order.sort_by(|&a, &b| likely[b as usize].total_cmp(&likely[a as usize]));
        Ok(order)
    }

    /// The logits of every image of the training set, `[images, classes]`.
    fn over_all(&self, data: &Dataset, batch: usize, device: Device) -> Result<Tensor> {
        let logits = match &self.source {
            Source::Known(known) => known.get(LOGITS).cloned(),
            Source::Online(teacher, images) => {
                let part = |range: Range<usize>| {
                    let images = match images {
                        None => data.images_tensor(range, device)?,
                        Some(images) => {
                            let rows: Vec<i32> = range.map(|i| i as i32).collect();
                            images.gather_images(&Tensor::from_slice(&rows, [rows.len()], images.device())?, None)?
                        }
                    };
                    answers(teacher, &images, &[])
                };
                in_batches(data.len(), batch, part)?.remove(LOGITS)
            }
            Source::Committee(teachers, combine) => {
                let each = teachers.iter().map(|teacher| teacher.over_all(data, batch, device));
                let labels = Tensor::from_slice(&data.labels, [data.len()], device)?;
                Some(combine_logits(&each.collect::<Result<Vec<_>>>()?, &labels, combine)?)
            }
        };
        logits.ok_or_else(|| Error::argument("teacher", "gave no logits"))
    }

    /// The logits `[n, classes]` and the feature maps of a batch; without history.
    pub(super) fn of_batch(&self, batch: &Batch) -> Result<(Tensor, Features)> {
        let rows = || {
            let rows: Vec<i32> = batch.index.iter().map(|&i| i as i32).collect();
            Tensor::from_slice(&rows, [rows.len()], batch.images.device())
        };
        let mut answers = match &self.source {
            Source::Online(teacher, images) => {
                let images = match images {
                    Some(all) => all.gather_images(&rows()?, None)?,
                    None => batch.images.clone(),
                };
                answers(teacher, &images, &self.taps.iter().map(String::as_str).collect::<Vec<_>>())?
            }
            Source::Committee(teachers, combine) => {
                let logits =
                    teachers.iter().map(|teacher| Ok(teacher.of_batch(batch)?.0)).collect::<Result<Vec<_>>>()?;
                let labels = Tensor::from_slice(&batch.labels, [batch.labels.len()], batch.images.device())?;
                Features::from([(LOGITS.to_string(), combine_logits(&logits, &labels, combine)?)])
            }
            Source::Known(_) if batch.mix.is_some() => {
                let reason = "mixes images, of which nobody knows the answers; leave it out";
                return Err(Error::argument("mixup", reason));
            }
            Source::Known(known) => {
                let rows = rows()?;
                known.iter().map(|(tap, all)| Ok((tap.clone(), all.gather_rows(&rows)?))).collect::<Result<_>>()?
            }
        };
        let logits = match self.taps.iter().any(|tap| tap == LOGITS) {
            true => answers.get(LOGITS).cloned(),
            false => answers.remove(LOGITS),
        };
        let logits = logits.ok_or_else(|| Error::argument("teacher", "gave no logits"))?;
        Ok((logits, answers))
    }
}

/// The logits and feature maps of some images.
fn answers(teacher: &Model, images: &Tensor, taps: &[&str]) -> Result<Features> {
    let mut cx = Context::eval().with_taps(taps);
    let logits = no_grad(|| teacher.forward(images, &mut cx))?;
    let mut answers: Features =
        taps.iter().filter_map(|tap| Some((tap.to_string(), cx.tapped(tap)?.detach()))).collect();
    answers.insert(LOGITS.to_string(), logits);
    Ok(answers)
}

/// These answers about every image, `batch` at a time.
fn over_data_set(
    teacher: &Model,
    data: &Dataset,
    features: &[&TeacherFeature],
    batch: usize,
    device: Device,
) -> Result<Features> {
    let taps: Vec<&str> = features.iter().map(|feature| feature.tap.as_str()).collect();
    let part = |range: Range<usize>| {
        let maps = answers(teacher, &data.images_tensor(range, device)?, &taps)?;
        let of = |feature: &&TeacherFeature| Some((feature.name(), feature.of(maps.get(&feature.tap)?)));
        features.iter().filter_map(of).map(|(name, x)| Ok((name, x?))).collect()
    };
    in_batches(data.len(), batch, part)
}

/// Answers about `len` images, `batch` at a time, joined.
///
/// # Errors
/// They are not finite.
fn in_batches(len: usize, batch: usize, part: impl Fn(Range<usize>) -> Result<Features>) -> Result<Features> {
    let mut parts: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
    for start in (0..len).step_by(batch) {
        for (name, answer) in part(start..(start + batch).min(len))? {
            parts.entry(name).or_default().push(answer);
        }
    }
    let whole = |(name, parts): (String, Vec<Tensor>)| {
        let all = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        match all.is_finite()? {
            true => Ok((name, all)),
            false => {
                let reason = format!(
                    "the teacher's {name} are not finite on the training set; train it again with a lower --lr"
                );
                Err(Error::NonFinite(reason))
            }
        }
    };
    parts.into_iter().map(whole).collect()
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
