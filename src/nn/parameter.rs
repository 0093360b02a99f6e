//! A tensor that a model owns and that changes over time.

use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::sync::{Arc, RwLock, RwLockWriteGuard};

/// A cell that holds a tensor. Clones share the cell; tensors taken from it are values that never change.
#[derive(Clone)]
pub struct Parameter(Arc<RwLock<Tensor>>);

impl Parameter {
    /// A trainable parameter with this initial value.
    pub fn new(value: &Tensor) -> Parameter {
        Parameter(Arc::new(RwLock::new(value.variable())))
    }

    /// A buffer: saved with the model, never differentiated.
    pub fn buffer(value: &Tensor) -> Parameter {
        Parameter(Arc::new(RwLock::new(value.detach())))
    }

    /// The value now, as the variable that gradients are looked up by.
    pub fn get(&self) -> Tensor {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// The value, to change in place. Drop tensors taken with [`Parameter::get`] first, or the change has to copy.
    pub fn write(&self) -> RwLockWriteGuard<'_, Tensor> {
        self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether both are the same cell.
    pub fn is(&self, other: &Parameter) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Replaces the value; the variable stays the same.
    ///
    /// # Errors
    /// The new value has another shape, dtype or device.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        let mut now = self.write();
        let describe = |t: &Tensor| format!("{} {:?} on {}", t.dtype(), t.shape(), t.device());
        let (expected, found) = (describe(&now), describe(value));
        if expected != found {
            return Err(Error::Shape { op: "parameter", arg: "value", expected, found });
        }
        let variable = std::mem::take(&mut now.history);
        *now = value.detach();
        now.history = variable;
        Ok(())
    }
}
