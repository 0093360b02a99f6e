//! A tensor that a model owns and that changes over time.

use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

/// A cell that holds a tensor. Clones share the cell; tensors taken from it are values that never change.
#[derive(Clone)]
pub struct Parameter(Arc<Cell>);

struct Cell {
    value: RwLock<Tensor>,
    view: RwLock<Option<Arc<dyn View>>>,
}

/// What a layer computes with instead of its weight's value and its input: differentiable functions of them, such as their rounding.
pub trait View: Send + Sync {
    /// What the layer takes for its weight.
    fn weight(&self, weight: &Tensor) -> Result<Tensor>;

    /// What it takes for its input.
    fn input(&self, x: &Tensor, training: bool) -> Result<Tensor>;

    /// The range that inputs are rounded in, if they are.
    fn range(&self) -> Option<InputRange>;

    /// Sets that range.
    fn set_range(&self, to: InputRange);
}

/// The range that a layer's inputs are rounded in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InputRange {
    /// The largest magnitude: an average over the batches of training; 0 before the first.
    pub largest: f32,
    /// How many batches have gone into it.
    pub batches: u32,
}

impl Parameter {
    /// A trainable parameter with this initial value.
    pub fn new(value: &Tensor) -> Parameter {
        Parameter::of(value.variable())
    }

    /// A buffer: saved with the model, never differentiated.
    pub fn buffer(value: &Tensor) -> Parameter {
        Parameter::of(value.detach())
    }

    fn of(value: Tensor) -> Parameter {
        Parameter(Arc::new(Cell { value: RwLock::new(value), view: RwLock::new(None) }))
    }

    /// What a layer computes with: the value, or what [`Parameter::compute_with`] makes of it.
    ///
    /// # Errors
    /// The view cannot be computed.
    pub fn in_use(&self) -> Result<Tensor> {
        self.view().map_or_else(|| Ok(self.get()), |view| view.weight(&self.get()))
    }

    /// As [`Parameter::in_use`] for the layer whose weight this is, with what it computes with for an input.
    ///
    /// # Errors
    /// The view cannot be computed.
    pub fn in_use_on(&self, x: &Tensor, training: bool) -> Result<(Tensor, Tensor)> {
        match self.view() {
            None => Ok((x.clone(), self.get())),
            Some(view) => Ok((view.input(x, training)?, view.weight(&self.get())?)),
        }
    }

    /// What layers see it through, if not directly.
    pub fn view(&self) -> Option<Arc<dyn View>> {
        self.0.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on layers see it through a view, or again directly.
    pub fn compute_with(&self, view: Option<Arc<dyn View>>) {
        *self.0.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// From now on the value is a constant to gradients.
    pub fn freeze(&self) {
        let constant = self.get().detach();
        *self.write() = constant;
    }

    /// The value now, as the variable that gradients are looked up by.
    pub fn get(&self) -> Tensor {
        self.0.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The value, to change in place. Drop tensors taken with [`Parameter::get`] first, or the change has to copy.
    pub fn write(&self) -> RwLockWriteGuard<'_, Tensor> {
        self.0.value.write().unwrap_or_else(PoisonError::into_inner)
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
