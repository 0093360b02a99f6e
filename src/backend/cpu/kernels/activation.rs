//! Elementwise functions with an exponential or a logarithm in them, on vectors, and their derivatives where these have one too.
//! Errors are below 5e-7 of the result; below 1e-6 for derivatives; and below 1e-6 of the result or 1e-9 for the tanh approximation of
//! GELU, and for GELU on a processor without fused multiply-adds. One pass over memory each.

use super::isa::{self, Kernel};
use super::parallel::{for_each_chunk, Disjoint};
use super::simd::{absolute, exp, for_each_vector, log, Simd};
use std::f32::consts::{FRAC_2_SQRT_PI, SQRT_2};
use std::marker::PhantomData;

/// A function of one number.
pub(crate) trait Function: Sync {
    /// f(x).
    ///
    /// # Safety
    /// The machine must have the instruction set of `S`.
    unsafe fn value<S: Simd>(x: S::V) -> S::V;
}

/// A function with its derivative.
pub(crate) trait Differentiable: Function {
    /// f'(x).
    ///
    /// # Safety
    /// The machine must have the instruction set of `S`.
    unsafe fn derivative<S: Simd>(x: S::V) -> S::V;
}

/// `y = f(x)`.
pub(crate) fn apply<F: Function>(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "activation: input and output of one length");
    let isa = isa::active();
    let y = Disjoint::new(y);
    for_each_chunk(x.len(), |range| {
        // SAFETY: each task has its own range.
        let y = unsafe { y.range(range.clone()) };
        isa.run(Apply { x: &x[range], y, function: PhantomData::<F> });
    });
}

/// `dx = f'(x)·dy`.
pub(crate) fn apply_derivative<F: Differentiable>(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "activation: input and gradients of one length");
    let isa = isa::active();
    let dx = Disjoint::new(dx);
    for_each_chunk(x.len(), |range| {
        // SAFETY: each task has its own range.
        let dx = unsafe { dx.range(range.clone()) };
        isa.run(ApplyDerivative { x: &x[range.clone()], dy: &dy[range], dx, function: PhantomData::<F> });
    });
}

struct Apply<'a, F> {
    x: &'a [f32],
    y: &'a mut [f32],
    function: PhantomData<F>,
}

impl<F: Function> Kernel for Apply<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for_each_vector!(S, self.x.len(), |i, n| {
            let y = F::value::<S>(S::load_first(self.x.as_ptr().add(i), n, 1.0));
            S::store_first(self.y.as_mut_ptr().add(i), y, n);
        });
    }
}

struct ApplyDerivative<'a, F> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    function: PhantomData<F>,
}

impl<F: Differentiable> Kernel for ApplyDerivative<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for_each_vector!(S, self.x.len(), |i, n| {
            let slope = F::derivative::<S>(S::load_first(self.x.as_ptr().add(i), n, 1.0));
            let dx = S::mul(slope, S::load_first(self.dy.as_ptr().add(i), n, 0.0));
            S::store_first(self.dx.as_mut_ptr().add(i), dx, n);
        });
    }
}

/// e^x.
pub(crate) struct Exp;

impl Function for Exp {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        exp::<S>(x)
    }
}

/// ln x.
pub(crate) struct Log;

impl Function for Log {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        log::<S>(x)
    }
}

/// 1 / (1 + e^−x).
pub(crate) struct Sigmoid;

impl Function for Sigmoid {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::zero(), x))))
    }
}

/// σ(x) and 1 − σ(x), neither of them by subtraction; for x below −80 those of −80.
#[inline(always)]
unsafe fn sigmoid_and_rest<S: Simd>(x: S::V) -> [S::V; 2] {
    let e = exp::<S>(S::sub(S::zero(), S::max(S::splat(-80.0), x)));
    let s = S::div(S::splat(1.0), S::add(S::splat(1.0), e));
    [s, S::mul(e, s)]
}

