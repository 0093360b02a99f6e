//! What a method remembers of each sample of the training set from one epoch to the next.

use super::StepInputs;
use crate::error::Result;
use crate::nn::{Parameter, Visitor};
use crate::tensor::Tensor;
use std::sync::Mutex;

/// A row for each sample. What a step wants to remember is written after the optimiser's step, so that a loss can be computed twice.
pub(super) struct Memory {
    table: Parameter,
    seen: Mutex<Option<(Tensor, Tensor)>>,
}

impl Memory {
    /// A memory that begins with these rows, `[samples, width]`.
    pub(super) fn new(table: &Tensor) -> Memory {
        Memory { table: Parameter::buffer(table), seen: Mutex::new(None) }
    }

    /// What is remembered of the batch's samples, `[n, width]`.
    ///
    /// # Errors
    /// The batch does not say which samples it consists of.
    pub(super) fn recall(&self, method: &'static str, inputs: &StepInputs) -> Result<Tensor> {
        self.table.get().detach().gather_rows(&inputs.rows(method)?)
    }

    /// Rows of the batch's samples for [`Memory::commit`] to write.
    pub(super) fn remember(&self, method: &'static str, inputs: &StepInputs, rows: &Tensor) -> Result<()> {
        let seen = Some((inputs.rows(method)?, rows.detach()));
        *self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = seen;
        Ok(())
    }

    /// Writes what was remembered last.
    pub(super) fn commit(&self) -> Result<()> {
        let seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some((index, rows)) = seen else { return Ok(()) };
        self.table.write().set_rows(&index, &rows)
    }

    /// Shows the table as a buffer.
    pub(super) fn visit(&self, name: &str, visitor: &mut Visitor) {
        visitor.buffer(name, &self.table);
    }
}
