//! Distillation methods, one file each, and the registry that knows them by name.

mod hard_labels;
mod hinton;

pub use hard_labels::HardLabels;
pub use hinton::Hinton;

use crate::error::Result;
use crate::nn::Parameter;
use crate::tensor::Tensor;

/// What a method sees of one batch. Tensors of the teacher carry no history.
pub struct StepInputs<'a> {
    /// The student's logits, `[n, classes]`.
    pub student_logits: &'a Tensor,
    /// The teacher's logits, where the method asked for a teacher.
    pub teacher_logits: Option<&'a Tensor>,
    /// The labels, `[n]`, `I32`.
    pub labels: &'a Tensor,
}

/// A loss as the sum that is differentiated and the named terms it consists of.
pub struct Loss {
    /// The scalar that is differentiated.
    pub total: Tensor,
    /// The unweighted terms, for metrics and plots; scalars without history.
    pub terms: Vec<(&'static str, Tensor)>,
}

impl Loss {
    /// `share · self + (1 − share) · other`, term by term: the loss of images that are mixtures (mixup).
    pub fn blend(self, other: Loss, share: f64) -> Result<Loss> {
        let mix = |a: &Tensor, b: &Tensor| a.affine(share, 0.0)?.add(&b.affine(1.0 - share, 0.0)?);
        let pairs = self.terms.iter().zip(&other.terms);
        let terms = pairs.map(|((name, a), (_, b))| Ok((*name, mix(a, b)?))).collect::<Result<_>>()?;
        Ok(Loss { total: mix(&self.total, &other.total)?, terms })
    }
}

/// A distillation method: the loss of a training step.
pub trait Method: Send + Sync {
    /// The name in the registry, in configuration files and in reports.
    fn name(&self) -> &'static str;

    /// Whether the method needs a teacher.
    fn needs_teacher(&self) -> bool;

    /// Trainable tensors of the method's own (regressors, discriminators), by name.
    fn parameters(&self) -> Vec<(String, Parameter)> {
        Vec::new()
    }

    /// The loss of one batch.
    fn loss(&self, inputs: &StepInputs) -> Result<Loss>;
}

/// An entry of the registry.
pub struct MethodInfo {
    /// The name on the command line.
    pub name: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// One line for listings.
    pub about: &'static str,
}

/// All methods. A new one is a file and a line here.
pub const METHODS: &[MethodInfo] = &[hard_labels::INFO, hinton::INFO];
