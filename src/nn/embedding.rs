//! Embedding tables.

use super::{Context, Init, Module, Parameter, Visitor};
use crate::error::Result;
use crate::tensor::Tensor;

/// A table of `rows` vectors, looked up by index.
pub struct Embedding {
    weight: Parameter,
}

impl Embedding {
    /// A table of `rows` vectors of `width` numbers, standard normal.
    pub fn new(init: &mut Init, rows: usize, width: usize) -> Result<Embedding> {
        Ok(Embedding { weight: init.standard_normal([rows, width])? })
    }
}

impl Module for Embedding {
    /// `x` holds `I32` indices of any shape; the result has one more dimension, the vectors.
    fn forward(&self, x: &Tensor, _: &mut Context) -> Result<Tensor> {
        x.embedding(&self.weight.get())
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
    }

    fn describe(&self) -> String {
        let shape = *self.weight.get().shape();
        format!("embedding of {} × {}", shape[0], shape[1])
    }
}
