//! Weights of a layer, and what was made of them before.

use super::isa::Isa;
use crate::tensor::{Derived, DerivedKey, Tensor};
use std::any::Any;
use std::sync::Arc;

/// The elements of a weight tensor, with a place for what kernels derive from them (packed panels, transformed filters), so that a
/// frozen network pays for that once.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// The elements.
    pub values: &'a [f32],
    derived: Option<&'a Derived>,
}

impl<'a> Weights<'a> {
    /// The weights of a tensor.
    pub fn of(tensor: &'a Tensor) -> Self {
        Weights { values: tensor.slice(), derived: Some(tensor.storage().derived()) }
    }

    /// What `make` returns, or returned before for the same elements, `kind`, instruction set and sizes.
    pub(crate) fn derive<T: Any + Send + Sync>(
        &self,
        kind: Kind,
        isa: Isa,
        [a, b, c, d, e, f]: [usize; 6],
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let key: DerivedKey = [kind as usize, isa as usize, a, b, c, d, e, f];
        match self.derived {
            Some(derived) => derived.get(key, make),
            None => Arc::new(make()),
        }
    }
}

impl<'a> From<&'a [f32]> for Weights<'a> {
    fn from(values: &'a [f32]) -> Self {
        Weights { values, derived: None }
    }
}

/// What is derived.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Panels of a matrix product.
    Panels,
    /// Filters of a convolution.
    Filters,
}
