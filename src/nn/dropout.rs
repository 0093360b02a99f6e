//! Dropout (Srivastava et al. 2014).

use super::{Context, Module, Visitor};
use crate::error::Result;
use crate::tensor::Tensor;

/// In training, sets each element to zero with probability `p` and divides the others by `1 − p`.
pub struct Dropout {
    /// Probability of zeroing an element, in [0, 1).
    pub p: f64,
}

impl Module for Dropout {
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Result<Tensor> {
        match cx.next_rng() {
            Some(rng) => x.dropout(self.p, rng),
            None => Ok(x.clone()),
        }
    }

    fn visit(&self, _: &mut Visitor) {}

    fn describe(&self) -> String {
        format!("dropout {}", self.p)
    }
}
