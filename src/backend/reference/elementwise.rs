//! Elementwise kernels.

use super::layout::offset;
use super::relu;
use crate::backend::params::{drops, Binary, Unary};
use crate::tensor::{Real, Rng, Shape, Tensor};

pub(super) fn unary<T: Real>(f: Unary, x: &Tensor) -> Tensor {
    map(x, |x: T| match f {
        Unary::Relu => relu(x),
        Unary::Sigmoid => sigmoid(x),
        Unary::Tanh => x.tanh(),
        Unary::Gelu => x * phi(x),
        Unary::GeluTanh => T::of(0.5) * x * (T::one() + gelu_inner(x).tanh()),
        Unary::Silu => x * sigmoid(x),
        Unary::Hardswish => x * (x + T::of(3.0)).max(T::zero()).min(T::of(6.0)) / T::of(6.0),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Square => x * x,
        Unary::Abs => x.abs(),
    })
}

pub(super) fn unary_grad<T: Real>(f: Unary, x: &Tensor, y: &Tensor, dy: &Tensor) -> Tensor {
    let derivative = |x: T, y: T| match f {
        Unary::Relu => step(x),
        Unary::Sigmoid => y * (T::one() - y),
        Unary::Tanh => T::one() - y * y,
        Unary::Gelu => phi(x) + x * T::of(INV_SQRT_2PI) * (-x * x / T::of(2.0)).exp(),
        Unary::GeluTanh => {
            let t = gelu_inner(x).tanh();
            let inner_slope = T::of(SQRT_2_OVER_PI) * (T::one() + T::of(3.0 * GELU_CUBIC) * x * x);
            T::of(0.5) * (T::one() + t + x * (T::one() - t * t) * inner_slope)
        }
        Unary::Silu => sigmoid(x) * (T::one() + x * (T::one() - sigmoid(x))),
        Unary::Hardswish if x <= T::of(-3.0) => T::zero(),
        Unary::Hardswish if x >= T::of(3.0) => T::one(),
        Unary::Hardswish => (T::of(2.0) * x + T::of(3.0)) / T::of(6.0),
        Unary::Exp => y,
        Unary::Log => x.recip(),
        Unary::Sqrt => T::of(0.5) / y,
        Unary::Square => T::of(2.0) * x,
        Unary::Abs => step(x) - step(-x),
    };
    Tensor::build(*x.shape(), x.device(), |dx: &mut [T]| {
        let inputs = x.slice::<T>().iter().zip(y.slice::<T>()).zip(dy.slice::<T>());
        for (dx, ((&x, &y), &dy)) in dx.iter_mut().zip(inputs) {
            *dx = derivative(x, y) * dy;
        }
    })
}

const GELU_CUBIC: f64 = 0.044715;
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const INV_SQRT_2PI: f64 = 0.398_942_280_401_432_7;

fn gelu_inner<T: Real>(x: T) -> T {
    T::of(SQRT_2_OVER_PI) * (x + T::of(GELU_CUBIC) * x * x * x)
}

/// The standard normal's distribution function.
fn phi<T: Real>(x: T) -> T {
    T::of(0.5 * libm::erfc(-x.wide() * std::f64::consts::FRAC_1_SQRT_2))
}

fn sigmoid<T: Real>(x: T) -> T {
    (T::one() + (-x).exp()).recip()
}

/// 1 above 0, else 0. A NaN stays a NaN.
fn step<T: Real>(x: T) -> T {
    match x {
        x if x.is_nan() => x,
        x if x > T::zero() => T::one(),
        _ => T::zero(),
    }
}

pub(super) fn binary<T: Real>(f: Binary, a: &Tensor, b: &Tensor) -> Tensor {
    let shape = Shape::broadcast(f.name(), a.shape(), b.shape()).expect("shapes that were checked");
    let (a_strides, b_strides) = (a.shape().broadcast_strides(&shape), b.shape().broadcast_strides(&shape));
    let (a_values, b_values) = (a.slice::<T>(), b.slice::<T>());
    Tensor::build(shape, a.device(), |out: &mut [T]| {
        for (i, out) in out.iter_mut().enumerate() {
            let (a, b) = (a_values[offset(i, &shape, &a_strides)], b_values[offset(i, &shape, &b_strides)]);
            *out = match f {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
                Binary::Div => a / b,
            };
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
