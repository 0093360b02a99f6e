//! Matrix products.

use super::relu;
use crate::backend::params::Matmul;
use crate::tensor::{Real, Shape, Tensor};

/// Rows and columns of the last two dimensions, after transposition.
fn matrix(x: &Tensor, transposed: bool) -> (usize, usize) {
    match (&x.shape()[x.shape().rank() - 2..], transposed) {
        (&[rows, columns], false) | (&[columns, rows], true) => (rows, columns),
        _ => unreachable!("two dimensions"),
    }
}

pub(super) fn matmul<T: Real>(p: Matmul, a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let ((m, k), (_, n)) = (matrix(a, p.transpose_a), matrix(b, p.transpose_b));
    let batch = &a.shape()[..a.shape().rank() - 2];
    let shape = Shape::new(&[batch, &[m, n]].concat()).expect("a shape that was checked");
    let b_is_shared = b.shape().rank() < a.shape().rank();
    let (a_values, b_values) = (a.slice::<T>(), b.slice::<T>());
    Tensor::build(shape, a.device(), |out: &mut [T]| {
        for (i, out) in out.iter_mut().enumerate() {
            let (item, row, column) = (i / (m * n), i / n % m, i % n);
            let a_start = item * m * k;
            let b_start = if b_is_shared { 0 } else { item * k * n };
            let mut sum = bias.map_or(0.0, |bias| bias.slice::<T>()[column].wide());
            for j in 0..k {
                let a_at = if p.transpose_a { j * m + row } else { row * k + j };
                let b_at = if p.transpose_b { column * k + j } else { j * n + column };
                sum += a_values[a_start + a_at].wide() * b_values[b_start + b_at].wide();
            }
            *out = T::of(if p.relu { relu(sum) } else { sum });
        }
    })
}
