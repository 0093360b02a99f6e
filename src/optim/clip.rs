//! Limiting gradients.

use crate::autograd::Gradients;
use crate::error::{Error, Result};
use crate::nn::Parameter;
use crate::tensor::Tensor;

/// Keeps the division by the norm defined, as in PyTorch.
const EPS: f64 = 1e-6;

/// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, where the norm is the L2 norm of all of them together (Pascanu et
/// al. 2013). Returns the norm before clipping.
///
/// # Errors
/// `max_norm` is not above 0.
pub fn clip_grad_norm(parameters: &[(String, Parameter)], gradients: &mut Gradients, max_norm: f64) -> Result<f64> {
    let (norm, factor) = clip_factor(parameters, gradients, max_norm)?;
    if factor < 1.0 {
        for (_, parameter) in parameters {
            let variable = parameter.get();
            if let Some(gradient) = gradients.get(&variable) {
                let scaled = gradient.backend().affine(gradient, factor, 0.0)?;
                gradients.set(&variable, scaled);
            }
        }
    }
    Ok(norm)
}

/// The norm of all gradients together, and what [`clip_grad_norm`] multiplies them by.
pub(super) fn clip_factor(
    parameters: &[(String, Parameter)],
    gradients: &Gradients,
    max_norm: f64,
) -> Result<(f64, f64)> {
    check_limit("clip_grad_norm", max_norm)?;
    let all: Vec<&Tensor> = parameters.iter().filter_map(|(_, p)| gradients.get(&p.get())).collect();
    let norm = match all.first() {
        Some(gradient) => gradient.backend().sum_of_squares(&all)?.sqrt(),
        None => 0.0,
    };
    Ok((norm, (max_norm / (norm + EPS)).min(1.0)))
}

/// Limits every element of every gradient to `±max_value`.
///
/// # Errors
/// `max_value` is not above 0.
pub fn clip_grad_value(parameters: &[(String, Parameter)], gradients: &mut Gradients, max_value: f64) -> Result<()> {
    check_limit("clip_grad_value", max_value)?;
    for (_, parameter) in parameters {
        let variable = parameter.get();
        if let Some(gradient) = gradients.get(&variable) {
            // min(x, m) = m − relu(m − x), then the same from below.
            let below = gradient.affine(-1.0, max_value)?.relu()?.affine(-1.0, max_value)?;
            let both = below.affine(1.0, max_value)?.relu()?.affine(1.0, -max_value)?;
            gradients.set(&variable, both);
        }
    }
    Ok(())
}

fn check_limit(what: &str, limit: f64) -> Result<()> {
    match limit > 0.0 && limit.is_finite() {
        true => Ok(()),
        false => Err(Error::argument(what, format!("the limit must be above 0, found {limit}"))),
    }
}
