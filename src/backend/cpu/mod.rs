//! The CPU backend: threads and vector instructions for `f32`; anything else is computed by the reference.
//!
//! `kernels` are functions on slices that know nothing of tensors, `Cpu` puts tensors round them. Work is split by shape alone, so
//! results have the same bits for any number of threads (those of the rayon pool that the caller runs in).

mod elementwise;
pub mod kernels;
mod layout;
mod norm;
mod optim;
mod relations;
mod rounding;
mod shapes;

use self::rounding::Operand;
use super::params::*;
use super::reference::{self, Reference};
use super::Backend;
use crate::error::Result;
use crate::tensor::{with_element, DType, Device, Rng, Shape, Tensor};
use kernels::conv;
use kernels::dots;
use kernels::gemm::{gemm, gemm_batched, Bias, Gemm};
use kernels::weights::Weights;
use kernels::{loss, pool, softmax};
use shapes::{build_pair, conv, image_shape, input_shape, pool, pooled_shape, row_len, weight_and_bias, weight_shape};

/// The CPU backend.
pub struct Cpu;

/// Hands a call with anything but `f32` to the reference: `f64` serves gradient checks, which are small.
macro_rules! reference_unless_f32 {
    ($x:expr, $call:ident($($argument:expr),*)) => {
        if $x.dtype() != DType::F32 {
            return Reference.$call($($argument),*);
        }
    };
}

/// A new `f32` tensor written by `fill`.
fn build(shape: Shape, fill: impl FnOnce(&mut [f32])) -> Tensor {
    Tensor::build(shape, Device::Cpu, fill)
}

/// A tensor's elements, to write.
fn written(x: &mut Tensor) -> &mut [f32] {
    x.storage_mut().as_mut_slice()
}

