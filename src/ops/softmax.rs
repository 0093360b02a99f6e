//! Softmax and its logarithm over the last dimension, with temperature.

use super::case::{sample_extent, sample_normal, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::error::Result;
use crate::tensor::random::Sequence;
use crate::tensor::Tensor;

impl Tensor {
    /// `softmax(x / temperature)` over the last dimension.
    ///
    /// # Errors
    /// The temperature is not above 0, or `x` is a scalar.
    pub fn softmax(&self, temperature: f64) -> Result<Tensor> {
        apply("softmax", self, temperature, false)
    }

    /// `log softmax(x / temperature)` over the last dimension.
    ///
    /// # Errors
    /// The temperature is not above 0, or `x` is a scalar.
    pub fn log_softmax(&self, temperature: f64) -> Result<Tensor> {
        apply("log_softmax", self, temperature, true)
    }

    /// The index of the largest element of each row (the first, if several), as `I32`. Not differentiable.
    pub fn argmax(&self) -> Result<Tensor> {
        check::float("argmax", "x", self)?;
        check::dim("argmax", self, 0)?;
        self.backend().argmax(&self.detach())
    }
}

fn apply(op: &'static str, x: &Tensor, temperature: f64, log: bool) -> Result<Tensor> {
    check::float(op, "x", x)?;
    check::dim(op, x, 0)?;
    check::temperature(op, temperature)?;
    let backend = x.backend();
    let y = backend.softmax(&x.detach(), temperature, log)?;
    let kept = y.clone();
    let cost = Cost::new(4.0 * x.numel() as f64, &[x, &y]);
    record(op, cost, y, &[x], move |dy, _| Ok(vec![Some(backend.softmax_grad(&kept, dy, temperature, log)?)]))
}

fn sample(random: &mut Sequence) -> Case {
    let dims = [sample_extent(random, 1, 3), sample_extent(random, 1, 6)];
    let x = sample_normal(random, &dims);
    Case::new().input("x", x).attr("temperature", f64::from(random.uniform_in(0.5, 5.0)))
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "softmax",
        run: |case| Ok(vec![("y", case.tensor("x")?.softmax(case.number("temperature")?)?)]),
        sample: Some(sample),
    },
    OpSpec {
        name: "log_softmax",
        run: |case| Ok(vec![("y", case.tensor("x")?.log_softmax(case.number("temperature")?)?)]),
        sample: Some(sample),
    },
];
