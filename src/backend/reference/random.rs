//! Random tensors. Element `i` comes from block `i / 4` of the generator, so any element can be computed on its own.

use crate::tensor::random::{normal_pair, unit_f32};
use crate::tensor::{Device, Element, Rng, Shape, Tensor};

pub(super) fn uniform<T: Element>(shape: &Shape, low: f64, high: f64, rng: Rng) -> Tensor {
    fill::<T>(shape, |block| rng.block(block).map(|bits| low + (high - low) * f64::from(unit_f32(bits))))
}

pub(super) fn normal<T: Element>(shape: &Shape, mean: f64, sd: f64, rng: Rng) -> Tensor {
    fill::<T>(shape, |block| {
        let [a, b, c, d] = rng.block(block);
        let ([w, x], [y, z]) = (normal_pair(a, b), normal_pair(c, d));
        [w, x, y, z].map(|z| mean + sd * z)
    })
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
