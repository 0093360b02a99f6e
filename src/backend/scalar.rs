//! The elementwise functions on one number, shared by the backends that run on the host. Inlined everywhere, so that a caller
//! that fixes the function gets a loop without branches on it.

use super::params::{Binary, Unary};
use crate::tensor::Real;

/// `f(x)`.
#[inline(always)]
pub(super) fn unary<T: Real>(f: Unary, x: T) -> T {
    match f {
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
    }
}

/// `f'(x)`, given both `x` and `y = f(x)`.
#[inline(always)]
pub(super) fn derivative<T: Real>(f: Unary, x: T, y: T) -> T {
    match f {
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
    }
}

/// `f(a, b)`.
#[inline(always)]
pub(super) fn binary<T: Real>(f: Binary, a: T, b: T) -> T {
    match f {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
    }
}

/// max(x, 0), but NaN where x is: a broken number must not look like a quiet neuron.
#[inline(always)]
pub(super) fn relu<T: Real>(x: T) -> T {
    if x < T::zero() {
        T::zero()
    } else {
        x
    }
}

const GELU_CUBIC: f64 = 0.044715;
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const INV_SQRT_2PI: f64 = 0.398_942_280_401_432_7;

#[inline(always)]
fn gelu_inner<T: Real>(x: T) -> T {
    T::of(SQRT_2_OVER_PI) * (x + T::of(GELU_CUBIC) * x * x * x)
}

/// The standard normal's distribution function.
#[inline(always)]
fn phi<T: Real>(x: T) -> T {
    T::of(0.5 * libm::erfc(-x.wide() * std::f64::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    (T::one() + (-x).exp()).recip()
}

/// 1 above 0, else 0. A NaN stays a NaN.
#[inline(always)]
fn step<T: Real>(x: T) -> T {
    match x {
        x if x.is_nan() => x,
        x if x > T::zero() => T::one(),
        _ => T::zero(),
    }
}
