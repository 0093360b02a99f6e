//! Other views of the same elements: expand, reshape, permute, concat, narrow.

use super::case::{sample_extent, sample_normal, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

impl Tensor {
    /// This tensor repeated along its dimensions of extent 1 (and new leading ones) to fill `shape`.
    ///
    /// # Errors
    /// An extent is neither 1 nor the wanted one.
    pub fn expand(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        if Shape::broadcast("expand", self.shape(), &shape).ok() != Some(shape) {
            return Err(check::shape_error("expand", "self", self, format!("a shape that broadcasts to {shape:?}")));
        }
        let y = self.backend().expand(&self.detach(), &shape)?;
        let from = *self.shape();
        record("expand", Cost::new(0.0, &[self, &y]), y, &[self], move |dy, _| Ok(vec![Some(dy.sum_to(&from)?)]))
    }

    /// The same elements with other extents; nothing is copied.
    ///
    /// # Errors
    /// The number of elements differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let (from, shape) = (*self.shape(), shape.into());
        if shape.numel() != from.numel() {
            let expected = format!("{} elements, to become {shape:?}", shape.numel());
            return Err(check::shape_error("reshape", "self", self, expected));
        }
        let y = self.with_shape(shape);
        record("reshape", Cost::default(), y, &[self], move |dy, _| Ok(vec![Some(dy.with_shape(from))]))
    }

    /// Dimensions `from_dim` and up merged into one: `[n, c, h, w]` becomes `[n, c·h·w]` with `flatten(1)`.
    ///
    /// # Errors
    /// The dimension does not exist.
    pub fn flatten(&self, from_dim: usize) -> Result<Tensor> {
        check::dim("flatten", self, from_dim)?;
        let (kept, merged) = self.shape().split_at(from_dim);
        self.reshape(Shape::new(&[kept, &[merged.iter().product()]].concat())?)
    }

    /// Dimension `i` of the result is dimension `dims[i]` of this tensor.
    ///
    /// # Errors
    /// `dims` does not name every dimension once.
    pub fn permute(&self, dims: &[usize]) -> Result<Tensor> {
        let rank = self.shape().rank();
        let inverse: Option<Vec<usize>> = (0..rank).map(|d| dims.iter().position(|&from| from == d)).collect();
        let Some(inverse) = inverse.filter(|_| dims.len() == rank) else {
            let reason =
                format!("dims are {dims:?}, expected each of the {rank} dimensions of {:?} once", self.shape());
            return Err(Error::argument("permute", reason));
        };
        let y = self.backend().permute(&self.detach(), dims)?;
        let cost = Cost::new(0.0, &[self, &y]);
        record("permute", cost, y, &[self], move |dy, _| Ok(vec![Some(dy.backend().permute(dy, &inverse)?)]))
    }

    /// This tensor with two dimensions exchanged.
    ///
    /// # Errors
    /// A dimension does not exist.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Tensor> {
        check::dim("transpose", self, a)?;
        check::dim("transpose", self, b)?;
        let mut dims: Vec<usize> = (0..self.shape().rank()).collect();
        dims.swap(a, b);
        self.permute(&dims)
    }

    /// The parts one after another along `dim`. They may be of any dtype.
    ///
    /// # Errors
    /// There is no part, or parts differ in dtype, device or any other extent.
    pub fn concat(parts: &[&Tensor], dim: usize) -> Result<Tensor> {
        let [first, ..] = parts else {
            return Err(Error::argument("concat", "needs at least one tensor"));
        };
        check::dim("concat", first, dim)?;
        let others = first.shape().reduced(&[dim], true);
        for part in parts {
            check::dtype("concat", "parts", part, first.dtype())?;
            check::same_device("concat", first, part)?;
            if part.shape().rank() <= dim || part.shape().reduced(&[dim], true) != others {
                let expected = format!("that of {:?} except in dimension {dim}", first.shape());
                return Err(check::shape_error("concat", "parts", part, expected));
            }
        }
        let detached: Vec<Tensor> = parts.iter().map(|part| part.detach()).collect();
        let y = first.backend().concat(&detached.iter().collect::<Vec<_>>(), dim)?;
        let lens: Vec<usize> = parts.iter().map(|part| part.shape()[dim]).collect();
        record("concat", Cost::new(0.0, &[&y, &y]), y, parts, move |dy, needed| {
            let mut start = 0;
            let slice = |(&len, &needed): (&usize, &bool)| {
                start += len;
                needed.then(|| dy.backend().narrow(dy, dim, start - len, len)).transpose()
            };
            lens.iter().zip(needed).map(slice).collect()
        })
    }

    /// Positions `start..start + len` along `dim`.
    ///
    /// # Errors
    /// The range is not inside the dimension.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Tensor> {
        check::dim("narrow", self, dim)?;
        let extent = self.shape()[dim];
        if start.checked_add(len).is_none_or(|end| end > extent) {
            let expected = format!("at least {start} + {len} positions in dimension {dim}");
            return Err(check::shape_error("narrow", "self", self, expected));
        }
        let y = self.backend().narrow(&self.detach(), dim, start, len)?;
        let (before, after) =
            (self.shape().with_extent(dim, start), self.shape().with_extent(dim, extent - start - len));
        record("narrow", Cost::new(0.0, &[&y, &y]), y, &[self], move |dy, _| {
            let zeros = |shape| Tensor::zeros(shape, dy.dtype(), dy.device());
            Ok(vec![Some(dy.backend().concat(&[&zeros(before)?, dy, &zeros(after)?], dim)?)])
        })
    }

    /// Sums over the dimensions along which `shape` was broadcast to this tensor's shape.
    pub(super) fn sum_to(&self, shape: &Shape) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        let lead = self.shape().rank() - shape.rank();
        let repeated = |&i: &usize| i < lead || (shape[i - lead] == 1 && self.shape()[i] != 1);
        let dims: Vec<usize> = (0..self.shape().rank()).filter(repeated).collect();
        Ok(self.backend().sum(self, &dims)?.with_shape(*shape))
    }
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "expand",
        run: |case| Ok(vec![("y", case.tensor("x")?.expand(Shape::new(&case.counts("shape")?)?)?)]),
        sample: Some(|random| {
            let [a, b, c] = [(); 3].map(|()| sample_extent(random, 1, 4));
            Case::new().input("x", sample_normal(random, &[b, 1])).attr("shape", vec![a, b, c])
        }),
    },
    OpSpec {
        name: "reshape",
        run: |case| Ok(vec![("y", case.tensor("x")?.reshape(Shape::new(&case.counts("shape")?)?)?)]),
        sample: Some(|random| Case::new().input("x", sample_normal(random, &[2, 3, 4])).attr("shape", vec![4, 6])),
    },
    OpSpec {
        name: "permute",
        run: |case| Ok(vec![("y", case.tensor("x")?.permute(&case.counts("dims")?)?)]),
        sample: Some(|random| {
            let extents = [(); 3].map(|()| sample_extent(random, 1, 4));
            let dims: Vec<u32> = random.permutation(3);
            Case::new().input("x", sample_normal(random, &extents)).attr("dims", dims)
        }),
    },
    OpSpec {
        name: "concat",
        run: |case| {
            let dim = case.count("dim")?;
            let parts = case.inputs().keys().map(|name| case.tensor(name)).collect::<Result<Vec<_>>>()?;
            Ok(vec![("y", Tensor::concat(&parts.iter().collect::<Vec<_>>(), dim)?)])
        },
        sample: Some(|random| {
            let dim = random.below(3) as usize;
            let mut part = || {
                let mut extents = [2, 3, 2];
                extents[dim] = sample_extent(random, 1, 3);
                sample_normal(random, &extents)
            };
            Case::new().input("a", part()).input("b", part()).input("c", part()).attr("dim", dim)
        }),
    },
    OpSpec {
        name: "narrow",
        run: |case| {
            let (dim, start, len) = (case.count("dim")?, case.count("start")?, case.count("len")?);
            Ok(vec![("y", case.tensor("x")?.narrow(dim, start, len)?)])
        },
        sample: Some(|random| {
            let (start, len) = (sample_extent(random, 0, 2), sample_extent(random, 1, 2));
            Case::new()
                .input("x", sample_normal(random, &[4, 4, 4]))
                .attr("dim", random.below(3))
                .attr("start", start)
                .attr("len", len)
        }),
    },
];
