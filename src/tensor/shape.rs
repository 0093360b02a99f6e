//! The extents of a tensor, outermost first.

use crate::error::{Error, Result};
use std::fmt;
use std::ops::Deref;

/// The most dimensions a tensor can have.
pub const MAX_RANK: usize = 6;

/// The extents of a tensor, row-major, outermost first. A scalar has rank 0. Images are `[n, c, h, w]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// The shape of a single number.
    pub const SCALAR: Shape = Shape { dims: [0; MAX_RANK], rank: 0 };

    /// A shape from its extents.
    ///
    /// # Errors
    /// More than [`MAX_RANK`] dimensions, or more elements than `usize` can count.
    pub fn new(dims: &[usize]) -> Result<Shape> {
        let overflows = || dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_none();
        if dims.len() > MAX_RANK || overflows() {
            let limit = format!("at most {MAX_RANK} dimensions and {} elements", usize::MAX);
            return Err(Error::argument("shape", format!("{dims:?} is too large; {limit} are possible")));
        }
        Ok(Shape::from_slice(dims))
    }

    /// As [`Shape::new`], for extents that are already known to be in range.
    fn from_slice(dims: &[usize]) -> Shape {
        let mut shape = Shape { dims: [0; MAX_RANK], rank: dims.len() };
        shape.dims[..dims.len()].copy_from_slice(dims);
        shape
    }

    /// The extents.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.dims().iter().product()
    }

    /// Elements between neighbours along each dimension of a contiguous tensor.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for i in (0..self.rank).rev() {
            strides[i] = step;
            step *= self.dims[i];
        }
        strides
    }

    /// The shape that two operands broadcast to (NumPy's rule: aligned at the right, extents equal or 1).
    pub fn broadcast(op: &'static str, a: &Shape, b: &Shape) -> Result<Shape> {
        let rank = a.rank.max(b.rank);
        let mut out = Shape { dims: [0; MAX_RANK], rank };
        let extent = |s: &Shape, i: usize| if i + s.rank < rank { 1 } else { s.dims[i + s.rank - rank] };
        for i in 0..rank {
            out.dims[i] = match (extent(a, i), extent(b, i)) {
                (x, y) if x == y => x,
                (1, y) => y,
                (x, 1) => x,
                _ => {
                    let expected =
                        format!("a shape that broadcasts with {a:?} (extents equal or 1, aligned at the right)");
                    return Err(Error::Shape { op, arg: "b", expected, found: format!("{b:?}") });
                }
            };
        }
        Ok(out)
    }

    /// Strides for reading a tensor of this shape as if it had the shape `out`: 0 where it is repeated.
    pub fn broadcast_strides(&self, out: &Shape) -> [usize; MAX_RANK] {
        let own = self.strides();
        let lead = out.rank - self.rank;
        let mut strides = [0; MAX_RANK];
        for i in 0..self.rank {
            strides[lead + i] = if self.dims[i] == 1 { 0 } else { own[i] };
        }
        strides
    }

    /// This shape with another extent in dimension `dim`, which must exist.
    pub fn with_extent(&self, dim: usize, extent: usize) -> Shape {
        let mut shape = *self;
        shape.dims[..shape.rank][dim] = extent;
        shape
    }

    /// This shape with the dimensions in `dims` set to 1 (`keep`) or taken out.
    pub fn reduced(&self, dims: &[usize], keep: bool) -> Shape {
        let kept = (0..self.rank).filter_map(|i| match dims.contains(&i) {
            true => keep.then_some(1),
            false => Some(self.dims[i]),
        });
        Shape::from_slice(&kept.collect::<Vec<_>>())
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        self.dims()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let dims: Vec<String> = self.dims().iter().map(usize::to_string).collect();
        write!(f, "{}", dims.join("×"))
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    /// For extents written in the code; `N` is checked when the program is compiled.
    fn from(dims: [usize; N]) -> Shape {
        const { assert!(N <= MAX_RANK, "too many dimensions") };
        Shape::from_slice(&dims)
    }
}
