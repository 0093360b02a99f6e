//! The [`Backend`] of a CUDA device. Kernels compute in `f32`; what only moves elements takes any type.

use super::conv2d::OutputGradient;
use super::device::CudaDevice;
use super::driver::{Launch, Step};
use super::{
    bundle, conv2d, elementwise, images, layout, limits, losses, matmul, memory, norm, optim, pool2d, relations,
    softmax,
};
use crate::backend::params::*;
use crate::backend::Later;
use crate::backend::{cpu::Cpu, Backend, Launched};
use crate::error::{Error, Result};
use crate::tensor::{DType, Rng, Shape, Tensor};

/// Refuses anything but `f32`: double precision is for gradient checks, which the reference backend does.
fn f32_only(op: &'static str, x: &Tensor) -> Result<()> {
    match x.dtype() {
        DType::F32 => Ok(()),
        other => {
            let expected = "f32, in which CUDA kernels compute (convert with `to_dtype`)".to_string();
            Err(Error::DType { op, arg: "self", expected, found: other.to_string() })
        }
    }
}

impl Backend for CudaDevice {
    fn upload(&self, x: &Tensor) -> Result<Tensor> {
        self.upload(x)
    }

    fn full(&self, shape: &Shape, value: f64, dtype: DType) -> Result<Tensor> {
        match dtype {
            DType::F32 => elementwise::fill(self, shape, value),
            _ => self.upload(&Cpu.full(shape, value, dtype)?),
        }
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        self.driver()?.time(work)
    }

    fn bundle(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        match bundle::enabled() {
            true => self.bundler()?.bundle(work),
            false => work(),
        }
    }

    fn in_lane(&self, lane: u32, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.bundler()?.in_lane(lane, work)
    }

    fn runs_ahead(&self) -> bool {
        bundle::enabled()
    }

