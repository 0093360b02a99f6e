//! Sums and means over dimensions.

use super::case::{sample_extent, sample_normal, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

impl Tensor {
    /// The sum over `dims`, which stay as extents of 1 if `keepdim`.
    ///
    /// # Errors
    /// A dimension does not exist or is named twice.
    pub fn sum(&self, dims: &[usize], keepdim: bool) -> Result<Tensor> {
        self.reduce("sum", dims, keepdim, 1.0)
    }

    /// The mean over `dims`, which stay as extents of 1 if `keepdim`.
    ///
    /// # Errors
    /// A dimension does not exist or is named twice.
    pub fn mean(&self, dims: &[usize], keepdim: bool) -> Result<Tensor> {
        let count: usize = dims.iter().filter_map(|&d| self.shape().get(d)).product();
        self.reduce("mean", dims, keepdim, 1.0 / count as f64)
    }

    /// The sum of all elements, a scalar.
    pub fn sum_all(&self) -> Result<Tensor> {
        self.sum(&self.all_dims(), false)
    }

    /// The mean of all elements, a scalar.
    pub fn mean_all(&self) -> Result<Tensor> {
        self.mean(&self.all_dims(), false)
    }

    fn all_dims(&self) -> Vec<usize> {
        (0..self.shape().rank()).collect()
    }

    /// `scale` times the sum over `dims`.
    fn reduce(&self, op: &'static str, dims: &[usize], keepdim: bool, scale: f64) -> Result<Tensor> {
        check::float(op, "self", self)?;
        for (i, &dim) in dims.iter().enumerate() {
            check::dim(op, self, dim)?;
            if dims[..i].contains(&dim) {
                return Err(Error::argument(op, format!("dims {dims:?} name dimension {dim} twice")));
            }
        }
        let backend = self.backend();
        let sum = backend.sum(&self.detach(), dims)?;
        let y = if scale == 1.0 { sum } else { backend.affine(&sum, scale, 0.0)? };
        let y = y.with_shape(self.shape().reduced(dims, keepdim));
        let (shape, kept) = (*self.shape(), self.shape().reduced(dims, true));
        let cost = Cost::new(self.numel() as f64, &[self, &y]);
        record(op, cost, y, &[self], move |dy, _| {
            let dy = if scale == 1.0 { dy.clone() } else { backend.affine(dy, scale, 0.0)? };
            Ok(vec![Some(backend.expand(&dy.with_shape(kept), &shape)?)])
        })
    }
}

macro_rules! spec {
    ($method:ident) => {
        OpSpec {
            name: stringify!($method),
            run: |case| Ok(vec![("y", case.tensor("x")?.$method(&case.counts("dims")?, case.flag("keepdim")?)?)]),
            sample: Some(|random| {
                let dims: [&[usize]; 4] = [&[0], &[1], &[0, 2], &[0, 1, 2]];
                let extents = [(); 3].map(|()| sample_extent(random, 1, 4));
                Case::new()
                    .input("x", sample_normal(random, &extents))
                    .attr("dims", dims[random.below(4) as usize].to_vec())
                    .attr("keepdim", random.bernoulli(0.5))
            }),
        }
    };
}

pub(super) const SPECS: &[OpSpec] = &[spec!(sum), spec!(mean)];
