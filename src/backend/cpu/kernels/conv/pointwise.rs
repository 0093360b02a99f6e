//! 1×1 filters of stride 1: every image is a product of two matrices, whose pixels are whole vectors as they lie. Nothing is packed,
//! padded or transposed.
//!
//! A tile is 8 output planes × 2 vectors of pixels (4 × 2 with 16 registers): each step loads 2 vectors and broadcasts 8 weights for 16
//! multiply-adds.

use super::super::dots::{Products, Rows, STRETCH};
use super::super::elementwise::add_parts;
use super::super::isa::{Isa, Kernel};
use super::super::parallel::{flops_ns, for_each, Disjoint};
use super::super::scratch::zeroed;
use super::super::simd::Simd;
use super::forward::MANY_STACKS;
use super::grad_weight::CHUNKS;
use super::Conv2d;

/// Vectors of pixels in a tile.
const WIDTH: usize = 2;
/// Output planes in a task, where one image is several.
const PLANES: usize = 32;

/// Whether the filter has one tap, and the pixels fill their vectors well enough.
pub(super) fn suits(isa: Isa, conv: &Conv2d) -> bool {
    let area = conv.h * conv.w;
    let one_tap = [conv.kh, conv.kw, conv.stride[0], conv.stride[1]] == [1; 4] && conv.padding == [0; 2];
    one_tap && 5 * area.next_multiple_of(isa.lanes()) <= 7 * area
}

/// Planes of every image and group from others: `to_o = relu(Σ_d weight(o, d) · from_d + bias_o)`.
pub(super) struct Mix<'a> {
    /// Images × groups.
    pub stacks: usize,
    pub groups: usize,
    pub area: usize,
    /// Planes read and planes written, in a group.
    pub depth: usize,
    pub outputs: usize,
    pub weights: &'a [f32],
    /// Distance of weights that differ by one in output plane, and in input plane.
    pub step: [usize; 2],
    /// One for each output plane of all groups.
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
}

impl<'a> Mix<'a> {
    pub fn forward(conv: &Conv2d, weights: &'a [f32], bias: Option<&'a [f32]>, relu: bool) -> Self {
        let (depth, outputs) = (conv.group_in(), conv.group_out());
        let (stacks, groups, area) = (conv.n * conv.groups, conv.groups, conv.h * conv.w);
        Mix { stacks, groups, area, depth, outputs, weights, step: [depth, 1], bias, relu }
    }

    pub fn adjoint(conv: &Conv2d, weights: &'a [f32]) -> Self {
        let (depth, outputs) = (conv.group_out(), conv.group_in());
        Mix { depth, outputs, step: [1, outputs], ..Mix::forward(conv, weights, None, false) }
    }

    /// Computes all stacks of `to` from those of `from`.
    pub fn run(&self, isa: Isa, from: &[f32], to: &mut [f32]) {
        let &Mix { stacks, area, depth, outputs, .. } = self;
        let parts = if stacks >= MANY_STACKS { 1 } else { outputs.div_ceil(PLANES) };
        let to = Disjoint::new(to);
        for_each(stacks * parts, flops_ns(2 * stacks * outputs * depth * area), |task| {
            let (stack, part) = (task / parts, task % parts);
            let planes = outputs * part / parts..outputs * (part + 1) / parts;
            let group = stack % self.groups;
            let start = stack * outputs + planes.start;
            isa.run(Planes {
                area,
                depth,
                outputs: planes.len(),
                from: &from[stack * depth * area..(stack + 1) * depth * area],
                weights: &self.weights[group * outputs * depth + planes.start * self.step[0]..],
                step: self.step,
                bias: self.bias.map(|bias| &bias[group * outputs..][planes.clone()]),
                relu: self.relu,
                // SAFETY: each task has its own planes.
                to: unsafe { to.range(start * area..(start + planes.len()) * area) },
            });
        });
    }
}