    fn timeline(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Launched>> {
        let launched = |(step, seconds)| match step {
            Step::Launch(Launch { kernel, shapes, .. }) => Launched { kernel, shapes, seconds },
            Step::Copy { .. } => Launched { kernel: "copy", shapes: Vec::new(), seconds },
        };
        Ok(self.bundler()?.timeline(work)?.into_iter().map(launched).collect())
    }

    fn launches(&self) -> Option<String> {
        Some(self.bundler().ok()?.counts().to_string())
    }

    fn items(&self, scalars: &[&Tensor]) -> Result<Later<Vec<f64>>> {
        memory::items(self, scalars)
    }

    fn peak_memory(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<usize> {
        memory::peak_of(work)
    }

    fn empty_cache(&self) -> Result<()> {
        limits::empty_cache(self)
    }

    fn multiply_adds(&self, rounds: usize) -> Result<f64> {
        limits::multiply_adds(self, rounds)
    }

    fn unary(&self, f: Unary, x: &Tensor) -> Result<Tensor> {
        f32_only(f.name(), x)?;
        elementwise::unary(self, f, x)
    }

    fn unary_grad(&self, f: Unary, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Tensor> {
        f32_only(f.name(), x)?;
        elementwise::unary_grad(self, f, x, y, dy)
    }

    fn binary(&self, f: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        f32_only(f.name(), a)?;
        elementwise::binary(self, f, a, b)
    }

    fn affine(&self, x: &Tensor, scale: f64, shift: f64) -> Result<Tensor> {
        f32_only("affine", x)?;
        elementwise::affine(self, x, scale, shift)
    }

    fn add_assign(&self, acc: &mut Tensor, x: &Tensor) -> Result<()> {
        f32_only("add", x)?;
        elementwise::add_assign(self, acc, x)
    }

    fn dropout(&self, x: &Tensor, p: f64, rng: Rng) -> Result<Tensor> {
        f32_only("dropout", x)?;
        elementwise::dropout(self, x, p, rng)
    }

    fn sum(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
        f32_only("sum", x)?;
        layout::sum(self, x, dims)
    }

    fn expand(&self, x: &Tensor, shape: &Shape) -> Result<Tensor> {
        layout::expand(self, x, shape)
    }

    fn permute(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
        layout::permute(self, x, dims)
    }

    fn concat(&self, parts: &[&Tensor], dim: usize) -> Result<Tensor> {
        layout::concat(self, parts, dim)
    }

    fn narrow(&self, x: &Tensor, dim: usize, start: usize, len: usize) -> Result<Tensor> {
        layout::narrow(self, x, dim, start, len)
    }

    fn gather_rows(&self, table: &Tensor, index: &Tensor) -> Result<Tensor> {
        layout::gather_rows(self, table, index)
    }

    fn scatter_rows(&self, dy: &Tensor, index: &Tensor, rows: usize) -> Result<Tensor> {
        f32_only("gather_rows", dy)?;
        layout::scatter_rows(self, dy, index, rows)
    }

    fn set_rows(&self, table: &mut Tensor, index: &Tensor, rows: &Tensor) -> Result<()> {
        f32_only("set_rows", rows)?;
        layout::set_rows(self, table, index, rows)
    }

    fn uniform(&self, shape: &Shape, low: f64, high: f64, dtype: DType, rng: Rng) -> Result<Tensor> {
        match dtype {
            DType::F32 => elementwise::random(self, "uniform", shape, [low, high], rng),
            _ => self.upload(&Cpu.uniform(shape, low, high, dtype, rng)?),
        }
    }

    fn normal(&self, shape: &Shape, mean: f64, sd: f64, dtype: DType, rng: Rng) -> Result<Tensor> {
        match dtype {
            DType::F32 => elementwise::random(self, "normal", shape, [mean, sd], rng),
            _ => self.upload(&Cpu.normal(shape, mean, sd, dtype, rng)?),
        }
    }

    fn matmul(&self, p: Matmul, a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        f32_only("matmul", a)?;
        matmul::matmul(self, p, a, b, bias)
    }

    fn conv2d(&self, g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        f32_only("conv2d", x)?;
        conv2d::conv2d(self, g, x, w, bias, relu)
    }

    fn conv2d_grad_input(&self, g: &Conv2dGeometry, dy: &Tensor, w: &Tensor) -> Result<Tensor> {
        f32_only("conv2d", dy)?;
        conv2d::grad_input(self, g, OutputGradient { dy, winners: None }, w)
    }

    fn conv2d_grad_weight(
        &self,
        g: &Conv2dGeometry,
        x: &Tensor,
        dy: &Tensor,
        bias: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        f32_only("conv2d", x)?;
        let gradient = OutputGradient { dy, winners: None };
        let db = || conv2d::grad_bias(self, g, gradient);
        Ok((conv2d::grad_weight(self, g, x, gradient)?, bias.then(db).transpose()?))
    }

    fn conv2d_relu_pool(&self, g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<(Tensor, Tensor)> {
        f32_only("conv2d_relu_pool", x)?;
        conv2d::relu_pool(self, g, x, w, bias)
    }

    fn conv2d_pooled_grad_input(&self, g: &Conv2dGeometry, dy: &Tensor, winner: &Tensor, w: &Tensor) -> Result<Tensor> {
        f32_only("conv2d_relu_pool", dy)?;
        conv2d::grad_input(self, g, OutputGradient { dy, winners: Some(winner) }, w)
    }

    fn conv2d_pooled_grad_weight(
        &self,
        g: &Conv2dGeometry,
        x: &Tensor,
        dy: &Tensor,
        winner: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        f32_only("conv2d_relu_pool", x)?;
        let gradient = OutputGradient { dy, winners: Some(winner) };
        Ok((conv2d::grad_weight(self, g, x, gradient)?, conv2d::grad_bias(self, g, gradient)?))
    }

    fn max_pool2d(&self, p: &Pool2d, x: &Tensor) -> Result<(Tensor, Tensor)> {
        f32_only("max_pool2d", x)?;
        pool2d::max(self, p, x)
    }

    fn max_pool2d_grad(&self, p: &Pool2d, dy: &Tensor, index: &Tensor) -> Result<Tensor> {
        f32_only("max_pool2d", dy)?;
        pool2d::max_grad(self, p, dy, index)
    }

    fn avg_pool2d(&self, p: &Pool2d, x: &Tensor) -> Result<Tensor> {
        f32_only("avg_pool2d", x)?;
        pool2d::avg(self, p, x)
    }

    fn avg_pool2d_grad(&self, p: &Pool2d, dy: &Tensor) -> Result<Tensor> {
        f32_only("avg_pool2d", dy)?;
        pool2d::avg_grad(self, p, dy)
    }

    fn adaptive_avg_pool2d(&self, x: &Tensor, out: [usize; 2]) -> Result<Tensor> {
        f32_only("adaptive_avg_pool2d", x)?;
        pool2d::adaptive_avg(self, x, out)
    }

    fn adaptive_avg_pool2d_grad(&self, dy: &Tensor, input: [usize; 2]) -> Result<Tensor> {
        f32_only("adaptive_avg_pool2d", dy)?;
        pool2d::adaptive_avg_grad(self, dy, input)
    }

    fn softmax(&self, x: &Tensor, temperature: f64, log: bool) -> Result<Tensor> {
        f32_only("softmax", x)?;
        softmax::softmax(self, x, temperature, log)
    }

    fn softmax_grad(&self, y: &Tensor, dy: &Tensor, temperature: f64, log: bool) -> Result<Tensor> {
        f32_only("softmax", y)?;
        softmax::softmax_grad(self, y, dy, temperature, log)
    }

    fn cross_entropy(&self, p: CrossEntropy, logits: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
        f32_only("cross_entropy", logits)?;
        losses::cross_entropy(self, p, logits, labels)
    }

    fn distillation(&self, p: Distillation, inputs: DistillationInputs) -> Result<DistillationOutput> {
        if inputs.student.dtype() != DType::BF16 {
            f32_only("distillation", inputs.student)?;
        }
        losses::distillation(self, p, inputs)
    }

    fn noise_contrast(
        &self,
        p: NoiseContrast,
        vectors: &Tensor,
        memory: &Tensor,
        own: &Tensor,
        counts: &Tensor,
    ) -> Result<[Tensor; 2]> {
        f32_only("noise_contrastive_loss", vectors)?;
        losses::noise_contrast(self, p, vectors, memory, own, counts)
    }

    fn batch_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<BatchNormOutput> {
        f32_only("batch_norm", x)?;
        norm::batch_norm(self, x, weight, bias, eps)
    }

    fn batch_norm_grad(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
    ) -> Result<[Tensor; 3]> {
        f32_only("batch_norm", x)?;
        norm::batch_norm_grad(self, x, weight, dy, mean, rstd)
    }

    fn layer_norm(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<[Tensor; 3]> {
        f32_only("layer_norm", x)?;
        norm::layer_norm(self, x, weight, bias, eps)
    }

    fn layer_norm_grad(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
    ) -> Result<[Tensor; 3]> {
        f32_only("layer_norm", x)?;
        norm::layer_norm_grad(self, x, weight, dy, mean, rstd)
    }

    fn argmax(&self, x: &Tensor) -> Result<Tensor> {
        f32_only("argmax", x)?;
        softmax::argmax(self, x)
    }

    fn gather_images(&self, images: &Tensor, index: &Tensor, plans: Option<&Tensor>) -> Result<Tensor> {
        images::gather_images(self, images, index, plans)
    }

    fn count_confusion(&self, predictions: &Tensor, labels: &Tensor, counts: &mut Tensor) -> Result<()> {
        images::count_confusion(self, predictions, labels, counts)
    }

    fn pairwise_distances(&self, x: &Tensor) -> Result<Tensor> {
        f32_only("pairwise_squared_distances", x)?;
        relations::pairwise_distances(self, x)
    }

    fn pairwise_distances_grad(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        f32_only("pairwise_squared_distances", x)?;
        relations::pairwise_distances_grad(self, x, dy)
    }

    fn angle_losses(&self, student: &Tensor, teacher: &Tensor) -> Result<[Tensor; 2]> {
        f32_only("angle_loss", student)?;
        relations::angle_losses(self, student, teacher)
    }

    fn attention_map(&self, x: &Tensor, power: f64) -> Result<Tensor> {
        f32_only("attention_map", x)?;
        relations::attention_map(self, x, power)
    }

    fn attention_map_grad(&self, x: &Tensor, dy: &Tensor, power: f64) -> Result<Tensor> {
        f32_only("attention_map", x)?;
        relations::attention_map_grad(self, x, dy, power)
    }

    fn optimize(&self, rule: Rule, gradient_scale: f64, slots: &mut [OptimizerSlot]) -> Result<()> {
        slots.iter().try_for_each(|slot| f32_only("optimizer", slot.gradient))?;
        optim::optimize(self, rule, gradient_scale, slots)
    }

    fn lerp(&self, acc: &mut Tensor, x: &Tensor, keep: f64) -> Result<()> {
        f32_only("lerp", x)?;
        elementwise::lerp(self, acc, x, keep)
    }

    fn sum_of_squares(&self, tensors: &[&Tensor]) -> Result<f64> {
        tensors.iter().try_for_each(|x| f32_only("sum_of_squares", x))?;
        optim::sum_of_squares(self, tensors)
    }
}
