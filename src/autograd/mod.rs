//! Reverse-mode automatic differentiation, eager and define-by-run.
//!
//! An op computes its output and hands it to `record` with a closure that turns the output's gradient into the gradients of
//! its inputs. [`Tensor::backward`] walks these closures from the loss back and returns [`Gradients`].

mod gradients;
mod observe;
mod scope;

pub use gradients::Gradients;
pub(crate) use observe::segment_ends;
pub use observe::{keep_time, observe, Cost, OpEvent, Phase, Segment};
pub use scope::{is_recording, no_grad};

use crate::error::Result;
use crate::tensor::history::{next_id, InputGradients, Node};
use crate::tensor::{History, Tensor};
use std::sync::{Arc, Mutex};

/// Completes an op: tells observers about it, and links `output` to `inputs` if a gradient may be asked for later.
///
/// `backward` receives the gradient of the output and, for each input, whether its gradient is needed. What the closure owns is
/// kept until then, so it should own only what it needs; it is dropped at once where nothing is recorded.
pub(crate) fn record(
    op: &'static str,
    cost: Cost,
    mut output: Tensor,
    inputs: &[&Tensor],
    backward: impl FnOnce(&Tensor, &[bool]) -> Result<InputGradients> + Send + 'static,
) -> Result<Tensor> {
    observe::notify(op, cost, &output, inputs);
    if will_record(inputs) {
        output.history = History::Op(Arc::new(Node {
            id: next_id(),
            op,
            inputs: inputs.iter().map(|x| x.history.clone()).collect(),
            backward: Mutex::new(Some(Box::new(backward))),
        }));
    }
    Ok(output)
}

/// Whether an op with these inputs is recorded: if not, what only its backward pass needs can be left out.
pub(crate) fn will_record(inputs: &[&Tensor]) -> bool {
    is_recording() && inputs.iter().any(|x| x.is_tracked())
}

#[cfg(test)]
mod tests;