/// Hyperbolic tangent: an odd polynomial near 0 (Cephes `tanhf`), else `±(1 − 2 / (e^2|x| + 1))`.
pub(crate) struct Tanh;

impl Function for Tanh {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        const POLYNOMIAL: [f32; 5] = [-5.704_989e-3, 2.063_908_8e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_8];
        const NEAR: f32 = 0.625;
        let square = S::mul(x, x);
        let near = S::fma(S::mul(polynomial::<S, 5>(POLYNOMIAL, square), square), x, x);
        let size = absolute::<S>(x);
        let (one, two) = (S::splat(1.0), S::splat(2.0));
        let far = S::sub(one, S::div(two, S::add(exp::<S>(S::mul(two, size)), one)));
        let far = S::if_greater(S::zero(), x, S::sub(S::zero(), far), far);
        S::if_greater(size, S::splat(NEAR), far, near)
    }
}

/// x · σ(x).
pub(crate) struct Silu;

impl Function for Silu {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        S::mul(x, Sigmoid::value::<S>(x))
    }
}

impl Differentiable for Silu {
    #[inline(always)]
    unsafe fn derivative<S: Simd>(x: S::V) -> S::V {
        let [s, rest] = sigmoid_and_rest::<S>(x);
        S::fma(S::mul(x, s), rest, s)
    }
}

/// x · Φ(x).
pub(crate) struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        let [phi, _] = normal_distribution::<S>(x);
        S::mul(x, phi)
    }
}

impl Differentiable for Gelu {
    #[inline(always)]
    unsafe fn derivative<S: Simd>(x: S::V) -> S::V {
        let [phi, density] = normal_distribution::<S>(x);
        S::fma(x, density, phi)
    }
}

/// The tanh approximation of GELU, `½x·(1 + tanh u)`, as `x·σ(2u)`: the same without cancellation for x below 0.
pub(crate) struct GeluTanh;

const GELU_CUBIC: f32 = 0.044715;
/// 2·√(2/π).
const GELU_SCALE: f32 = FRAC_2_SQRT_PI * SQRT_2;

/// 2u, and x².
#[inline(always)]
unsafe fn gelu_exponent<S: Simd>(x: S::V) -> [S::V; 2] {
    let square = S::mul(x, x);
    let cubic = S::fma(S::splat(GELU_SCALE * GELU_CUBIC), square, S::splat(GELU_SCALE));
    [S::mul(x, cubic), square]
}

impl Function for GeluTanh {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        let [exponent, _] = gelu_exponent::<S>(x);
        S::mul(x, Sigmoid::value::<S>(exponent))
    }
}

impl Differentiable for GeluTanh {
    #[inline(always)]
    unsafe fn derivative<S: Simd>(x: S::V) -> S::V {
        let [exponent, square] = gelu_exponent::<S>(x);
        let [gate, rest] = sigmoid_and_rest::<S>(exponent);
        let inner = S::fma(S::splat(3.0 * GELU_SCALE * GELU_CUBIC), square, S::splat(GELU_SCALE));
        S::fma(S::mul(x, inner), S::mul(gate, rest), gate)
    }
}

/// The standard normal's distribution function Φ(x), and its density.
///
/// With z = |x|, the smaller of Φ(x) and 1 − Φ(x) is `e^(−z²/2)·R(z)`, and R a polynomial of degree 9 in `1 / (1 + 0.35·z)` without
/// constant term, fitted for the smallest relative error (3.2e-8).
#[inline(always)]
unsafe fn normal_distribution<S: Simd>(x: S::V) -> [S::V; 2] {
    const SLOWNESS: f32 = 0.35;
    const POLYNOMIAL: [f32; 9] = [
        -0.029_158_03,
        0.144_031_61,
        -0.255_840_4,
        0.159_321_25,
        -0.023_213_394,
        0.105_552_93,
        0.119_821_18,
        0.139_863_54,
        0.139_621_3,
    ];
    /// Where all that is left is 0.
    const FAR: f32 = 15.0;
    const INVERSE_SQRT_2_PI: f32 = 0.398_942_3;
    let one = S::splat(1.0);
    let z = S::min(S::splat(FAR), absolute::<S>(x));
    // What rounding took from the square comes back as a factor.
    let square = S::mul(z, z);
    let lost = S::fma(z, z, S::sub(S::zero(), square));
    let e = exp::<S>(S::mul(square, S::splat(-0.5)));
    let e = S::fma(e, S::mul(lost, S::splat(-0.5)), e);
    let t = S::div(one, S::fma(z, S::splat(SLOWNESS), one));
    let tail = S::mul(e, S::mul(t, polynomial::<S, 9>(POLYNOMIAL, t)));
    let phi = S::if_greater(x, S::zero(), S::sub(one, tail), tail);
    [phi, S::mul(e, S::splat(INVERSE_SQRT_2_PI))]
}

