//! Elementwise kernels: chunks of fixed size in parallel, loops that the compiler vectorises unless `activation` does.

use super::kernels::activation::{self, Differentiable, Function};
use super::kernels::isa;
use super::kernels::parallel::{for_each_chunk, Disjoint};
use super::kernels::philox;
use crate::backend::params::{drop_limit, normal_of, uniform_of, Binary, Unary};
use crate::backend::scalar;
use crate::backend::walk::{Run, Walk};
use crate::tensor::{Device, Rng, Shape, Tensor};
use std::ops::Range;

/// Runs `$body` with the constant `$F` bound to each of these functions in turn, so that every one gets its own loop; others have
/// arms of their own.
macro_rules! with_function {
    ($f:expr, $kind:ident [$($name:ident)*], $F:ident => $body:expr $(, $other:pat => $arm:expr)*) => {
        match $f {
            $($kind::$name => {
                const $F: $kind = $kind::$name;
                $body
            })*
            $($other => $arm,)*
        }
    };
}

pub(super) fn unary(f: Unary, x: &Tensor) -> Tensor {
    with_function!(
        f,
        Unary [Relu Hardswish Sqrt Square Abs],
        F => map(x, |x| scalar::unary(F, x)),
        Unary::Sigmoid => apply::<activation::Sigmoid>(x),
        Unary::Tanh => apply::<activation::Tanh>(x),
        Unary::Gelu => apply::<activation::Gelu>(x),
        Unary::GeluTanh => apply::<activation::GeluTanh>(x),
        Unary::Silu => apply::<activation::Silu>(x),
        Unary::Exp => apply::<activation::Exp>(x),
        Unary::Log => apply::<activation::Log>(x)
    )
}

fn apply<F: Function>(x: &Tensor) -> Tensor {
    Tensor::build(*x.shape(), Device::Cpu, |y| activation::apply::<F>(x.slice(), y))
}

pub(super) fn unary_grad(f: Unary, x: &Tensor, y: &Tensor, dy: &Tensor) -> Tensor {
    with_function!(
        f,
        Unary [Relu Sigmoid Tanh Hardswish Exp Log Sqrt Square Abs],
        F => map_grad([x, y, dy], |x, y, dy| scalar::derivative(F, x, y) * dy),
        Unary::Gelu => apply_derivative::<activation::Gelu>(x, dy),
        Unary::GeluTanh => apply_derivative::<activation::GeluTanh>(x, dy),
        Unary::Silu => apply_derivative::<activation::Silu>(x, dy)
    )
}

fn apply_derivative<F: Differentiable>(x: &Tensor, dy: &Tensor) -> Tensor {
    Tensor::build(*x.shape(), Device::Cpu, |dx| activation::apply_derivative::<F>(x.slice(), dy.slice(), dx))
}

fn map_grad(tensors: [&Tensor; 3], f: impl Fn(f32, f32, f32) -> f32 + Sync) -> Tensor {
    let [x, y, dy] = tensors.map(Tensor::slice::<f32>);
    fill(tensors[0].shape(), |range, dx| {
        let inputs = x[range.clone()].iter().zip(&y[range.clone()]).zip(&dy[range]);
        dx.iter_mut().zip(inputs).for_each(|(dx, ((&x, &y), &dy))| *dx = f(x, y, dy));
    })
}

pub(super) fn affine(x: &Tensor, scale: f64, shift: f64) -> Tensor {
    let (scale, shift) = (scale as f32, shift as f32);
    map(x, |x| x * scale + shift)
}

fn map(x: &Tensor, f: impl Fn(f32) -> f32 + Sync) -> Tensor {
    let values = x.slice::<f32>();
    fill(x.shape(), |range, out| out.iter_mut().zip(&values[range]).for_each(|(out, &x)| *out = f(x)))
}

