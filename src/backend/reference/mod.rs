//! The plainest possible kernels, generic over `f32` and `f64`. They define what every op means and are never optimised; every
//! other backend is compared with them.

mod contrast;
mod conv2d;
mod distillation;
mod elementwise;
pub(super) mod images;
mod layout;
mod matmul;
mod norm;
mod optim;
mod pool2d;
mod random;
mod relations;
mod softmax;

use super::params::*;
use super::Backend;
use crate::error::Result;
use crate::tensor::{with_element, DType, Device, Real, Rng, Shape, Tensor};

/// The reference backend.
pub struct Reference;

/// Runs `$body` with `$t` bound to the float type of a tensor. Ops let only `f32` and `f64` through.
macro_rules! with_real {
    ($x:expr, $t:ident => $body:expr) => {
        match $x.dtype() {
            DType::F64 => {
                type $t = f64;
                $body
            }
            _ => {
                type $t = f32;
                $body
            }
        }
    };
}

/// A tensor from sums that were accumulated in `f64`, each rounded once.
fn from_wide<T: Real>(values: &[f64], shape: Shape, device: Device) -> Tensor {
    Tensor::build(shape, device, |out: &mut [T]| {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = T::of(value);
        }
    })
}

/// The distillation loss of `bf16` logits: computed in `f32`, the gradient rounded.
pub(super) fn in_f32(backend: &dyn Backend, p: Distillation, inputs: DistillationInputs) -> Result<DistillationOutput> {
    let (student, teacher) = (inputs.student.to_dtype(DType::F32)?, inputs.teacher.to_dtype(DType::F32)?);
    let output = backend.distillation(p, DistillationInputs { student: &student, teacher: &teacher, ..inputs })?;
    Ok(DistillationOutput { grad: output.grad.to_dtype(DType::BF16)?, ..output })
}

/// A tensor of one number.
fn scalar<T: Real>(value: T, device: Device) -> Tensor {
    Tensor::build(Shape::SCALAR, device, |out: &mut [T]| out[0] = value)
}

/// Every element `value`, for the devices of the host.
pub(super) fn full(shape: &Shape, value: f64, dtype: DType, device: Device) -> Tensor {
    with_element!(dtype, T => {
        let value = <T as num_traits::NumCast>::from(value).expect("a fill value within the dtype's range");
        Tensor::build(*shape, device, |out: &mut [T]| out.fill(value))
    })
}

