//! Images whose pixels are variables: Adam changes them until a loss is low, and after each step they are cut off at the range of the
//! data. The teacher is a frozen copy; its gradient reaches the pixels.

use super::super::Lab;
use super::bytes;
use crate::autograd::no_grad;
use crate::data::Dataset;
use crate::distill::data_free::entropy;
use crate::distill::{Hyperparameter, Loss, Settings};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Context, Module, Parameter};
use crate::optim::{Optimizer, OptimizerConfig};
use crate::tensor::io::{load_safetensors, save_safetensors};
use crate::tensor::{DType, Device, Rng, Tensor};
use crate::train::{evaluate, interrupt};
use std::collections::BTreeMap;
use std::path::Path;

/// How images are searched for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// How many are made.
    pub images: usize,
    /// How many at a time.
    pub batch: usize,
    /// Steps for each of them.
    pub iterations: usize,
    /// Adam's learning rate, in units of the range of a pixel.
    pub lr: f64,
    /// The largest random shift before each step, in pixels.
    pub jitter: usize,
}

pub(super) const IMAGES: Hyperparameter = Hyperparameter::count("images", [1, 1000000], 2000, "images that are made");
pub(super) const BATCH: Hyperparameter =
    Hyperparameter::count("images-batch", [1, 10000], 200, "images made at a time");
pub(super) const ITERATIONS: Hyperparameter =
    Hyperparameter::count("iterations", [1, 1000000], 300, "steps for each image");
pub(super) const IMAGES_LR: Hyperparameter =
    Hyperparameter::above("images-lr", 0.0, 0.1, "Adam's learning rate for the pixels, which are in [0, 1]");
pub(super) const JITTER: Hyperparameter =
    Hyperparameter::count("jitter", [0, 32], 2, "random shift of the images before each step, in pixels");

impl Search {
    pub(super) fn from_settings(settings: &Settings) -> Search {
        Search {
            images: settings.count("images"),
            batch: settings.count("images-batch"),
            iterations: settings.count("iterations"),
            lr: settings.number("images-lr"),
            jitter: settings.count("jitter"),
        }
    }
}

/// Images and what became of the teacher's doubt while they were made.
pub(super) struct Made {
    /// The images, labelled with the class that the teacher sees in them.
    pub data: Dataset,
    /// The mean entropy of the teacher's answers before the first step and after the last, in nats.
    pub entropy: [f64; 2],
}

/// The loss of a batch of images in [0, 1] `[n, c, h, w]` whose wanted classes are `[n]`.
pub(super) type Wish<'a> = dyn Fn(&Tensor, &Tensor) -> Result<Loss> + 'a;

/// Makes images from noise drawn from `rng`, or loads those that were made before and goes on with the next batch. Wanted classes take
/// turns: image i shall be of class i modulo the classes.
///
/// # Errors
/// The loss cannot be computed or is not finite, the folder cannot be written, or the user interrupts.
pub(super) fn make(lab: &mut Lab, name: &str, teacher: &Model, search: Search, rng: Rng, wish: &Wish) -> Result<Made> {
    let path = lab.run.path().join(format!("{}-{name}.safetensors", lab.student.job));
    let mut made = if path.exists() { Some(load(lab, &path)?) } else { None };
    let there = made.as_ref().map_or(0, |made| made.data.len());
    if there < search.images {
        lab.progress.stage(&format!("making {} images, {} at a time", search.images - there, search.batch));
    }
    for first in (there..search.images).step_by(search.batch) {
        let n = search.batch.min(search.images - first);
        let (images, entropies) = batch(lab, teacher, search, [first, n], rng.derive(first as u64), wish)?;
        let names = lab.test.classes.clone();
        let mut data = Dataset::new("made images", shape(lab), bytes(&images)?, vec![0; n], names)?;
        data.labels = classes(teacher, &data, lab)?;
        let batch = Made { data, entropy: entropies.map(|e| e * n as f64 / search.images as f64) };
        let so_far = match made.take() {
            None => batch,
            Some(before) => before.and(&batch)?,
        };
        save(&so_far, &path)?;
        made = Some(so_far);
        let (done, share) = (first + n, 100 * (first + n) / search.images);
        lab.progress.stage(&format!("  {done} of {} images made ({share} %)", search.images));
    }
    made.ok_or_else(|| Error::argument("images", "must be at least 1"))
}

impl Made {
    /// These images and then others, and the sums of both entropies' parts in the mean.
    fn and(self, others: &Made) -> Result<Made> {
        let [before, after] = self.entropy;
        let entropy = [before + others.entropy[0], after + others.entropy[1]];
        Ok(Made { data: self.data.joined(&others.data)?, entropy })
    }
}

fn save(made: &Made, path: &Path) -> Result<()> {
    let labels = Tensor::from_slice(&made.data.labels, [made.data.len()], Device::Cpu)?;
    let tensors = BTreeMap::from([("images".to_string(), made.data.images.clone()), ("labels".to_string(), labels)]);
    let facts = BTreeMap::from([("entropy".to_string(), format!("{} {}", made.entropy[0], made.entropy[1]))]);
    save_safetensors(path, &tensors, &facts)
}

