//! Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015:
//! `hard_weight · CE(z_s, y) + soft_weight · T² · KL(softmax(z_t/T) ‖ softmax(z_s/T))`.
//!
//! The factor T² keeps the soft term's gradient at the same scale when T changes (section 2 of the paper). What texts call α or λ
//! multiplies sometimes one term, sometimes the other; here each weight has its name.

use super::{Loss, Method, MethodInfo, StepInputs};
use crate::backend::params::HintonKd;
use crate::error::{Error, Result};

pub(super) const INFO: MethodInfo = MethodInfo {
    name: "hinton",
    paper: "Hinton et al. 2015",
    about: "match the teacher's tempered softmax, and the labels",
};

/// Soft targets at a temperature, combined with hard labels.
#[derive(Clone, Copy, Debug)]
pub struct Hinton(HintonKd);

impl Hinton {
    /// The method with temperature T > 0 and the weights of both terms.
    ///
    /// # Errors
    /// T is not positive, a weight is negative or not finite, or both weights are 0.
    pub fn new(temperature: f64, hard_weight: f64, soft_weight: f64) -> Result<Hinton> {
        if !(temperature > 0.0 && temperature.is_finite()) {
            let reason = format!("must be above 0, found {temperature}; 2 to 5 is usual");
            return Err(Error::argument("temperature", reason));
        }
        for (name, weight) in [("hard-weight", hard_weight), ("soft-weight", soft_weight)] {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Error::argument(name, format!("must be 0 or more, found {weight}")));
            }
        }
        if hard_weight == 0.0 && soft_weight == 0.0 {
            return Err(Error::argument("hard-weight and soft-weight", "are both 0: nothing would be learned"));
        }
        Ok(Hinton(HintonKd { temperature, hard_weight, soft_weight }))
    }
}

impl Method for Hinton {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn needs_teacher(&self) -> bool {
        true
    }

    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let teacher =
            inputs.teacher_logits.ok_or_else(|| Error::argument("hinton", "needs a teacher (--teacher FILE)"))?;
        let loss = inputs.student_logits.hinton_kd(teacher, inputs.labels, self.0)?;
        Ok(Loss { total: loss.total, terms: vec![("hard", loss.hard), ("soft", loss.soft)] })
    }
}
