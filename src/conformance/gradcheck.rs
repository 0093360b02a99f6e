//! Gradients against central differences, in `f64`.

use super::fixture::on_device;
use crate::autograd::no_grad;
use crate::error::{Error, Result};
use crate::ops::case::sample_normal;
use crate::ops::{Case, OpSpec, Outputs};
use crate::tensor::random::Sequence;
use crate::tensor::{Device, Rng, Tensor};
use serde::Serialize;

/// How far an input is moved to each side.
const EPS: f64 = 1e-6;
/// A gradient is right when |analytic − numeric| ≤ atol + RTOL · |numeric|.
const RTOL: f64 = 1e-3;

/// The absolute tolerance: the differences are always taken in `f64`, but devices compute their gradients in `f32`.
fn atol(device: Device) -> f64 {
    match device {
        Device::Reference => 1e-5,
        _ => 1e-4,
    }
}

/// What came of checking one op.
#[derive(Clone, Debug, Serialize)]
pub struct GradcheckRow {
    /// The op.
    pub op: &'static str,
    /// Random cases tried.
    pub cases: usize,
    /// Input elements whose derivative was compared.
    pub elements: usize,
    /// The largest |analytic − numeric| / (|numeric| + 1e-2).
    pub worst_relative_error: f64,
    /// The largest error over what is allowed; at most 1 if the op is right.
    pub worst: f64,
}

impl GradcheckRow {
    /// Whether every element was within tolerance; NaN never is.
    pub fn passed(&self) -> bool {
        self.worst <= 1.0
    }
}

/// Checks an op on `cases` random cases drawn from `seed`; `None` if it has no gradient. The gradient is computed on `device`; the
/// finite differences on the reference backend.
///
/// # Errors
/// The op refuses its own sample, gives a gradient to an input that is detached, or none to one that is not.
pub fn gradcheck(spec: &OpSpec, cases: usize, seed: u64, device: Device) -> Result<Option<GradcheckRow>> {
    let Some(sample) = spec.sample else { return Ok(None) };
    let mut row = GradcheckRow { op: spec.name, cases, elements: 0, worst_relative_error: 0.0, worst: 0.0 };
    for case in 0..cases {
        let mut random = Rng::new(seed, case as u64).sequence();
        check_case(spec, sample(&mut random), &mut random, device, &mut row)?;
    }
    Ok(Some(row))
}

fn check_case(
    spec: &OpSpec,
    mut case: Case,
    random: &mut Sequence,
    device: Device,
    row: &mut GradcheckRow,
) -> Result<()> {
    let detached = case.detached();
    let inputs: Vec<(String, Tensor)> = case.inputs().iter().map(|(name, x)| (name.clone(), x.clone())).collect();
    for (name, x) in &inputs {
        case.set_input(name, variable(&on_device(x, device)?));
    }
    let outputs = (spec.run)(&case)?;
    let weights = weights(&outputs, random)?;
    let gradients = weighted_sum(&outputs, &weights)?.backward()?;
    let variables = case.inputs().clone();
    // The differences start from the very numbers that the device was given.
    let exact = |x: &Tensor| on_device(&on_device(x, device)?, Device::Reference);
    let inputs = inputs.iter().map(|(name, x)| Ok((name.clone(), exact(x)?))).collect::<Result<Vec<_>>>()?;
    let weights = weights.iter().map(|w| w.as_ref().map(exact).transpose()).collect::<Result<Vec<Option<Tensor>>>>()?;
    for (name, x) in &inputs {
        case.set_input(name, variable(x));
    }
    for (name, x) in inputs.iter().filter(|(_, x)| x.dtype().is_float()) {
        let wrong = |what: &str| Error::argument(spec.name, format!("input `{name}` {what}"));
        match (gradients.get(&variables[name]), detached.contains(name)) {
            (Some(_), true) => return Err(wrong("is detached but received a gradient")),
            (None, false) => return Err(wrong("received no gradient")),
            (None, true) => {}
            (Some(gradient), false) => {
                for (i, analytic) in gradient.to_f64_vec()?.into_iter().enumerate() {
                    let mut at = |delta| no_grad(|| moved(spec, &mut case, (name, x), i, delta, &weights));
                    let numeric = (at(EPS)? - at(-EPS)?) / (2.0 * EPS);
                    row.compare(analytic, numeric, atol(device));
                }
                case.set_input(name, variable(x));
            }
        }
    }
    Ok(())
}

/// Floats as variables, other tensors as they are.
fn variable(x: &Tensor) -> Tensor {
    match x.dtype().is_float() {
        true => x.variable(),
        false => x.clone(),
    }
}

impl GradcheckRow {
    fn compare(&mut self, analytic: f64, numeric: f64, atol: f64) {
        let error = (analytic - numeric).abs();
        let worse = |old: f64, new: f64| if new.is_nan() || new > old { new } else { old };
        self.elements += 1;
        self.worst = worse(self.worst, error / (atol + RTOL * numeric.abs()));
        self.worst_relative_error = worse(self.worst_relative_error, error / (numeric.abs() + 1e-2));
    }
}

/// One weight for each element of each output that is differentiated: 1 for `total`, else random.
fn weights(outputs: &Outputs, random: &mut Sequence) -> Result<Vec<Option<Tensor>>> {
    let has_total = outputs.iter().any(|(name, _)| *name == "total");
    let weight = |(name, y): &(&str, Tensor)| match (has_total, *name == "total", y.is_tracked()) {
        (true, false, _) | (_, _, false) => Ok(None),
        (true, true, _) => Tensor::full(*y.shape(), 1.0, y.dtype(), y.device()).map(Some),
        (false, ..) => on_device(&sample_normal(random, y.shape()), y.device()).map(Some),
    };
    outputs.iter().map(weight).collect()
}

fn weighted_sum(outputs: &Outputs, weights: &[Option<Tensor>]) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for ((_, y), weight) in outputs.iter().zip(weights) {
        if let Some(weight) = weight {
            let term = y.mul(weight)?.sum_all()?;
            sum = Some(match sum {
                Some(sum) => sum.add(&term)?,
                None => term,
            });
        }
    }
    sum.ok_or_else(|| Error::argument("gradcheck", "no output depends on any input"))
}

/// The weighted sum with element `i` of one input moved by `delta`.
fn moved(
    spec: &OpSpec,
    case: &mut Case,
    (name, x): (&str, &Tensor),
    i: usize,
    delta: f64,
    weights: &[Option<Tensor>],
) -> Result<f64> {
    let mut values = x.to_f64_vec()?;
    values[i] += delta;
    case.set_input(name, Tensor::from_slice(&values, *x.shape(), x.device())?);
    weighted_sum(&(spec.run)(case)?, weights)?.item()
}
