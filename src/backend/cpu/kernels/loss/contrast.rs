//! Noise-contrastive estimation of vectors against a memory, with its gradient, without ever storing the scores.
//!
//! A task is a band of samples, one in each lane, and a stretch of the memory, block by block: the block's rows times the band's vectors are
//! scores, which become slopes in place, which times the same rows are added to the gradient. Both products pick scalars of the memory as
//! it lies, so nothing of its size is packed or written; a block, its scores and the band's sums stay in cache.

use crate::backend::cpu::kernels::elementwise::add_parts;
use crate::backend::cpu::kernels::isa::{self, Isa, Kernel};
use crate::backend::cpu::kernels::parallel::{flops_ns, for_each, Disjoint};
use crate::backend::cpu::kernels::scratch::{take, zeroed};
use crate::backend::cpu::kernels::simd::{exp, log, Simd, MAX_LANES};
use crate::backend::cpu::kernels::tile::{multiply, panel_lanes, Picked};
use crate::backend::cpu::kernels::transpose::transpose;
use crate::backend::cpu::kernels::vector;
use crate::backend::params;
use std::ops::Range;

/// Rows of the memory in a task.
const STRETCH: usize = 1024;
/// Rows of the memory at a time.
const BLOCK: usize = 64;

/// Noise-contrastive estimation, `e = exp(score / τ − shift)`.
#[derive(Clone, Copy, Debug)]
pub struct NoiseContrast {
    /// 1/τ.
    inverse: f32,
    shift: f32,
    floor: f32,
}

/// What is told from what.
#[derive(Clone, Copy)]
pub struct Contrasted<'a> {
    /// `[n, width]`.
    pub vectors: &'a [f32],
    /// `[rows, width]`.
    pub memory: &'a [f32],
    /// How many rows the memory has.
    pub rows: usize,
    /// The length of a vector.
    pub width: usize,
    /// The row of the memory that is each vector's own, `[n]`.
    pub own: &'a [i32],
    /// How often each row is noise to each vector, `[n, rows]`.
    pub counts: &'a [f32],
}

impl NoiseContrast {
    /// With these numbers.
    pub fn new(p: params::NoiseContrast) -> Self {
        NoiseContrast { inverse: (1.0 / p.tau) as f32, shift: p.shift as f32, floor: p.floor as f32 }
    }

    /// Each vector's loss `[n]`, `Σ counts · log(floor + e) + log(floor / e_own + 1)`, and the gradient of their sum, `[n, width]`.
    ///
    /// # Panics
    /// When a length is wrong or an own row is none.
    pub fn run(&self, x: Contrasted, losses: &mut [f32], grad: &mut [f32]) {
        let (n, Contrasted { rows, width, .. }) = (x.own.len(), x);
        assert!(x.vectors.len() == n * width && x.memory.len() == rows * width, "noise_contrast: vectors of {width}");
        assert!(x.counts.len() == n * rows && losses.len() == n && grad.len() == n * width, "noise_contrast: {n} rows");
        let isa = isa::active();
        let lanes = panel_lanes(isa, n);
        let (bands, stretches) = (n.div_ceil(lanes), rows.div_ceil(STRETCH));
        let part = n * (1 + width);
        let mut parts = zeroed(stretches.max(1) * part);
        let shared = Disjoint::new(&mut parts);
        for_each(bands * stretches, flops_ns((4 * width + 40) * n * rows), |task| {
            let (stretch, band) = (task / bands, task % bands);
            let samples = band * lanes..n.min((band + 1) * lanes);
            let (losses, grads) = (stretch * part, stretch * part + n);
            // SAFETY: each task has its own samples of its own part.
            let (losses, grad) = unsafe {
                let grads = grads + samples.start * width..grads + samples.end * width;
                (shared.range(losses + samples.start..losses + samples.end), shared.range(grads))
            };
            let stretch = stretch * STRETCH..rows.min((stretch + 1) * STRETCH);
            Band { p: *self, isa, lanes, x, samples, stretch }.run(losses, grad);
        });
        add_parts(isa, &mut parts, part);
        losses.copy_from_slice(&parts[..n]);
        grad.copy_from_slice(&parts[n..part]);
        for (i, (loss, &own)) in losses.iter_mut().zip(x.own).enumerate() {
            let own = &x.memory[own as usize * width..][..width];
            let odds = (vector::dot(isa, &x.vectors[i * width..][..width], own) * self.inverse - self.shift).exp();
            *loss += (self.floor / odds).ln_1p();
            let slope = self.inverse * self.floor / (self.floor + odds);
            isa.vectorise(|| grad[i * width..].iter_mut().zip(own).for_each(|(grad, m)| *grad -= slope * m));
        }
    }
}