/// The polynomial in `x` with these coefficients, the highest power's first.
#[inline(always)]
unsafe fn polynomial<S: Simd, const N: usize>(coefficients: [f32; N], x: S::V) -> S::V {
    let mut sum = S::splat(coefficients[0]);
    for &c in &coefficients[1..] {
        sum = S::fma(sum, x, S::splat(c));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::params::Unary;
    use crate::backend::scalar;

    /// Numbers from −14 to 14, some of them tiny, or positive ones.
    fn inputs(positive: bool) -> Vec<f32> {
        let all = (-1400..=1400).flat_map(|i| [i as f32 * 0.01, i as f32 * 1e-8]);
        all.map(|x| if positive { x.abs().max(1e-30) } else { x }).collect()
    }

    fn check(name: Unary, found: &[f32], expected: impl Fn(f64) -> f64, x: &[f32]) {
        for (&found, &x) in found.iter().zip(x) {
            let expected = expected(f64::from(x));
            // Far below 0, where next to nothing is left, the exponents of these have lost digits.
            let unfused = isa::active() == isa::Isa::Portable;
            let loses = name == Unary::GeluTanh || (name == Unary::Gelu && unfused);
            let (relative, least) = if loses { (1e-6, 1e-3) } else { (5e-7, 1e-37) };
            let tolerance = relative * expected.abs().max(least);
            let error = (f64::from(found) - expected).abs();
            assert!(error <= tolerance, "{} of {x} on {}: {found:e}, not {expected:e}", name.name(), isa::active());
        }
    }

    fn value<F: Function>(name: Unary) {
        let x = inputs(name == Unary::Log);
        let mut y = vec![0.0; x.len()];
        apply::<F>(&x, &mut y);
        check(name, &y, |x| scalar::unary(name, x), &x);
        let mut nan = [0.0];
        apply::<F>(&[f32::NAN], &mut nan);
        assert!(nan[0].is_nan(), "{} hides a NaN on {}", name.name(), isa::active());
    }

    fn derivative<F: Differentiable>(name: Unary) {
        value::<F>(name);
        let x = inputs(false);
        let mut dx = vec![0.0; x.len()];
        apply_derivative::<F>(&x, &vec![1.0; x.len()], &mut dx);
        for (&found, &x) in dx.iter().zip(&x) {
            let wide = f64::from(x);
            let expected = scalar::derivative(name, wide, scalar::unary(name, wide));
            let error = (f64::from(found) - expected).abs();
            assert!(error <= 1e-6, "derivative of {} at {x} on {}: {found}", name.name(), isa::active());
        }
    }

    #[test]
    fn functions_are_right_to_five_parts_in_ten_million_on_every_instruction_set() {
        for set in isa::Isa::available() {
            isa::with(set, || {
                value::<Exp>(Unary::Exp);
                value::<Log>(Unary::Log);
                value::<Sigmoid>(Unary::Sigmoid);
                value::<Tanh>(Unary::Tanh);
                derivative::<Silu>(Unary::Silu);
                derivative::<Gelu>(Unary::Gelu);
                derivative::<GeluTanh>(Unary::GeluTanh);
            });
        }
    }
}
