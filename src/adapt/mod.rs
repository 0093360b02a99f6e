//! Test-time adaptation: a trained network meets images unlike those of its training, and adapts to them batch after batch, without a
//! label. Each method is an [`Adapter`]: it is shown a batch, answers, and may learn from what it was shown. An answer that was given is
//! never revised, so the accuracy over a test set is that of a network in use.
//!
//! A method is a file here and a line in [`METHODS`]. [`compare`] sets several of them before corrupted images.

mod comparison;
mod norm;
mod report;
mod self_distillation;
mod source;
mod tent;

pub use comparison::{compare, Comparison, Condition, Outcome, Plan, Row};
pub use report::write_report;

use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Context, Parameter};
use crate::optim::{Optimizer, OptimizerConfig};
use crate::suggest::nearest;
use crate::tensor::Tensor;

/// A network in use that adapts to what it is shown.
pub trait Adapter {
    /// The logits `[n, classes]` that count for images `[n, c, h, w]` in [0, 1]; what is learned from them serves later batches.
    ///
    /// # Errors
    /// The images do not fit the network, or the loss is not finite; then nothing was learned.
    fn answer(&mut self, images: &Tensor) -> Result<Tensor>;

    /// The network whose answers count, as it is now.
    fn model(&self) -> &Model;
}

/// An entry of the registry.
pub struct MethodInfo {
    /// The name on the command line.
    pub name: &'static str,
    /// Authors and year.
    pub paper: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// What it computes.
    pub formula: &'static str,
    /// Whether it adapts batch normalisations, which the network must have.
    pub needs_norms: bool,
    build: fn(&Model, &Settings) -> Result<Box<dyn Adapter>>,
}

/// All methods. A new one is a file and a line here.
pub const METHODS: &[MethodInfo] = &[source::METHOD, norm::METHOD, tent::METHOD, self_distillation::METHOD];

/// The names of all methods.
pub fn method_names() -> Vec<&'static str> {
    METHODS.iter().map(|method| method.name).collect()
}

/// A method by name.
///
/// # Errors
/// There is none; the error names the nearest.
pub fn method(name: &str) -> Result<&'static MethodInfo> {
    METHODS.iter().find(|method| method.name == name).ok_or_else(|| {
        let known = method_names();
        let hint = nearest(name, &known).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
        Error::argument("methods", format!("there is no `{name}`; {hint}known: {}", known.join(", ")))
    })
}

impl MethodInfo {
    /// A copy of `model` that adapts by this method; `model` itself stays as it is.
    ///
    /// # Errors
    /// A setting is out of range, or the network has no batch normalisation for a method that adapts them.
    pub fn adapter(&self, model: &Model, settings: &Settings) -> Result<Box<dyn Adapter>> {
        settings.validate()?;
        match self.fits(model) {
            true => (self.build)(model, settings),
            false => {
                let reason = format!(
                    "{} adapts batch normalisations, and {} has none; leave it out (--methods source,self-distillation), or train a \
                     model that has some: kdengine train --teacher-model cnn-bn-16-32-fc64",
                    self.name,
                    model.name()
                );
                Err(Error::argument("methods", reason))
            }
        }
    }

    /// Whether the network has what the method adapts.
    pub fn fits(&self, model: &Model) -> bool {
        !self.needs_norms || !norm::scales_and_shifts(model).is_empty()
    }
}

/// What the methods can be told; each takes what concerns it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The learning rate of Adam (β₁ = 0.9, β₂ = 0.999).
    pub lr: f64,
    /// Steps for each batch; with several, the answer of the last one counts.
    pub steps: usize,
    /// How many images the statistics of the training count for beside a batch's own (`norm`).
    pub source_images: f64,
    /// How much of the teacher stays in each step (`self-distillation`).
    pub momentum: f64,
    /// The probability with which a weight is set back in each step (`self-distillation`).
    pub restore: f64,
    /// How many views of an image the teacher answers (`self-distillation`).
    pub views: usize,
    /// From this mean confidence of the source model on, the teacher sees the images as they are (`self-distillation`).
    pub confidence: f64,
    /// Determines views and which weights are set back, and in [`compare`] the noise of corruptions.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lr: 1e-3,
            steps: 1,
            source_images: 0.0,
            momentum: 0.999,
            restore: 0.01,
            views: 32,
            confidence: 0.92,
            seed: 0,
        }
    }
}

impl Settings {
    /// Checks every range.
    ///
    /// # Errors
    /// A value is out of it.
    pub fn validate(&self) -> Result<()> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let checks = [
            ("lr", self.lr > 0.0 && self.lr.is_finite(), "must be above 0", self.lr),
            ("steps", self.steps > 0, "must be at least 1", self.steps as f64),
            ("source-images", (0.0..1e12).contains(&self.source_images), "must be 0 or more", self.source_images),
            ("ema", share(self.momentum), "must be 0 to 1", self.momentum),
            ("restore", share(self.restore), "must be 0 to 1", self.restore),
            ("views", self.views > 0, "must be at least 1", self.views as f64),
            ("confidence", share(self.confidence), "must be 0 to 1", self.confidence),
        ];
        match checks.iter().find(|(_, fits, ..)| !fits) {
            None => Ok(()),
            Some((what, _, range, found)) => Err(Error::argument(*what, format!("{range}, found {found}"))),
        }
    }
}

/// A pass of an adapting network: batch normalisations use the batch's own statistics and track none. Dropout drops nothing.
fn batch_pass() -> Context {
    Context::eval().with_batch_statistics(0.0)
}

/// Adam on some of a network's parameters.
struct Learner {
    parameters: Vec<(String, Parameter)>,
    optimizer: Optimizer,
    lr: f64,
}

impl Learner {
    fn new(parameters: Vec<(String, Parameter)>, lr: f64) -> Result<Learner> {
        Ok(Learner { parameters, optimizer: Optimizer::new(OptimizerConfig::named("adam", 0.9, 0.0)?), lr })
    }

    /// One step down a loss.
    ///
    /// # Errors
    /// The loss is not finite.
    fn step(&mut self, loss: Tensor) -> Result<()> {
        if !loss.is_finite()? {
            let reason = "the loss of the adaptation is not finite; check the images, or lower --lr";
            return Err(Error::NonFinite(reason.to_string()));
        }
        let gradients = loss.backward()?;
        drop(loss);
        self.optimizer.step(&self.parameters, &gradients, self.lr)
    }
}
