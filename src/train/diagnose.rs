//! Finding where a number stopped being finite.

use crate::autograd::observe;
use crate::backend::precision::{self, Precision};
use crate::error::{Error, Result};
use crate::nn::Module;
use std::cell::RefCell;
use std::rc::Rc;

/// Runs the forward pass again and describes the first thing that is not finite: a parameter, or an op's output.
pub fn first_non_finite(model: &dyn Module, forward: impl FnOnce() -> Result<()>) -> Result<String> {
    for (name, parameter) in model.parameters() {
        if !parameter.get().is_finite()? {
            return Ok(format!("the weights `{name}` were not finite before this step"));
        }
    }
    let found = Rc::new(RefCell::new(None));
    let first = found.clone();
    observe(
        move |event| {
            if first.borrow().is_none() && event.output.is_finite().is_ok_and(|finite| !finite) {
                let shapes: Vec<String> = event.inputs.iter().map(|x| format!("{:?}", x.shape())).collect();
                *first.borrow_mut() =
                    Some(format!("the first op to produce it was `{}` of {}", event.op, shapes.join(", ")));
            }
        },
        forward,
    )?;
    let found = found.borrow_mut().take();
    Ok(found.unwrap_or_else(|| "no op of the forward pass produced it again".to_string()))
}

/// The error for a loss that is not finite.
pub fn non_finite_loss(job: &str, loss: f64, step: u64, epoch: usize, where_found: &str, kept: &str) -> Error {
    let next = match precision::active() {
        Precision::F16 => {
            "f16 has no numbers beyond 65,504, nor gradients beyond 64: use --precision bf16 or tf32, or lower --lr"
        }
        _ => "lower --lr, or limit the gradient with --clip-norm",
    };
    Error::NonFinite(format!("{job}: the loss is {loss} at step {step} (epoch {epoch}); {where_found}; {kept}; {next}"))
}
