//! What a teacher's feature maps were like while it was trained: the running statistics of its batch normalisations, or, for a teacher
//! that has none, statistics of its taps over the training images.

use super::super::Lab;
use crate::autograd::no_grad;
use crate::distill::data_free::statistics_distance;
use crate::distill::Loss;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::{DType, Tensor};

/// Statistics of feature maps, channel by channel.
pub(super) enum Statistics {
    /// Every batch normalisation carries its own.
    Norms,
    /// Of each tap: its name, means `[c]` and variances `[c]`.
    Taps(Vec<(&'static str, Tensor, Tensor)>),
}

impl Statistics {
    /// The statistics that a teacher carries, or those of its taps over all training images.
    ///
    /// # Errors
    /// The teacher cannot be computed.
    pub fn of(teacher: &Model, lab: &Lab) -> Result<Statistics> {
        let [c, h, w] = teacher.task().input;
        let mut cx = Context::eval().with_norm_inputs();
        no_grad(|| teacher.forward(&Tensor::zeros([1, c, h, w], DType::F32, lab.device)?, &mut cx))?;
        if !cx.norm_inputs().is_empty() {
            return Ok(Statistics::Norms);
        }
        let names: Vec<&'static str> = teacher.taps().into_iter().filter(|name| *name != "logits").collect();
        let mut sums: Vec<Option<[Tensor; 2]>> = names.iter().map(|_| None).collect();
        let (images, batch) = (&lab.teacher_pupil.images, lab.regime.eval_batch_size);
        for start in (0..images.len()).step_by(batch) {
            let end = (start + batch).min(images.len());
            let mut cx = Context::eval().with_taps(&names);
            no_grad(|| teacher.forward(&images.images_tensor(start..end, lab.device)?, &mut cx))?;
            let share = (end - start) as f64 / images.len() as f64;
            for (sum, name) in sums.iter_mut().zip(&names) {
                let x = as_maps(cx.tapped(name).ok_or_else(|| missing(name))?)?;
                let moments = [x.clone(), x.square()?].map(|x| x.mean(&[0, 2, 3], false)?.affine(share, 0.0));
                let [mean, square] = moments;
                *sum = Some(match sum.take() {
                    None => [mean?, square?],
                    Some([m, s]) => [m.add(&mean?)?, s.add(&square?)?],
                });
            }
        }
        let of_tap = |(name, sum): (&'static str, Option<[Tensor; 2]>)| {
            let [mean, square] = sum.ok_or_else(|| missing(name))?;
            let var = square.sub(&mean.square()?)?.relu()?;
            Ok((name, mean, var))
        };
        names.into_iter().zip(sums).map(of_tap).collect::<Result<_>>().map(Statistics::Taps)
    }

    /// A forward pass that [`Statistics::distance`] can look at.
    pub fn context(&self) -> Context {
        match self {
            Statistics::Norms => Context::eval().with_norm_inputs(),
            Statistics::Taps(taps) => {
                Context::eval().with_taps(&taps.iter().map(|(name, ..)| *name).collect::<Vec<_>>())
            }
        }
    }

    /// `Σ ‖mean − known mean‖₂ + ‖variance − known variance‖₂` over the layers.
    ///
    /// # Errors
    /// The pass was not one of [`Statistics::context`].
    pub fn distance(&self, cx: &Context) -> Result<Tensor> {
        let distances: Vec<Tensor> = match self {
            Statistics::Norms => {
                cx.norm_inputs().iter().map(|n| statistics_distance(&n.x, &n.mean, &n.var)).collect::<Result<_>>()?
            }
            Statistics::Taps(taps) => {
                let of_tap = |(name, mean, var): &(&'static str, Tensor, Tensor)| {
                    let x = cx.tapped(name).ok_or_else(|| missing(name))?;
                    statistics_distance(&as_maps(x)?, mean, var)
                };
                taps.iter().map(of_tap).collect::<Result<_>>()?
            }
        };
        Loss::weighted(distances.into_iter().map(|d| ("statistics", 1.0, d)).collect()).map(|loss| loss.total)
    }

    /// Where they come from, for the report.
    pub fn describe(&self) -> &'static str {
        match self {
            Statistics::Norms => "Statistics to match: the running ones of the teacher's batch normalisations.",
            Statistics::Taps(_) => {
                "The teacher has no batch normalisation: the statistics to match are means and variances of its feature maps, \
                 recorded over its training images. Those numbers, and nothing else, were taken from real images."
            }
        }
    }
}

fn missing(tap: &str) -> Error {
    Error::argument("teacher", format!("did not offer its feature map `{tap}`"))
}

/// `[n, c, h, w]`; features `[n, d]` as maps of one pixel.
fn as_maps(x: &Tensor) -> Result<Tensor> {
    match x.shape()[..] {
        [n, d] => x.reshape([n, d, 1, 1]),
        _ => Ok(x.clone()),
    }
}