impl Backend for Cpu {
    fn upload(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.on_host_device(Device::Cpu))
    }

    fn full(&self, shape: &Shape, value: f64, dtype: DType) -> Result<Tensor> {
        Ok(reference::full(shape, value, dtype, Device::Cpu))
    }

    fn multiply_adds(&self, rounds: usize) -> Result<f64> {
        Ok(kernels::peak::multiply_adds(rounds))
    }

    fn unary(&self, f: Unary, x: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(x, unary(f, x));
        Ok(elementwise::unary(f, x))
    }

    fn unary_grad(&self, f: Unary, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(x, unary_grad(f, x, y, dy));
        Ok(elementwise::unary_grad(f, x, y, dy))
    }

    fn binary(&self, f: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(a, binary(f, a, b));
        Ok(elementwise::binary(f, a, b))
    }

    fn affine(&self, x: &Tensor, scale: f64, shift: f64) -> Result<Tensor> {
        reference_unless_f32!(x, affine(x, scale, shift));
        Ok(elementwise::affine(x, scale, shift))
    }

    fn add_assign(&self, acc: &mut Tensor, x: &Tensor) -> Result<()> {
        reference_unless_f32!(x, add_assign(acc, x));
        kernels::elementwise::add(x.slice(), written(acc));
        Ok(())
    }

    fn dropout(&self, x: &Tensor, p: f64, rng: Rng) -> Result<Tensor> {
        reference_unless_f32!(x, dropout(x, p, rng));
        Ok(elementwise::dropout(x, p, rng))
    }

    fn sum(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
        reference_unless_f32!(x, sum(x, dims));
        Ok(layout::sum(x, dims))
    }

    fn expand(&self, x: &Tensor, shape: &Shape) -> Result<Tensor> {
        Ok(with_element!(x.dtype(), T => layout::expand::<T>(x, shape)))
    }

    fn permute(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
        Ok(with_element!(x.dtype(), T => layout::permute::<T>(x, dims)))
    }

    // Copies of long stretches: one thread moves them as fast as memory allows.
    fn concat(&self, parts: &[&Tensor], dim: usize) -> Result<Tensor> {
        Reference.concat(parts, dim)
    }

    fn narrow(&self, x: &Tensor, dim: usize, start: usize, len: usize) -> Result<Tensor> {
        Reference.narrow(x, dim, start, len)
    }

    fn gather_rows(&self, table: &Tensor, index: &Tensor) -> Result<Tensor> {
        Ok(layout::gather_rows(table, index))
    }

    fn scatter_rows(&self, dy: &Tensor, index: &Tensor, rows: usize) -> Result<Tensor> {
        reference_unless_f32!(dy, scatter_rows(dy, index, rows));
        Ok(layout::scatter_rows(dy, index, rows))
    }

    // As many bytes as a batch has: one thread moves them.
    fn set_rows(&self, table: &mut Tensor, index: &Tensor, rows: &Tensor) -> Result<()> {
        Reference.set_rows(table, index, rows)
    }

    fn uniform(&self, shape: &Shape, low: f64, high: f64, dtype: DType, rng: Rng) -> Result<Tensor> {
        match dtype {
            DType::F32 => Ok(elementwise::uniform(shape, low, high, rng)),
            _ => Ok(Reference.uniform(shape, low, high, dtype, rng)?.on_host_device(Device::Cpu)),
        }
    }

    fn normal(&self, shape: &Shape, mean: f64, sd: f64, dtype: DType, rng: Rng) -> Result<Tensor> {
        match dtype {
            DType::F32 => Ok(elementwise::normal(shape, mean, sd, rng)),
            _ => Ok(Reference.normal(shape, mean, sd, dtype, rng)?.on_host_device(Device::Cpu)),
        }
    }

    fn matmul(&self, p: Matmul, a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        reference_unless_f32!(a, matmul(p, a, b, bias));
        let is = |side| if p.gradient == Some(side) { Operand::Gradient } else { Operand::Value };
        let (a, b) = (&rounding::operand(a, is(Side::A)), &rounding::operand(b, is(Side::B)));
        let sizes = MatmulSizes::new(p, a.shape(), b.shape());
        let &MatmulSizes { batch, m, k, n, b_is_shared, shape } = &sizes;
        let bias = bias.map_or(Bias::None, |bias| Bias::PerColumn(bias.slice()));
        let one =
            Gemm { m, n, k, trans_a: p.transpose_a, trans_b: p.transpose_b, bias, relu: p.relu, ..Gemm::default() };
        let (a, b, weights) = (a.slice(), b.slice(), Weights::of(b));
        Ok(build(shape, |c| match (batch, b_is_shared) {
            (1, _) => gemm(&one, a, weights, c),
            // A shared matrix sees the batch as more rows, where these lie one after another.
            (_, true) if !p.transpose_a => gemm(&Gemm { m: batch * m, ..one }, a, weights, c),
            (_, true) => {
                let items = a.chunks_exact((m * k).max(1)).zip(c.chunks_exact_mut((m * n).max(1)));
                items.for_each(|(a, c)| gemm(&one, a, weights, c));
            }
            (_, false) => gemm_batched(&one, batch, a, b, c),
        }))
    }

    fn gram(&self, x: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(x, gram(x));
        let x = &rounding::operand(x, Operand::Value);
        let [n, features] = [x.shape()[0], x.shape()[1]];
        Ok(build(Shape::from([n, n]), |y| dots::gram(x.slice(), features, y)))
    }

    fn conv2d(&self, g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        reference_unless_f32!(x, conv2d(g, x, w, bias, relu));
        let (x, w) = (&rounding::of_convolution(g, x, Operand::Value), &rounding::of_convolution(g, w, Operand::Value));
        let shape = Shape::from([g.n, g.c_out, g.out_h(), g.out_w()]);
        Ok(build(shape, |y| conv::forward(&conv(g), x.slice(), Weights::of(w), bias.map(Tensor::slice), relu, y)))
    }

    fn conv2d_grad_input(&self, g: &Conv2dGeometry, dy: &Tensor, w: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(dy, conv2d_grad_input(g, dy, w));
        let (dy, w) =
            (&rounding::of_convolution(g, dy, Operand::Gradient), &rounding::of_convolution(g, w, Operand::Value));
        Ok(build(input_shape(g), |dx| conv::grad_input(&conv(g), dy.slice(), w.slice(), dx)))
    }

    fn conv2d_grad_weight(
        &self,
        g: &Conv2dGeometry,
        x: &Tensor,
        dy: &Tensor,
        bias: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        reference_unless_f32!(x, conv2d_grad_weight(g, x, dy, bias));
        if rounding::rounds(g) {
            return rounding::weight_of_rounded(x, dy, |x, dy| self.conv2d_grad_weight(g, x, dy, bias));
        }
        let fill = |dw: &mut [f32], db: Option<&mut [f32]>| conv::grad_weight(&conv(g), x.slice(), dy.slice(), dw, db);
        if !bias {
            return Ok((build(weight_shape(g), |dw| fill(dw, None)), None));
        }
        let (dw, db) = weight_and_bias(g, |dw, db| fill(dw, Some(db)));
        Ok((dw, Some(db)))
    }

    fn conv2d_relu_pool(&self, g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<(Tensor, Tensor)> {
        reference_unless_f32!(x, conv2d_relu_pool(g, x, w, bias));
        let (x, w) = (&rounding::of_convolution(g, x, Operand::Value), &rounding::of_convolution(g, w, Operand::Value));
        let shape = Shape::from([g.n, g.c_out, g.out_h() / 2, g.out_w() / 2]);
        Ok(build_pair(shape, |y, winner: &mut [u8]| {
            conv::forward_relu_pool(&conv(g), x.slice(), Weights::of(w), Some(bias.slice()), y, Some(winner));
        }))
    }

    fn conv2d_relu_pool_only(&self, g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(x, conv2d_relu_pool_only(g, x, w, bias));
        let (x, w) = (&rounding::of_convolution(g, x, Operand::Value), &rounding::of_convolution(g, w, Operand::Value));
        let shape = Shape::from([g.n, g.c_out, g.out_h() / 2, g.out_w() / 2]);
        Ok(build(shape, |y| {
            conv::forward_relu_pool(&conv(g), x.slice(), Weights::of(w), Some(bias.slice()), y, None);
        }))
    }

    fn conv2d_pooled_grad_input(&self, g: &Conv2dGeometry, dy: &Tensor, winner: &Tensor, w: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(dy, conv2d_pooled_grad_input(g, dy, winner, w));
        let (dy, w) =
            (&rounding::of_convolution(g, dy, Operand::Gradient), &rounding::of_convolution(g, w, Operand::Value));
        Ok(build(input_shape(g), |dx| {
            conv::pooled_grad_input(&conv(g), dy.slice(), winner.slice(), w.slice(), dx);
        }))
    }

    fn conv2d_pooled_grad_weight(
        &self,
        g: &Conv2dGeometry,
        x: &Tensor,
        dy: &Tensor,
        winner: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        reference_unless_f32!(x, conv2d_pooled_grad_weight(g, x, dy, winner));
        if rounding::rounds(g) {
            return rounding::weight_of_rounded(x, dy, |x, dy| self.conv2d_pooled_grad_weight(g, x, dy, winner));
        }
        Ok(weight_and_bias(g, |dw, db| {
            conv::pooled_grad_weight(&conv(g), x.slice(), dy.slice(), winner.slice(), dw, Some(db));
        }))
    }

    fn max_pool2d(&self, p: &Pool2d, x: &Tensor) -> Result<(Tensor, Tensor)> {
        reference_unless_f32!(x, max_pool2d(p, x));
        Ok(build_pair(pooled_shape(p, x), |y, index: &mut [i32]| {
            pool::max_pool(&pool(p, x), x.slice(), y, bytemuck::cast_slice_mut(index));
        }))
    }

    fn max_pool2d_grad(&self, p: &Pool2d, dy: &Tensor, index: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(dy, max_pool2d_grad(p, dy, index));
        Ok(build(image_shape(p, dy), |dx| {
            pool::max_pool_backward(&pool(p, dy), dy.slice(), bytemuck::cast_slice(index.slice::<i32>()), dx);
        }))
    }

    fn avg_pool2d(&self, p: &Pool2d, x: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(x, avg_pool2d(p, x));
        Ok(build(pooled_shape(p, x), |y| pool::avg_pool(&pool(p, x), x.slice(), y)))
    }

    fn avg_pool2d_grad(&self, p: &Pool2d, dy: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(dy, avg_pool2d_grad(p, dy));
        Ok(build(image_shape(p, dy), |dx| pool::avg_pool_backward(&pool(p, dy), dy.slice(), dx)))
    }

    fn adaptive_avg_pool2d(&self, x: &Tensor, out: [usize; 2]) -> Result<Tensor> {
        match out {
            [1, 1] => self.affine(&self.sum(x, &[2, 3])?, 1.0 / (x.shape()[2] * x.shape()[3]) as f64, 0.0),
            _ => {
                reference_unless_f32!(x, adaptive_avg_pool2d(x, out));
                let [n, c, h, w] = *x.shape().first_chunk().expect("images");
                let bins = pool::Bins::adaptive(n * c, [h, w], out);
                Ok(build(Shape::from([n, c, out[0], out[1]]), |y| bins.forward(x.slice(), y)))
            }
        }
    }

    fn adaptive_avg_pool2d_grad(&self, dy: &Tensor, input: [usize; 2]) -> Result<Tensor> {
        match **dy.shape() {
            [n, c, 1, 1] => {
                let share = self.affine(dy, 1.0 / (input[0] * input[1]) as f64, 0.0)?;
                self.expand(&share, &Shape::from([n, c, input[0], input[1]]))
            }
            [n, c, out_h, out_w] if dy.dtype() == DType::F32 => {
                let bins = pool::Bins::adaptive(n * c, input, [out_h, out_w]);
                Ok(build(Shape::from([n, c, input[0], input[1]]), |dx| bins.backward(dy.slice(), dx)))
            }
            _ => Reference.adaptive_avg_pool2d_grad(dy, input),
        }
    }

    fn softmax(&self, x: &Tensor, temperature: f64, log: bool) -> Result<Tensor> {
        reference_unless_f32!(x, softmax(x, temperature, log));
        let kernel = if log { softmax::log_softmax } else { softmax::softmax };
        Ok(build(*x.shape(), |y| kernel(x.slice(), row_len(x), temperature as f32, y)))
    }

    fn softmax_grad(&self, y: &Tensor, dy: &Tensor, temperature: f64, log: bool) -> Result<Tensor> {
        reference_unless_f32!(y, softmax_grad(y, dy, temperature, log));
        let kernel = if log { softmax::log_softmax_backward } else { softmax::softmax_backward };
        Ok(build(*y.shape(), |grad| {
            grad.copy_from_slice(dy.slice());
            kernel(y.slice(), row_len(y), temperature as f32, grad);
        }))
    }

    fn cross_entropy(&self, p: CrossEntropy, logits: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
        reference_unless_f32!(logits, cross_entropy(p, logits, labels));
        let smoothing = p.label_smoothing as f32;
        let kernel = loss::CrossEntropy { classes: row_len(logits), smoothing };
        let mut mean = 0.0;
        let mut losses = build(*labels.shape(), |_| ());
        let grad = build(*logits.shape(), |grad| {
            mean = kernel.run(logits.slice(), labels.slice(), written(&mut losses), grad);
        });
        Ok((Tensor::scalar(mean as f32, Device::Cpu)?, grad))
    }

    fn distillation(&self, p: Distillation, inputs: DistillationInputs) -> Result<DistillationOutput> {
        let DistillationInputs { student, teacher, labels, sample_weights } = inputs;
        match student.dtype() {
            DType::F32 => {}
            DType::BF16 => return reference::in_f32(self, p, inputs),
            _ => return Reference.distillation(p, inputs),
        }
        let Distillation { divergence, temperature, hard_weight, soft_weight } = p;
        let kernel =
            loss::Distillation { classes: row_len(student), divergence, temperature, hard_weight, soft_weight };
        let inputs = loss::Inputs {
            student: student.slice(),
            teacher: teacher.slice(),
            labels: labels.map(Tensor::slice),
            weights: sample_weights.map(Tensor::slice),
        };
        let mut terms = None;
        let [mut hard, mut soft] = [(); 2].map(|()| build(Shape::from([student.shape()[0]]), |_| ()));
        let grad = build(*student.shape(), |grad| {
            terms = Some(kernel.run(inputs, [written(&mut hard), written(&mut soft)], grad));
        });
        let loss::Terms { hard, soft, total } = terms.expect("the kernel has run");
        let scalar = |term: f64| Tensor::scalar(term as f32, Device::Cpu);
        Ok(DistillationOutput { total: scalar(total)?, hard: scalar(hard)?, soft: scalar(soft)?, grad })
    }

    fn noise_contrast(
        &self,
        p: NoiseContrast,
        vectors: &Tensor,
        memory: &Tensor,
        own: &Tensor,
        counts: &Tensor,
    ) -> Result<[Tensor; 2]> {
        reference_unless_f32!(vectors, noise_contrast(p, vectors, memory, own, counts));
        let x = loss::Contrasted {
            vectors: vectors.slice(),
            memory: memory.slice(),
            rows: memory.shape()[0],
            width: row_len(vectors),
            own: own.slice(),
            counts: counts.slice(),
        };
        let mut losses = build(*own.shape(), |_| ());
        let grad = build(*vectors.shape(), |grad| loss::NoiseContrast::new(p).run(x, written(&mut losses), grad));
        Ok([losses, grad])
    }

    fn batch_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<BatchNormOutput> {
        reference_unless_f32!(x, batch_norm(x, weight, bias, eps));
        Ok(norm::batch_norm(x, weight, bias, eps))
    }

    fn batch_norm_grad(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
    ) -> Result<[Tensor; 3]> {
        reference_unless_f32!(x, batch_norm_grad(x, weight, dy, mean, rstd));
        Ok(norm::batch_norm_grad(x, weight, dy, mean, rstd))
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<[Tensor; 3]> {
        reference_unless_f32!(x, layer_norm(x, weight, bias, eps));
        Ok(norm::layer_norm(x, weight, bias, eps))
    }

    fn layer_norm_grad(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
    ) -> Result<[Tensor; 3]> {
        reference_unless_f32!(x, layer_norm_grad(x, weight, dy, mean, rstd));
        Ok(norm::layer_norm_grad(x, weight, dy, mean, rstd))
    }

    fn argmax(&self, x: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(x, argmax(x));
        let shape = x.shape().reduced(&[x.shape().rank() - 1], false);
        Ok(Tensor::build(shape, Device::Cpu, |index| softmax::argmax(x.slice(), row_len(x), index)))
    }

    fn gather_images(&self, images: &Tensor, index: &Tensor, plans: Option<&Tensor>) -> Result<Tensor> {
        Ok(reference::images::gather_images(images, index, plans))
    }

    fn count_confusion(&self, predictions: &Tensor, labels: &Tensor, counts: &mut Tensor) -> Result<()> {
        reference::images::count_confusion(predictions, labels, counts);
        Ok(())
    }

    fn pairwise_distances(&self, x: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(x, pairwise_distances(x));
        Ok(relations::pairwise_distances(x))
    }

    fn pairwise_distances_grad(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        reference_unless_f32!(x, pairwise_distances_grad(x, dy));
        Ok(relations::pairwise_distances_grad(x, dy))
    }

    fn angle_losses(&self, student: &Tensor, teacher: &Tensor) -> Result<[Tensor; 2]> {
        reference_unless_f32!(student, angle_losses(student, teacher));
        Ok(relations::angle_losses(student, teacher))
    }

    fn attention_map(&self, x: &Tensor, power: f64) -> Result<Tensor> {
        reference_unless_f32!(x, attention_map(x, power));
        Ok(relations::attention_map(x, power))
    }

    fn attention_map_grad(&self, x: &Tensor, dy: &Tensor, power: f64) -> Result<Tensor> {
        reference_unless_f32!(x, attention_map_grad(x, dy, power));
        Ok(relations::attention_map_grad(x, dy, power))
    }

    fn optimize(&self, rule: Rule, gradient_scale: f64, slots: &mut [OptimizerSlot]) -> Result<()> {
        for slot in slots {
            match slot.gradient.dtype() {
                DType::F32 => optim::optimise(rule, gradient_scale, slot),
                _ => Reference.optimize(rule, gradient_scale, std::slice::from_mut(slot))?,
            }
        }
        Ok(())
    }

    fn lerp(&self, acc: &mut Tensor, x: &Tensor, keep: f64) -> Result<()> {
        reference_unless_f32!(x, lerp(acc, x, keep));
        kernels::optim::ema(written(acc), x.slice(), keep as f32);
        Ok(())
    }

    fn sum_of_squares(&self, tensors: &[&Tensor]) -> Result<f64> {
        let each = |x: &&Tensor| match x.dtype() {
            DType::F32 => Ok(kernels::elementwise::sum_of_squares(x.slice())),
            _ => Reference.sum_of_squares(&[x]),
        };
        tensors.iter().map(each).sum()
    }
}
