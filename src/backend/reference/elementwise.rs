//! Elementwise kernels.

use super::layout::offset;
use crate::backend::params::{drops, Binary, Unary};
use crate::backend::scalar;
use crate::tensor::{Real, Rng, Shape, Tensor};

pub(super) fn unary<T: Real>(f: Unary, x: &Tensor) -> Tensor {
    map(x, |x: T| scalar::unary(f, x))
}

pub(super) fn unary_grad<T: Real>(f: Unary, x: &Tensor, y: &Tensor, dy: &Tensor) -> Tensor {
    Tensor::build(*x.shape(), x.device(), |dx: &mut [T]| {
        let inputs = x.slice::<T>().iter().zip(y.slice::<T>()).zip(dy.slice::<T>());
        for (dx, ((&x, &y), &dy)) in dx.iter_mut().zip(inputs) {
            *dx = scalar::derivative(f, x, y) * dy;
        }
    })
}

pub(super) fn binary<T: Real>(f: Binary, a: &Tensor, b: &Tensor) -> Tensor {
    let shape = Shape::broadcast(f.name(), a.shape(), b.shape()).expect("shapes that were checked");
    let (a_strides, b_strides) = (a.shape().broadcast_strides(&shape), b.shape().broadcast_strides(&shape));
    let (a_values, b_values) = (a.slice::<T>(), b.slice::<T>());
    Tensor::build(shape, a.device(), |out: &mut [T]| {
        for (i, out) in out.iter_mut().enumerate() {
            let (a, b) = (a_values[offset(i, &shape, &a_strides)], b_values[offset(i, &shape, &b_strides)]);
            *out = scalar::binary(f, a, b);
        }
    })
}

pub(super) fn affine<T: Real>(x: &Tensor, scale: f64, shift: f64) -> Tensor {
    map(x, |x: T| x * T::of(scale) + T::of(shift))
}

pub(super) fn add_assign<T: Real>(acc: &mut Tensor, x: &Tensor) {
    for (acc, &x) in acc.storage_mut().as_mut_slice::<T>().iter_mut().zip(x.slice::<T>()) {
        *acc += x;
    }
}

pub(super) fn dropout<T: Real>(x: &Tensor, p: f64, rng: Rng) -> Tensor {
    let scale = T::of(1.0 / (1.0 - p));
    Tensor::build(*x.shape(), x.device(), |y: &mut [T]| {
        for (block, (y, x)) in y.chunks_mut(4).zip(x.slice::<T>().chunks(4)).enumerate() {
            for ((y, &x), bits) in y.iter_mut().zip(x).zip(rng.block(block as u64)) {
                *y = if drops(bits, p) { T::zero() } else { x * scale };
            }
        }
    })
}

fn map<T: Real>(x: &Tensor, f: impl Fn(T) -> T) -> Tensor {
    Tensor::build(*x.shape(), x.device(), |out: &mut [T]| {
        for (out, &x) in out.iter_mut().zip(x.slice::<T>()) {
            *out = f(x);
        }
    })
}
