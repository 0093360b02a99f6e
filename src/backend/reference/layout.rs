//! Kernels that move, repeat or add up elements by their position.

use super::from_wide;
use crate::tensor::{Element, Real, Shape, Tensor};

/// Where the `i`-th element of `shape` (row-major) lies in memory that is stepped through with `strides`.
pub(super) fn offset(mut i: usize, shape: &Shape, strides: &[usize]) -> usize {
    let mut at = 0;
    for d in (0..shape.rank()).rev() {
        at += i % shape[d] * strides[d];
        i /= shape[d];
    }
    at
}

pub(super) fn sum<T: Real>(x: &Tensor, dims: &[usize]) -> Tensor {
    let shape = x.shape().reduced(dims, true);
    let strides = shape.broadcast_strides(x.shape());
    let mut sums = vec![0.0; shape.numel()];
    for (i, value) in x.slice::<T>().iter().enumerate() {
        sums[offset(i, x.shape(), &strides)] += value.wide();
    }
    from_wide::<T>(&sums, shape, x.device())
}

pub(super) fn expand<T: Element>(x: &Tensor, shape: &Shape) -> Tensor {
    read_strided::<T>(x, *shape, &x.shape().broadcast_strides(shape))
}

pub(super) fn permute<T: Element>(x: &Tensor, dims: &[usize]) -> Tensor {
    let from = x.shape().strides();
    let extents: Vec<usize> = dims.iter().map(|&d| x.shape()[d]).collect();
    let strides: Vec<usize> = dims.iter().map(|&d| from[d]).collect();
    read_strided::<T>(x, Shape::new(&extents).expect("the extents of a tensor, reordered"), &strides)
}

fn read_strided<T: Element>(x: &Tensor, shape: Shape, strides: &[usize]) -> Tensor {
    let values = x.slice::<T>();
    Tensor::build(shape, x.device(), |out: &mut [T]| {
        for (i, out) in out.iter_mut().enumerate() {
            *out = values[offset(i, &shape, strides)];
        }
    })
}

/// Elements in one step along `dim`, and in the whole of it: a tensor is a list of such stretches.
fn stretch(shape: &Shape, dim: usize) -> (usize, usize) {
    let step = shape[dim + 1..].iter().product();
    (step, step * shape[dim])
}

pub(super) fn concat<T: Element>(parts: &[&Tensor], dim: usize) -> Tensor {
    let shape = parts[0].shape().with_extent(dim, parts.iter().map(|part| part.shape()[dim]).sum());
    let (_, whole) = stretch(&shape, dim);
    Tensor::build(shape, parts[0].device(), |out: &mut [T]| {
        let mut start = 0;
        for part in parts {
            let (_, len) = stretch(part.shape(), dim);
            for (i, values) in part.slice::<T>().chunks_exact(len.max(1)).enumerate() {
                out[i * whole + start..][..len].copy_from_slice(values);
            }
            start += len;
        }
    })
}

pub(super) fn narrow<T: Element>(x: &Tensor, dim: usize, start: usize, len: usize) -> Tensor {
    let (step, whole) = stretch(x.shape(), dim);
    let values = x.slice::<T>();
    Tensor::build(x.shape().with_extent(dim, len), x.device(), |out: &mut [T]| {
        for (i, out) in out.chunks_exact_mut((len * step).max(1)).enumerate() {
            out.copy_from_slice(&values[i * whole + start * step..][..len * step]);
        }
    })
}

pub(super) fn gather_rows<T: Element>(table: &Tensor, index: &Tensor) -> Tensor {
    let (row, _) = stretch(table.shape(), 0);
    let values = table.slice::<T>();
    Tensor::build(table.shape().with_extent(0, index.numel()), table.device(), |out: &mut [T]| {
        for (out, &i) in out.chunks_exact_mut(row.max(1)).zip(index.slice::<i32>()) {
            out.copy_from_slice(&values[i as usize * row..][..row]);
        }
    })
}

pub(super) fn scatter_rows<T: Real>(dy: &Tensor, index: &Tensor, rows: usize) -> Tensor {
    let (row, _) = stretch(dy.shape(), 0);
    let shape = dy.shape().with_extent(0, rows);
    let mut sums = vec![0.0; shape.numel()];
    for (dy, &i) in dy.slice::<T>().chunks_exact(row.max(1)).zip(index.slice::<i32>()) {
        for (sum, dy) in sums[i as usize * row..].iter_mut().zip(dy) {
            *sum += dy.wide();
        }
    }
    from_wide::<T>(&sums, shape, dy.device())
}

pub(super) fn set_rows<T: Element>(table: &mut Tensor, index: &Tensor, rows: &Tensor) {
    let (row, _) = stretch(rows.shape(), 0);
    let table = table.storage_mut().as_mut_slice::<T>();
    for (new, &i) in rows.slice::<T>().chunks_exact(row.max(1)).zip(index.slice::<i32>()) {
        table[i as usize * row..][..row].copy_from_slice(new);
    }
}
