//! Random tensors.

use crate::backend::params::{normal_block, uniform_block};
use crate::tensor::{Device, Element, Rng, Shape, Tensor};

pub(super) fn uniform<T: Element>(shape: &Shape, low: f64, high: f64, rng: Rng) -> Tensor {
    fill::<T>(shape, |block| uniform_block(rng, block, low, high))
}

pub(super) fn normal<T: Element>(shape: &Shape, mean: f64, sd: f64, rng: Rng) -> Tensor {
    fill::<T>(shape, |block| normal_block(rng, block, mean, sd))
}

fn fill<T: Element>(shape: &Shape, four: impl Fn(u64) -> [f64; 4]) -> Tensor {
    Tensor::build(*shape, Device::Reference, |out: &mut [T]| {
        for (block, out) in out.chunks_mut(4).enumerate() {
            for (out, value) in out.iter_mut().zip(four(block as u64)) {
                *out = <T as num_traits::NumCast>::from(value).expect("floats are built from any float");
            }
        }
    })
}
