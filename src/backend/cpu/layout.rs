//! Kernels that move, repeat or add up elements by their position.

use super::kernels::parallel::{elements_ns, for_each, for_each_chunk, Disjoint, CHUNK};
use super::kernels::{elementwise, isa, vector};
use crate::backend::walk::{Run, Walk};
use crate::tensor::{Device, Element, Shape, Storage, Tensor, MAX_RANK};

/// Columns in one task that adds up rows.
const COLUMNS: usize = 64;

pub(super) fn expand<T: Element>(x: &Tensor, shape: &Shape) -> Tensor {
    read_strided::<T>(x, shape, x.shape().broadcast_strides(shape))
}

pub(super) fn permute<T: Element>(x: &Tensor, dims: &[usize]) -> Tensor {
    let from = x.shape().strides();
    let extents: Vec<usize> = dims.iter().map(|&d| x.shape()[d]).collect();
    let mut strides = [0; MAX_RANK];
    strides.iter_mut().zip(dims).for_each(|(stride, &d)| *stride = from[d]);
    read_strided::<T>(x, &Shape::new(&extents).expect("the extents of a tensor, reordered"), strides)
}

fn read_strided<T: Element>(x: &Tensor, shape: &Shape, strides: [usize; MAX_RANK]) -> Tensor {
    let values = x.slice::<T>();
    let walk = Walk::new(shape, [strides]);
    Tensor::build(*shape, Device::Cpu, |out: &mut [T]| {
        let len = out.len();
        let out = Disjoint::new(out);
        for_each_chunk(len, |range| {
            walk.for_each_run(range, |Run { output, starts: [start], steps: [step] }| {
                // SAFETY: each run is in its own task's range.
                let out = unsafe { out.range(output) };
                match step {
                    0 => out.fill(values[start]),
                    1 => out.copy_from_slice(&values[start..start + out.len()]),
                    _ => out.iter_mut().zip(values[start..].iter().step_by(step)).for_each(|(out, &x)| *out = x),
                }
            });
        });
    })
}

/// The sum over `dims`: neighbouring ones together, the last first.
pub(super) fn sum(x: &Tensor, dims: &[usize]) -> Tensor {
    let mut sum = x.clone();
    let mut end = x.shape().rank();
    while end > 0 {
        let start = (0..end).rev().find(|d| !dims.contains(d)).map_or(0, |kept| kept + 1);
        if start < end {
            sum = sum_between(&sum, start, end);
        }
        end = start.saturating_sub(1);
    }
    sum
}

/// The sum over the neighbouring dimensions `start..end`.
fn sum_between(x: &Tensor, start: usize, end: usize) -> Tensor {
    let shape = x.shape().reduced(&(start..end).collect::<Vec<_>>(), true);
    let inner: usize = x.shape()[end..].iter().product();
    let whole: usize = x.shape()[start..].iter().product();
    let values = x.slice::<f32>();
    Tensor::build(shape, Device::Cpu, |sums: &mut [f32]| {
        if values.is_empty() {
            sums.fill(0.0);
        } else if sums.len() == 1 {
            sums[0] = elementwise::sum(values) as f32;
        } else if inner == 1 {
            row_sums(values, whole, sums);
        } else if whole == values.len() {
            elementwise::column_sums(values, sums);
        } else {
            let isa = isa::active();
            let outer = sums.len() / inner;
            let sums = Disjoint::new(sums);
            for_each(outer, elements_ns(values.len()), |i| {
                // SAFETY: each task has its own sums.
                let sums = unsafe { sums.range(i * inner..(i + 1) * inner) };
                isa.vectorise(|| {
                    sums.fill(0.0);
                    for row in values[i * whole..(i + 1) * whole].chunks_exact(inner) {
                        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                    }
                });
            });
        }
    })
}

/// The sum of each row of `len` values.
fn row_sums(values: &[f32], len: usize, sums: &mut [f32]) {
    let isa = isa::active();
    let rows = sums.len();
    let band = (CHUNK / len).max(1);
    let sums = Disjoint::new(sums);
    for_each(rows.div_ceil(band), elements_ns(values.len()), |task| {
        let range = task * band..rows.min((task + 1) * band);
        // SAFETY: each task has its own rows.
        let sums = unsafe { sums.range(range.clone()) };
        let rows = values[range.start * len..range.end * len].chunks_exact(len);
        sums.iter_mut().zip(rows).for_each(|(sum, row)| *sum = vector::sum(isa, row));
    });
}

pub(super) fn gather_rows(table: &Tensor, index: &Tensor) -> Tensor {
    let shape = table.shape().with_extent(0, index.numel());
    let row = table.storage().bytes().len() / table.shape()[0].max(1);
    let mut out = Storage::uninitialised(table.dtype(), shape.numel());
    if !out.bytes().is_empty() {
        let (rows, index) = (table.storage().bytes(), index.slice::<i32>());
        let band = (4 * CHUNK / row).max(1);
        let bytes = out.bytes_mut();
        let work = elements_ns(bytes.len() / 4);
        let bytes = Disjoint::new(bytes);
        for_each(index.len().div_ceil(band), work, |task| {
            let range = task * band..index.len().min((task + 1) * band);
            // SAFETY: each task has its own rows.
            let out = unsafe { bytes.range(range.start * row..range.end * row) };
            for (out, &i) in out.chunks_exact_mut(row).zip(&index[range]) {
                out.copy_from_slice(&rows[i as usize * row..][..row]);
            }
        });
    }
    Tensor::from_storage(out, shape, Device::Cpu)
}

/// Every task owns some columns and adds the rows in order, so that repeated indices need no locks.
pub(super) fn scatter_rows(dy: &Tensor, index: &Tensor, rows: usize) -> Tensor {
    let shape = dy.shape().with_extent(0, rows);
    let columns: usize = shape[1..].iter().product();
    let (dy, index) = (dy.slice::<f32>(), index.slice::<i32>());
    Tensor::build(shape, Device::Cpu, |out: &mut [f32]| {
        out.fill(0.0);
        let out = Disjoint::new(out);
        for_each(columns.div_ceil(COLUMNS), elements_ns(dy.len()), |task| {
            let range = task * COLUMNS..columns.min((task + 1) * COLUMNS);
            for (dy, &i) in dy.chunks_exact(columns).zip(index) {
                let start = i as usize * columns;
                // SAFETY: each task has its own columns.
                let out = unsafe { out.range(start + range.start..start + range.end) };
                out.iter_mut().zip(&dy[range.clone()]).for_each(|(out, dy)| *out += dy);
            }
        });
    })
}
