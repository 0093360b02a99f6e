//! Where a tensor came from: the record that reverse-mode differentiation walks back. `autograd` builds and reads it.

use super::Tensor;
use crate::error::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Gradients of an op's inputs, in their order; `None` where there is none or none was needed.
pub type InputGradients = Vec<Option<Tensor>>;

/// Computes the gradients of an op's inputs from the gradient of its output. The second argument says which are needed.
pub type BackwardFn = Box<dyn FnOnce(&Tensor, &[bool]) -> Result<InputGradients> + Send>;

/// How a tensor came to be, as far as gradients are concerned.
#[derive(Clone, Default)]
pub enum History {
    /// A constant: no gradient flows here.
    #[default]
    Constant,
    /// A variable, known by this number in `Gradients`.
    Leaf(u64),
    /// The output of a recorded op.
    Op(Arc<Node>),
}

/// One recorded op.
pub struct Node {
    /// Grows with time, so that an op's inputs always have smaller numbers than the op.
    pub id: u64,
    /// The op's name, for messages.
    pub op: &'static str,
    /// Where each input came from.
    pub inputs: Vec<History>,
    /// Taken when the node is differentiated, which frees what it kept.
    pub backward: Mutex<Option<BackwardFn>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A number never given before, for a leaf or a node.
pub fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

impl Drop for Node {
    /// Unlinks long chains in a loop: the default, recursive drop would overflow the stack of a deep graph.
    /// What a node kept goes first, while `inputs` still hold the nodes before it alive.
    fn drop(&mut self) {
        drop(self.backward.get_mut().map(Option::take));
        let mut pending = std::mem::take(&mut self.inputs);
        while let Some(history) = pending.pop() {
            if let History::Op(node) = history {
                if let Some(mut last_owner) = Arc::into_inner(node) {
                    pending.append(&mut last_owner.inputs);
                }
            }
        }
    }
}