/// Some output planes of one stack.
struct Planes<'a> {
    area: usize,
    depth: usize,
    outputs: usize,
    from: &'a [f32],
    weights: &'a [f32],
    step: [usize; 2],
    bias: Option<&'a [f32]>,
    relu: bool,
    to: &'a mut [f32],
}

impl Kernel for Planes<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        assert!((self.outputs - 1) * self.step[0] + (self.depth - 1) * self.step[1] < self.weights.len());
        let height = if S::MANY_REGISTERS { 8 } else { 4 };
        for pixel in (0..self.area).step_by(WIDTH * S::LANES) {
            for plane in (0..self.outputs).step_by(height) {
                if S::MANY_REGISTERS {
                    self.tile::<S, 8>(plane, pixel);
                } else {
                    self.tile::<S, 4>(plane, pixel);
                }
            }
        }
    }
}

impl Planes<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const HEIGHT: usize>(&mut self, plane: usize, pixel: usize) {
        let left = self.area - pixel;
        let lanes = [left.min(S::LANES), left.saturating_sub(S::LANES).min(S::LANES)];
        // Beyond the last plane, the last one stands in.
        let planes: [usize; HEIGHT] = std::array::from_fn(|h| (plane + h).min(self.outputs - 1));
        let weights: [*const f32; HEIGHT] =
            std::array::from_fn(|h| self.weights.as_ptr().add(planes[h] * self.step[0]));
        let mut sums = [[S::zero(); WIDTH]; HEIGHT];
        let (mut from, mut at) = (self.from.as_ptr().add(pixel), 0);
        for _ in 0..self.depth {
            let x = [S::load_first(from, lanes[0], 0.0), S::load_first(from.wrapping_add(S::LANES), lanes[1], 0.0)];
            for h in 0..HEIGHT {
                let weight = S::splat(*weights[h].add(at));
                for k in 0..WIDTH {
                    sums[h][k] = S::fma(weight, x[k], sums[h][k]);
                }
            }
            (from, at) = (from.wrapping_add(self.area), at + self.step[1]);
        }
        for h in 0..HEIGHT.min(self.outputs - plane) {
            let bias = S::splat(self.bias.map_or(0.0, |bias| bias[plane + h]));
            let to = self.to.as_mut_ptr().add((plane + h) * self.area + pixel);
            for k in 0..WIDTH {
                let y = S::add(sums[h][k], bias);
                let y = if self.relu { S::max(S::zero(), y) } else { y };
                S::store_first(to.wrapping_add(k * S::LANES), y, lanes[k]);
            }
        }
    }
}

/// `dw[o][d] = Σ dy_o · x_d` over the pixels of all images. The batch is cut into a fixed number of chunks, which are added in order.
pub(super) fn grad_weight(isa: Isa, conv: &Conv2d, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (depth, outputs, area) = (conv.group_in(), conv.group_out(), conv.h * conv.w);
    let chunks = CHUNKS.min(conv.n);
    let mut parts = zeroed(chunks * dw.len());
    let sums = Disjoint::new(&mut parts);
    for_each(chunks * conv.groups, flops_ns(conv.flops()), |task| {
        let (chunk, group) = (task / conv.groups, task % conv.groups);
        let start = task * outputs * depth;
        // SAFETY: each task has its own chunk and group.
        let sums = unsafe { sums.range(start..start + outputs * depth) };
        let images = conv.n * chunk / chunks..conv.n * (chunk + 1) / chunks;
        let together = STRETCH.div_ceil(area);
        for image in images.clone().step_by(together) {
            let planes = |values, channels, count| {
                let (row_step, piece_step) = (area, channels * area);
                let first = image * piece_step + group * count * area;
                Rows { values, first, count, row_step, piece_step }
            };
            let (a, b) = (planes(dy, conv.c_out, outputs), planes(x, conv.c_in, depth));
            let pieces = together.min(images.end - image);
            Products { a, b, pieces, length: area, upper: false, out: &mut *sums, stride: depth }.add(isa);
        }
    });
    add_parts(isa, &mut parts, dw.len());
    dw.copy_from_slice(&parts[..dw.len()]);
}
