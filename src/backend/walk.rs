//! Walking several arrays in the order of one shape, each with its own strides: broadcasting, expanding, permuting.

use crate::tensor::{Shape, MAX_RANK};
use std::ops::Range;

/// A shape and the strides of `N` operands, with neighbouring dimensions merged wherever every operand allows it: the last one
/// is then as long as can be, and the loop over it does the work.
pub(super) struct Walk<const N: usize> {
    pub rank: usize,
    pub extents: [usize; MAX_RANK],
    pub strides: [[usize; N]; MAX_RANK],
}

/// A stretch of output elements along the last merged dimension.
pub(super) struct Run<const N: usize> {
    /// Where it lies in the output.
    pub output: Range<usize>,
    /// Where each operand starts.
    pub starts: [usize; N],
    /// Each operand's step from one element to the next.
    pub steps: [usize; N],
}

impl<const N: usize> Walk<N> {
    pub fn new(shape: &Shape, operands: [[usize; MAX_RANK]; N]) -> Self {
        let mut walk = Walk { rank: 1, extents: [1; MAX_RANK], strides: [[0; N]; MAX_RANK] };
        for d in (0..shape.rank()).filter(|&d| shape[d] != 1) {
            let strides = operands.map(|strides| strides[d]);
            let outer = walk.rank - 1;
            let merges = (0..N).all(|k| walk.strides[outer][k] == strides[k] * shape[d]);
            if !merges && walk.extents[outer] != 1 {
                walk.rank += 1;
            }
            walk.extents[walk.rank - 1] *= shape[d];
            walk.strides[walk.rank - 1] = strides;
        }
        walk
    }

    /// Calls `visit` for every run in a range of output elements.
    pub fn for_each_run(&self, range: Range<usize>, mut visit: impl FnMut(Run<N>)) {
        let last = self.rank - 1;
        let (len, steps) = (self.extents[last], self.strides[last]);
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at - at % len + len);
            visit(Run { output: at..end, starts: self.offsets(at), steps });
            at = end;
        }
    }

    /// Where element `i` of the output lies in each operand.
    fn offsets(&self, mut i: usize) -> [usize; N] {
        let mut offsets = [0; N];
        for d in (0..self.rank).rev() {
            let position = i % self.extents[d];
            i /= self.extents[d];
            for (offset, stride) in offsets.iter_mut().zip(self.strides[d]) {
                *offset += position * stride;
            }
        }
        offsets
    }
}