/// A tensor whose parts are written by `part(range, elements)`.
fn fill(shape: &Shape, part: impl Fn(Range<usize>, &mut [f32]) + Sync) -> Tensor {
    let isa = isa::active();
    Tensor::build(*shape, Device::Cpu, |out: &mut [f32]| {
        let len = out.len();
        let out = Disjoint::new(out);
        for_each_chunk(len, |range| {
            // SAFETY: each task has its own range.
            let out = unsafe { out.range(range.clone()) };
            isa.vectorise(|| part(range, out));
        });
    })
}

pub(super) fn binary(f: Binary, a: &Tensor, b: &Tensor) -> Tensor {
    let shape = Shape::broadcast(f.name(), a.shape(), b.shape()).expect("shapes that were checked");
    let walk = Walk::new(&shape, [a, b].map(|operand| operand.shape().broadcast_strides(&shape)));
    let (a, b) = (a.slice::<f32>(), b.slice::<f32>());
    with_function!(f, Binary [Add Sub Mul Div], F => fill(&shape, |range, out| {
        let first = range.start;
        walk.for_each_run(range, |Run { output, starts: [at_a, at_b], steps }| {
            let out = &mut out[output.start - first..output.end - first];
            let len = out.len();
            match steps {
                [1, 1] => {
                    let operands = a[at_a..at_a + len].iter().zip(&b[at_b..at_b + len]);
                    out.iter_mut().zip(operands).for_each(|(out, (&a, &b))| *out = scalar::binary(F, a, b));
                }
                [1, 0] => {
                    let b = b[at_b];
                    out.iter_mut().zip(&a[at_a..]).for_each(|(out, &a)| *out = scalar::binary(F, a, b));
                }
                [0, 1] => {
                    let a = a[at_a];
                    out.iter_mut().zip(&b[at_b..]).for_each(|(out, &b)| *out = scalar::binary(F, a, b));
                }
                // Operands of one element each.
                _ => out.fill(scalar::binary(F, a[at_a], b[at_b])),
            }
        });
    }))
}

pub(super) fn dropout(x: &Tensor, p: f64, rng: Rng) -> Tensor {
    let values = x.slice::<f32>();
    let scale = (1.0 / (1.0 - p)) as f32;
    let limit = drop_limit(p);
    by_bits(x.shape(), rng, |first, bits, y| {
        let inputs = values[first..first + y.len()].iter().zip(bits);
        y.iter_mut().zip(inputs).for_each(|(y, (&x, &bits))| {
            // Written as a mask: a branch that goes either way by chance is expensive.
            let mask = if bits >> 8 < limit { 0 } else { u32::MAX };
            *y = f32::from_bits((x * scale).to_bits() & mask);
        });
    })
}

pub(super) fn uniform(shape: &Shape, low: f64, high: f64, rng: Rng) -> Tensor {
    by_bits(shape, rng, |_, bits, y| {
        y.iter_mut().zip(bits).for_each(|(y, &bits)| *y = uniform_of(bits, low, high) as f32);
    })
}

pub(super) fn normal(shape: &Shape, mean: f64, sd: f64, rng: Rng) -> Tensor {
    by_bits(shape, rng, |_, bits, y| {
        let fours = bits.as_chunks::<4>().0.iter().map(|&bits| normal_of(bits, mean, sd));
        y.iter_mut().zip(fours.flatten()).for_each(|(y, value)| *y = value as f32);
    })
}

/// Random numbers that are made at a time.
const NUMBERS: usize = 256;

/// A tensor whose elements are written from as many random numbers, `write(first, numbers, elements)`.
fn by_bits(shape: &Shape, rng: Rng, write: impl Fn(usize, &[u32; NUMBERS], &mut [f32]) + Sync) -> Tensor {
    let isa = isa::active();
    fill(shape, |range, out| {
        let mut numbers = [0; NUMBERS];
        // Chunks begin at multiples of four.
        for (out, first) in out.chunks_mut(NUMBERS).zip(range.step_by(NUMBERS)) {
            philox::fill(isa, rng, first as u64 / 4, &mut numbers);
            write(first, &numbers, out);
        }
    })
}
