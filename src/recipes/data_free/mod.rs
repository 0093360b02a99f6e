//! Distillation without data: images are made from the teacher alone, by changing pixels (`pixels`) or by training a generator
//! (`contest`), and a student learns from what the teacher says about them. The student never sees a real image; the test images
//! are used to report its accuracy and for nothing else.

mod contest;
mod generator;
mod pixels;
mod statistics;

pub mod activation_max;
pub mod dafl;
pub mod deep_inversion;
pub mod dfad;
pub mod gradient;

use super::{Accepts, Lab, Prospect};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::report::{Captioned, Gallery, Picture};
use crate::tensor::{DType, Rng, Tensor};
use crate::train::{evaluate, streams, JobResult, Pupil};
use std::sync::Arc;

/// Images in a contact sheet.
const SHOWN: usize = 40;

/// Adds a contact sheet of the first made images to the report, each with what the teacher says about it.
fn show(lab: &mut Lab, teacher: &Model, images: &Dataset, about: &str) -> Result<()> {
    let first: Vec<u32> = (0..images.len().min(SHOWN) as u32).collect();
    let shown = images.subset(&first)?;
    let says = evaluate(teacher, &shown, lab.regime.eval_batch_size, lab.device)?;
    let captioned = |i: usize| {
        let (class, picture) = (says.predictions[i], Picture::of(&shown, i));
        let sure = 100.0 * says.probabilities(i, 1.0)[class];
        Captioned { picture, caption: format!("{}, {sure:.0} %", shown.classes[class]) }
    };
    let title = format!("Images that {} learned from", lab.student.job);
    let pictures = (0..shown.len()).map(captioned).collect();
    lab.extras.galleries.push(Gallery { title, about: about.to_string(), pictures });
    Ok(())
}

/// Says in the report what the student has seen.
fn state(lab: &mut Lab) {
    lab.extras.notes.push(format!(
        "{} was trained on made images alone and has seen no real one; the test images served to report its accuracy.",
        lab.student.job
    ));
}

/// Trains the student on finished images; `about` says in the report how they were made.
fn teach(lab: &mut Lab, teacher: &Arc<Model>, images: Dataset, about: &str) -> Result<(Model, JobResult)> {
    show(lab, teacher, &images, about)?;
    state(lab);
    let pupil = Pupil { images: Arc::new(images), ..lab.student.clone() };
    lab.train(&pupil, Some(teacher))
}

/// Pixels in [0, 1] as bytes.
fn bytes(images: &Tensor) -> Result<Vec<u8>> {
    images.affine(255.0, 0.0)?.to_dtype(DType::U8)?.to_host()?.to_vec()
}

/// The noise that a pupil's images start from.
fn noise(pupil: &Pupil) -> Rng {
    Rng::new(pupil.seed, streams::METHOD)
}

/// Refuses networks that the student's loss cannot use.
fn check(prospect: &Prospect) -> Result<()> {
    prospect.check_learning(&prospect.student.model, &prospect.teacher.model)
}

/// Refuses other losses of the student than the recipe's own, and what its training does not do.
fn check_answers_alone(name: &'static str, prospect: &Prospect) -> Result<()> {
    if !prospect.student.compression.is_none() {
        let reason = "trains its student without quantisation and pruning; leave --quantize and --prune out";
        return Err(Error::argument(name, reason));
    }
    Accepts::Nothing.check(name, &prospect.student.plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    #[test]
    fn black_stays_black_and_white_white() {
        let x = Tensor::from_slice(&[0f32, 1.0, 0.5, 0.001, 0.003], [5], Device::Cpu).unwrap();
        assert_eq!(bytes(&x).unwrap(), [0, 255, 128, 0, 1]);
    }
}