fn shape(lab: &Lab) -> [usize; 3] {
    lab.test.image_shape()
}

fn load(lab: &Lab, path: &Path) -> Result<Made> {
    let (mut tensors, facts) = load_safetensors(path)?;
    let damaged = || Error::data(path, "holds no made images; remove it to make them again");
    let (images, labels) =
        (tensors.remove("images").ok_or_else(damaged)?, tensors.remove("labels").ok_or_else(damaged)?);
    let numbers: Vec<f64> = facts.get("entropy").into_iter().flat_map(|x| x.split(' ')).flat_map(str::parse).collect();
    let [before, after] = numbers[..] else { return Err(damaged()) };
    let classes = lab.test.classes.clone();
    let data = Dataset::new("made images", shape(lab), images.to_vec()?, labels.to_vec()?, classes)?;
    Ok(Made { data, entropy: [before, after] })
}

/// Images `first..first + n`, and the teacher's entropy before and after.
fn batch(
    lab: &Lab,
    teacher: &Model,
    search: Search,
    [first, n]: [usize; 2],
    rng: Rng,
    wish: &Wish,
) -> Result<(Tensor, [f64; 2])> {
    let ([c, h, w], device) = (shape(lab), lab.device);
    let count = lab.test.classes.len();
    let targets: Vec<i32> = (first..first + n).map(|i| (i % count) as i32).collect();
    let targets = Tensor::from_slice(&targets, [n], device)?;
    let start = Tensor::uniform([n, c, h, w], 0.0, 1.0, DType::F32, device, rng)?;
    let pixels = [("pixels".to_string(), Parameter::new(&start))];
    let doubt = || {
        let answers = no_grad(|| teacher.forward(&pixels[0].1.get().detach(), &mut Context::eval()))?;
        entropy(&answers, 1e-8)?.item()
    };
    let before = doubt()?;
    let mut adam = Optimizer::new(OptimizerConfig::named("adam", 0.9, 0.0)?);
    let mut shifts = rng.derive(u64::MAX).sequence();
    for step in 0..search.iterations {
        if interrupt::requested() {
            let place = format!("{first} of {} images for {} are saved", search.images, lab.student.job);
            return Err(Error::Interrupted(format!("{place}; go on with --resume")));
        }
        let mut shift = || i64::from(shifts.below(2 * search.jitter as u32 + 1)) - search.jitter as i64;
        let images = rolled(&rolled(&pixels[0].1.get(), 2, shift())?, 3, shift())?;
        let loss = wish(&images, &targets)?.total;
        if !loss.is_finite()? {
            let reason = format!("the loss of the images is not finite at step {}; lower images-lr", step + 1);
            return Err(Error::NonFinite(reason));
        }
        let gradients = loss.backward()?;
        drop(images);
        adam.step(&pixels, &gradients, search.lr)?;
        let inside = clamped(&pixels[0].1.get().detach())?;
        pixels[0].1.set(&inside)?;
    }
    let after = doubt()?;
    let images = pixels[0].1.get().detach();
    Ok((images, [before, after]))
}

/// Cut off at 0 and 1.
fn clamped(x: &Tensor) -> Result<Tensor> {
    x.relu()?.affine(-1.0, 1.0)?.relu()?.affine(-1.0, 1.0)
}

/// Shifted along a dimension by so many pixels; what leaves on one side comes in on the other.
fn rolled(x: &Tensor, dim: usize, by: i64) -> Result<Tensor> {
    let extent = x.shape()[dim];
    let by = by.rem_euclid(extent.max(1) as i64) as usize;
    match by {
        0 => Ok(x.clone()),
        by => Tensor::concat(&[&x.narrow(dim, extent - by, by)?, &x.narrow(dim, 0, extent - by)?], dim),
    }
}

/// The classes that a network sees in images.
fn classes(teacher: &Model, images: &Dataset, lab: &Lab) -> Result<Vec<i32>> {
    let says = evaluate(teacher, images, lab.regime.eval_batch_size, lab.device)?;
    Ok(says.predictions.iter().map(|&class| class as i32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolling_and_clamping_do_what_they_say() {
        let x = Tensor::from_slice(&[-1f32, 0.25, 0.5, 2.0], [1, 1, 1, 4], Device::Cpu).unwrap();
        assert_eq!(rolled(&x, 3, 1).unwrap().to_vec::<f32>().unwrap(), [2.0, -1.0, 0.25, 0.5]);
        assert_eq!(rolled(&x, 3, -1).unwrap().to_vec::<f32>().unwrap(), [0.25, 0.5, 2.0, -1.0]);
        assert_eq!(rolled(&x, 2, 1).unwrap().to_vec::<f32>().unwrap(), x.to_vec::<f32>().unwrap());
        assert_eq!(clamped(&x).unwrap().to_vec::<f32>().unwrap(), [0.0, 0.25, 0.5, 1.0]);
    }
}