impl Backend for Reference {
    fn upload(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.on_host_device(Device::Reference))
    }

    fn full(&self, shape: &Shape, value: f64, dtype: DType) -> Result<Tensor> {
        Ok(full(shape, value, dtype, Device::Reference))
    }

    fn multiply_adds(&self, rounds: usize) -> Result<f64> {
        const ROUND: usize = 1000;
        let mut x = std::hint::black_box(1.0f64);
        for _ in 0..rounds * ROUND {
            x = 0.5 * x + 0.5;
        }
        std::hint::black_box(x);
        Ok(2.0 * (rounds * ROUND) as f64)
    }

    fn unary(&self, f: Unary, x: &Tensor) -> Result<Tensor> {
        Ok(with_real!(x, T => elementwise::unary::<T>(f, x)))
    }

    fn unary_grad(&self, f: Unary, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        Ok(with_real!(x, T => elementwise::unary_grad::<T>(f, x, y, dy)))
    }

    fn binary(&self, f: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(with_real!(a, T => elementwise::binary::<T>(f, a, b)))
    }

    fn affine(&self, x: &Tensor, scale: f64, shift: f64) -> Result<Tensor> {
        Ok(with_real!(x, T => elementwise::affine::<T>(x, scale, shift)))
    }

    fn add_assign(&self, acc: &mut Tensor, x: &Tensor) -> Result<()> {
        with_real!(acc, T => elementwise::add_assign::<T>(acc, x));
        Ok(())
    }

    fn dropout(&self, x: &Tensor, p: f64, rng: Rng) -> Result<Tensor> {
        Ok(with_real!(x, T => elementwise::dropout::<T>(x, p, rng)))
    }

    fn sum(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
        Ok(with_real!(x, T => layout::sum::<T>(x, dims)))
    }

    fn expand(&self, x: &Tensor, shape: &Shape) -> Result<Tensor> {
        Ok(with_element!(x.dtype(), T => layout::expand::<T>(x, shape)))
    }

    fn permute(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
        Ok(with_element!(x.dtype(), T => layout::permute::<T>(x, dims)))
    }

    fn concat(&self, parts: &[&Tensor], dim: usize) -> Result<Tensor> {
        Ok(with_element!(parts[0].dtype(), T => layout::concat::<T>(parts, dim)))
    }

    fn narrow(&self, x: &Tensor, dim: usize, start: usize, len: usize) -> Result<Tensor> {
        Ok(with_element!(x.dtype(), T => layout::narrow::<T>(x, dim, start, len)))
    }

    fn gather_rows(&self, table: &Tensor, index: &Tensor) -> Result<Tensor> {
        Ok(with_element!(table.dtype(), T => layout::gather_rows::<T>(table, index)))
    }

    fn scatter_rows(&self, dy: &Tensor, index: &Tensor, rows: usize) -> Result<Tensor> {
        Ok(with_real!(dy, T => layout::scatter_rows::<T>(dy, index, rows)))
    }

    fn set_rows(&self, table: &mut Tensor, index: &Tensor, rows: &Tensor) -> Result<()> {
        with_element!(rows.dtype(), T => layout::set_rows::<T>(table, index, rows));
        Ok(())
    }

    fn uniform(&self, shape: &Shape, low: f64, high: f64, dtype: DType, rng: Rng) -> Result<Tensor> {
        Ok(with_element!(dtype, T => random::uniform::<T>(shape, low, high, rng)))
    }

    fn normal(&self, shape: &Shape, mean: f64, sd: f64, dtype: DType, rng: Rng) -> Result<Tensor> {
        Ok(with_element!(dtype, T => random::normal::<T>(shape, mean, sd, rng)))
    }

    fn matmul(&self, p: Matmul, a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ok(with_real!(a, T => matmul::matmul::<T>(p, a, b, bias)))
    }

    fn conv2d(&self, g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        Ok(with_real!(x, T => conv2d::conv2d::<T>(g, x, w, bias, relu)))
    }

    fn conv2d_grad_input(&self, g: &Conv2dGeometry, dy: &Tensor, w: &Tensor) -> Result<Tensor> {
        Ok(with_real!(dy, T => conv2d::grad_input::<T>(g, dy, w)))
    }

    fn conv2d_grad_weight(
        &self,
        g: &Conv2dGeometry,
        x: &Tensor,
        dy: &Tensor,
        bias: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (dw, db) = with_real!(x, T => conv2d::grad_weight::<T>(g, x, dy));
        Ok((dw, bias.then_some(db)))
    }

    fn conv2d_relu_pool(&self, g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(with_real!(x, T => conv2d::relu_pool::<T>(g, x, w, bias)))
    }

    fn conv2d_pooled_grad_input(&self, g: &Conv2dGeometry, dy: &Tensor, winner: &Tensor, w: &Tensor) -> Result<Tensor> {
        Ok(with_real!(dy, T => conv2d::grad_input::<T>(g, &conv2d::unpool::<T>(g, dy, winner), w)))
    }

    fn conv2d_pooled_grad_weight(
        &self,
        g: &Conv2dGeometry,
        x: &Tensor,
        dy: &Tensor,
        winner: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        Ok(with_real!(x, T => conv2d::grad_weight::<T>(g, x, &conv2d::unpool::<T>(g, dy, winner))))
    }

    fn max_pool2d(&self, p: &Pool2d, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(with_real!(x, T => pool2d::max::<T>(p, x)))
    }

    fn max_pool2d_grad(&self, p: &Pool2d, dy: &Tensor, index: &Tensor) -> Result<Tensor> {
        Ok(with_real!(dy, T => pool2d::max_grad::<T>(p, dy, index)))
    }

    fn avg_pool2d(&self, p: &Pool2d, x: &Tensor) -> Result<Tensor> {
        Ok(with_real!(x, T => pool2d::avg::<T>(p, x)))
    }

    fn avg_pool2d_grad(&self, p: &Pool2d, dy: &Tensor) -> Result<Tensor> {
        Ok(with_real!(dy, T => pool2d::avg_grad::<T>(p, dy)))
    }

    fn adaptive_avg_pool2d(&self, x: &Tensor, out: [usize; 2]) -> Result<Tensor> {
        Ok(with_real!(x, T => pool2d::adaptive_avg::<T>(x, out)))
    }

    fn adaptive_avg_pool2d_grad(&self, dy: &Tensor, input: [usize; 2]) -> Result<Tensor> {
        Ok(with_real!(dy, T => pool2d::adaptive_avg_grad::<T>(dy, input)))
    }

    fn softmax(&self, x: &Tensor, temperature: f64, log: bool) -> Result<Tensor> {
        Ok(with_real!(x, T => softmax::softmax::<T>(x, temperature, log)))
    }

    fn softmax_grad(&self, y: &Tensor, dy: &Tensor, temperature: f64, log: bool) -> Result<Tensor> {
        Ok(with_real!(y, T => softmax::softmax_grad::<T>(y, dy, temperature, log)))
    }

    fn cross_entropy(&self, p: CrossEntropy, logits: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok(with_real!(logits, T => softmax::cross_entropy::<T>(p, logits, labels)))
    }

    fn distillation(&self, p: Distillation, inputs: DistillationInputs) -> Result<DistillationOutput> {
        if inputs.student.dtype() == DType::BF16 {
            return in_f32(self, p, inputs);
        }
        Ok(with_real!(inputs.student, T => distillation::distillation::<T>(p, inputs)))
    }

    fn noise_contrast(
        &self,
        p: NoiseContrast,
        vectors: &Tensor,
        memory: &Tensor,
        own: &Tensor,
        counts: &Tensor,
    ) -> Result<[Tensor; 2]> {
        Ok(with_real!(vectors, T => contrast::noise_contrast::<T>(p, vectors, memory, own, counts)))
    }

    fn batch_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<BatchNormOutput> {
        Ok(with_real!(x, T => norm::batch_norm::<T>(x, weight, bias, eps)))
    }

    fn batch_norm_grad(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
    ) -> Result<[Tensor; 3]> {
        Ok(with_real!(x, T => norm::batch_norm_grad::<T>(x, weight, dy, mean, rstd)))
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<[Tensor; 3]> {
        Ok(with_real!(x, T => norm::layer_norm::<T>(x, weight, bias, eps)))
    }

    fn layer_norm_grad(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
    ) -> Result<[Tensor; 3]> {
        Ok(with_real!(x, T => norm::layer_norm_grad::<T>(x, weight, dy, mean, rstd)))
    }

    fn argmax(&self, x: &Tensor) -> Result<Tensor> {
        Ok(with_real!(x, T => softmax::argmax::<T>(x)))
    }

    fn gather_images(&self, images: &Tensor, index: &Tensor, plans: Option<&Tensor>) -> Result<Tensor> {
        Ok(images::gather_images(images, index, plans))
    }

    fn count_confusion(&self, predictions: &Tensor, labels: &Tensor, counts: &mut Tensor) -> Result<()> {
        images::count_confusion(predictions, labels, counts);
        Ok(())
    }

    fn pairwise_distances(&self, x: &Tensor) -> Result<Tensor> {
        Ok(with_real!(x, T => relations::pairwise_distances::<T>(x)))
    }

    fn pairwise_distances_grad(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        Ok(with_real!(x, T => relations::pairwise_distances_grad::<T>(x, dy)))
    }

    fn angle_losses(&self, student: &Tensor, teacher: &Tensor) -> Result<[Tensor; 2]> {
        Ok(with_real!(student, T => relations::angle_losses::<T>(student, teacher)))
    }

    fn attention_map(&self, x: &Tensor, power: f64) -> Result<Tensor> {
        Ok(with_real!(x, T => relations::attention_map::<T>(x, power)))
    }

    fn attention_map_grad(&self, x: &Tensor, dy: &Tensor, power: f64) -> Result<Tensor> {
        Ok(with_real!(x, T => relations::attention_map_grad::<T>(x, dy, power)))
    }

    fn optimize(&self, rule: Rule, gradient_scale: f64, slots: &mut [OptimizerSlot]) -> Result<()> {
        for slot in slots {
            with_real!(slot.gradient, T => optim::step::<T>(rule, gradient_scale, slot));
        }
        Ok(())
    }

    fn lerp(&self, acc: &mut Tensor, x: &Tensor, keep: f64) -> Result<()> {
        with_real!(acc, T => optim::lerp::<T>(acc, x, keep));
        Ok(())
    }

    fn sum_of_squares(&self, tensors: &[&Tensor]) -> Result<f64> {
        Ok(tensors.iter().map(|x| with_real!(x, T => optim::sum_of_squares::<T>(x))).sum())
    }
}
