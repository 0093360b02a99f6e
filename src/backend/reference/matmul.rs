//! Matrix products.

use crate::backend::params::{Matmul, MatmulSizes};
use crate::backend::scalar::relu;
use crate::tensor::{Real, Tensor};

pub(super) fn matmul<T: Real>(p: Matmul, a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let MatmulSizes { m, k, n, b_is_shared, shape, .. } = MatmulSizes::new(p, a.shape(), b.shape());
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