/// Some samples against a stretch of the memory, their own rows not told from the others.
struct Band<'a> {
    p: NoiseContrast,
    isa: Isa,
    lanes: usize,
    x: Contrasted<'a>,
    samples: Range<usize>,
    stretch: Range<usize>,
}

impl Band<'_> {
    fn run(self, losses: &mut [f32], grad: &mut [f32]) {
        let Band { p, isa, lanes, x, samples, stretch } = self;
        let (count, Contrasted { rows, width, .. }) = (samples.len(), x);
        let mut panel = zeroed(width * lanes);
        transpose(isa, [count, width], (&x.vectors[samples.start * width..], width), (&mut panel, lanes));
        let (mut sums, mut more) = (zeroed(width * lanes), take::<f32>(width * lanes));
        let (mut scores, mut counts) = (take::<f32>(BLOCK * lanes), zeroed(BLOCK * lanes));
        let (mut features, mut starts) = (take::<usize>(width), take::<usize>(BLOCK));
        features.iter_mut().enumerate().for_each(|(i, feature)| *feature = i);
        starts.iter_mut().enumerate().for_each(|(i, start)| *start = i * width);
        let mut total = [0.0; 2 * MAX_LANES];
        for first in stretch.clone().step_by(BLOCK) {
            let len = BLOCK.min(stretch.end - first);
            let memory = &x.memory[first * width..(first + len) * width];
            let (scores, starts) = (&mut scores[..len * lanes], &starts[..len]);
            // SAFETY: the offsets enumerate exactly the elements of these rows.
            unsafe { multiply(isa, Picked { x: memory, columns: starts, steps: &features }, &panel, lanes, scores) };
            let drawn = &x.counts[samples.start * rows + first..];
            transpose(isa, [count, len], (drawn, rows), (&mut counts, lanes));
            isa.run(Slopes { p, lanes, counts: &counts[..len * lanes], scores, total: &mut total });
            // SAFETY: as above.
            unsafe { multiply(isa, Picked { x: memory, columns: &features, steps: starts }, scores, lanes, &mut more) };
            isa.vectorise(|| sums.iter_mut().zip(&*more).for_each(|(sum, more)| *sum += more));
        }
        losses.copy_from_slice(&total[..count]);
        transpose(isa, [width, count], (&sums, lanes), (grad, width));
    }
}

/// Turns scores `[rows, lanes]` into slopes, and adds each lane's losses to its total.
struct Slopes<'a> {
    p: NoiseContrast,
    lanes: usize,
    counts: &'a [f32],
    scores: &'a mut [f32],
    total: &'a mut [f32; 2 * MAX_LANES],
}

impl Kernel for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let NoiseContrast { inverse, shift, floor } = self.p;
        let (scale, down, base) = (S::splat(inverse), S::splat(-shift), S::splat(floor));
        for half in (0..self.lanes).step_by(S::LANES) {
            let total = self.total.as_mut_ptr().add(half);
            let mut loss = S::load(total);
            for at in (half..self.scores.len()).step_by(self.lanes) {
                let (score, count) = (self.scores.as_mut_ptr().add(at), S::load(self.counts.as_ptr().add(at)));
                let odds = exp::<S>(S::fma(S::load(score), scale, down));
                let sum = S::add(base, odds);
                loss = S::fma(count, log::<S>(sum), loss);
                S::store(score, S::mul(S::mul(count, scale), S::div(odds, sum)));
            }
            S::store(total, loss);
        }
    }
}
