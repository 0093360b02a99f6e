//! The backward pass.

use super::{no_grad, segment_ends, Phase};
use crate::error::{Error, Result};
use crate::tensor::history::Node;
use crate::tensor::{History, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The gradients of one scalar with respect to every variable it depends on.
#[derive(Default)]
pub struct Gradients {
    by_leaf: HashMap<u64, Tensor>,
}

impl Gradients {
    /// The gradient of a variable; `None` if the scalar does not depend on it.
    pub fn get(&self, variable: &Tensor) -> Option<&Tensor> {
        match variable.history {
            History::Leaf(id) => self.by_leaf.get(&id),
            _ => None,
        }
    }

    /// Replaces a variable's gradient, for example with a clipped one.
    pub fn set(&mut self, variable: &Tensor, gradient: Tensor) {
        if let History::Leaf(id) = variable.history {
            self.by_leaf.insert(id, gradient);
        }
    }

    /// How many variables have a gradient.
    pub fn len(&self) -> usize {
        self.by_leaf.len()
    }

    /// Whether no variable has a gradient.
    pub fn is_empty(&self) -> bool {
        self.by_leaf.is_empty()
    }
}

impl Tensor {
    /// The gradients of this scalar with respect to every variable it was computed from. Frees the recorded ops.
    ///
    /// # Errors
    /// The tensor has more than one element (use [`Tensor::backward_from`]), or its ops were already differentiated.
    pub fn backward(&self) -> Result<Gradients> {
        if self.numel() != 1 {
            let expected = "one element (or use `backward_from` with the gradient of each)".to_string();
            return Err(Error::Shape { op: "backward", arg: "self", expected, found: format!("{:?}", self.shape()) });
        }
        self.backward_from(&Tensor::full(*self.shape(), 1.0, self.dtype(), self.device())?)
    }

    /// As [`Tensor::backward`], from a given gradient of this tensor.
    ///
    /// # Errors
    /// `gradient` has another shape or dtype, or the ops were already differentiated.
    pub fn backward_from(&self, gradient: &Tensor) -> Result<Gradients> {
        if gradient.shape() != self.shape() || gradient.dtype() != self.dtype() {
            let expected = format!("{} {:?}, as the tensor itself", self.dtype(), self.shape());
            let found = format!("{} {:?}", gradient.dtype(), gradient.shape());
            return Err(Error::Shape { op: "backward_from", arg: "gradient", expected, found });
        }
        no_grad(|| {
            let mut sweep = Sweep::default();
            sweep.deliver(&self.history, gradient.clone())?;
            // Ops are numbered as they run, so the largest number has received all of its gradient.
            while let Some((_, (node, gradient))) = sweep.pending.pop_last() {
                sweep.differentiate(&node, gradient)?;
            }
            Ok(sweep.gradients)
        })
    }
}

/// The state of a backward pass: ops that have received some gradient, and the finished gradients of variables.
#[derive(Default)]
struct Sweep {
    pending: BTreeMap<u64, (Arc<Node>, Tensor)>,
    gradients: Gradients,
}

impl Sweep {
    fn differentiate(&mut self, node: &Node, gradient: Tensor) -> Result<()> {
        let backward = node.backward.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some(backward) = backward else {
            let reason = format!("`{}` was already differentiated; run the forward pass again", node.op);
            return Err(Error::argument("backward", reason));
        };
        let needed: Vec<bool> = node.inputs.iter().map(|h| !matches!(h, History::Constant)).collect();
        let shape = *gradient.shape();
        let input_gradients = backward(&gradient, &needed)?;
        debug_assert_eq!(input_gradients.len(), needed.len(), "{} returned a gradient too many or too few", node.op);
        for (history, gradient) in node.inputs.iter().zip(input_gradients) {
            if let Some(gradient) = gradient {
                self.deliver(history, gradient)?;
            }
        }
        drop(gradient);
        segment_ends(Phase::Backward, node.op, shape);
        Ok(())
    }

    /// Adds a gradient to what its receiver has so far.
    fn deliver(&mut self, to: &History, gradient: Tensor) -> Result<()> {
        match to {
            History::Constant => Ok(()),
            History::Leaf(id) => match self.gradients.by_leaf.get_mut(id) {
                Some(sum) => sum.backend().add_assign(sum, &gradient),
                None => {
                    self.gradients.by_leaf.insert(*id, gradient);
                    Ok(())
                }
            },
            History::Op(node) => match self.pending.get_mut(&node.id) {
                Some((_, sum)) => sum.backend().add_assign(sum, &gradient),
                None => {
                    self.pending.insert(node.id, (node.clone(), gradient));
                    Ok(())
                }
            },
        }
    }
}
