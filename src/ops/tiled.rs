//! Losses that are sums over tiles and too large to be recorded whole: each tile is differentiated as soon as it is computed, so that
//! only one tile's intermediate results exist at a time. What is kept for the backward pass is the gradient itself.

use super::losses::scaled;
use crate::autograd::{is_recording, no_grad, record, Cost};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::ops::Range;

/// `Σ tile(x, range)` over ranges of at most `len` of `0..count`, for a `tile` that computes a scalar.
///
/// # Errors
/// `count` is 0, or a tile fails.
pub fn sum_of_tiles(
    op: &'static str,
    x: &Tensor,
    count: usize,
    len: usize,
    tile: impl Fn(&Tensor, Range<usize>) -> Result<Tensor>,
) -> Result<Tensor> {
    let differentiate = is_recording() && x.is_tracked();
    let (mut sum, mut gradient): (Option<Tensor>, Option<Tensor>) = (None, None);
    for start in (0..count).step_by(len.max(1)) {
        let range = start..(start + len.max(1)).min(count);
        let value = match differentiate {
            false => no_grad(|| tile(&x.detach(), range))?,
            true => {
                let x = x.variable();
                let value = tile(&x, range)?;
                if let Some(part) = value.backward()?.get(&x) {
                    add(&mut gradient, part)?;
                }
                value.detach()
            }
        };
        add(&mut sum, &value)?;
    }
    let sum = sum.ok_or_else(|| Error::argument(op, "there is nothing to sum over: the batch is empty"))?;
    record(op, Cost::new(0.0, &[x, &sum]), sum, &[x], move |dy, _| {
        Ok(vec![gradient.map(|gradient| scaled(&gradient, dy)).transpose()?])
    })
}

fn add(sum: &mut Option<Tensor>, x: &Tensor) -> Result<()> {
    match sum {
        Some(sum) => sum.backend().add_assign(sum, x),
        None => {
            *sum = Some(x.clone());
            Ok(())
        }
    }
}
