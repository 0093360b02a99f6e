//! Fully connected layer, alone and fused with ReLU.

use super::case::{sample_extent, sample_normal, Case, OpSpec};
use super::check;
use super::matmul::as_rows;
use crate::autograd::{record, Cost};
use crate::backend::params::{Matmul, Side, Unary};
use crate::error::Result;
use crate::tensor::{Shape, Tensor};

impl Tensor {
    /// `x wᵀ + bias`: `self` is `[…, in]`, `weight` `[out, in]`, `bias` `[out]`; the result is `[…, out]`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        self.affine_map("linear", weight, bias, false)
    }

    /// `relu(x wᵀ + bias)` in one pass.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn linear_relu(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        self.affine_map("linear_relu", weight, bias, true)
    }

    fn affine_map(&self, op: &'static str, weight: &Tensor, bias: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        check::alike(op, self, "weight", weight)?;
        check::dim(op, self, 0)?;
        check::rank(op, "weight", weight, 2, "[out, in]")?;
        let (out, inner) = (weight.shape()[0], weight.shape()[1]);
        let lead = &self.shape()[..self.shape().rank() - 1];
        check::shape(op, "self", self, &Shape::new(&[lead, &[inner]].concat())?)?;
        if let Some(bias) = bias {
            check::alike(op, self, "bias", bias)?;
            check::shape(op, "bias", bias, &Shape::from([out]))?;
        }

        let (x, w) = (as_rows(self)?, weight.detach());
        let p = Matmul { transpose_b: true, relu, ..Matmul::default() };
        let y = x.backend().matmul(p, &x, &w, bias.map(Tensor::detach).as_ref())?;
        let kept = relu.then(|| y.clone());
        let y = y.with_shape(Shape::new(&[lead, &[out]].concat())?);
        let cost = Cost::new(2.0 * (y.numel() * inner) as f64, &[&x, &w, &y]);
        let shape = *self.shape();
        let inputs: Vec<&Tensor> = [self, weight].into_iter().chain(bias).collect();
        record(op, cost, y, &inputs, move |dy, needed| {
            let backend = dy.backend();
            let dy = as_rows(dy)?;
            let dy = match &kept {
                Some(y) => backend.unary_grad(Unary::Relu, y, y, &dy)?,
                None => dy,
            };
            let gradient = Some(Side::A);
            let dx = || {
                let p = Matmul { gradient, ..Matmul::default() };
                Ok(backend.matmul(p, &dy, &w, None)?.with_shape(shape))
            };
            let dw = || backend.matmul(Matmul { transpose_a: true, gradient, ..Matmul::default() }, &dy, &x, None);
            let db = || Ok(backend.sum(&dy, &[0])?.with_shape(Shape::from([out])));
            let mut gradients = vec![needed[0].then(dx).transpose()?, needed[1].then(dw).transpose()?];
            if let Some(needed) = needed.get(2) {
                gradients.push(needed.then(db).transpose()?);
            }
            Ok(gradients)
        })
    }
}

macro_rules! spec {
    ($method:ident) => {
        OpSpec {
            name: stringify!($method),
            run: |case| {
                let bias = case.optional("bias");
                Ok(vec![("y", case.tensor("x")?.$method(&case.tensor("weight")?, bias.as_ref())?)])
            },
            sample: Some(|random| {
                let [n, inner, out] = [(); 3].map(|()| sample_extent(random, 1, 5));
                let case = Case::new()
                    .input("x", sample_normal(random, &[n, inner]))
                    .input("weight", sample_normal(random, &[out, inner]));
                match random.bernoulli(0.7) {
                    true => case.input("bias", sample_normal(random, &[out])),
                    false => case,
                }
            }),
        }
    };
}

pub(super) const SPECS: &[OpSpec] = &[spec!(linear), spec!(linear_relu)];
