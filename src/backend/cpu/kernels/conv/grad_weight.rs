//! The dense gradients with respect to weights and bias.
//!
//! `dw[co][i] = Σ dy[co][pixel] · x[pixel under tap i]`: the micro-kernel with filter elements as columns, output pixels
//! as steps, and `dy`, turned to `[pixel, channel]`, as panels. The batch is cut into a fixed number of chunks, each
//! summed on its own, and the chunks are added in order.

use super::super::elementwise::add_parts;
use super::super::isa::{self, Isa};
use super::super::parallel::{flops_ns, for_each, Disjoint};
use super::super::scratch::{take, zeroed};
use super::super::tile::{multiply, panel_lanes, Picked};
use super::super::transpose::transpose;
use super::super::vector;
use super::correlation::Correlation;
use super::{depthwise, planes, pointwise, winograd, Conv2d};

/// Partial sums over the batch, at most. Fixed, so that the order of the sum does not depend on the threads.
pub(super) const CHUNKS: usize = 8;
/// Pixels in one pass of the micro-kernel, about: small planes are taken several images at a time.
const PIXELS: usize = 256;
/// Filter elements in one pass of the micro-kernel.
const COLUMNS: usize = 112;

/// `dw`, like the weights, and optionally `db`, `[c_out]`, from `x`, `[n, c_in, h, w]`, and `dy`,
/// `[n, c_out, out_h, out_w]`. Both are overwritten.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn grad_weight(conv: &Conv2d, x: &[f32], dy: &[f32], dw: &mut [f32], db: Option<&mut [f32]>) {
    conv.check();
    assert_eq!(x.len(), conv.x_len(), "conv2d grad_weight: x of {conv:?}");
    assert_eq!(dy.len(), conv.y_len(), "conv2d grad_weight: dy of {conv:?}");
    assert_eq!(dw.len(), conv.w_len(), "conv2d grad_weight: dw of {conv:?}");
    assert!(db.as_ref().is_none_or(|db| db.len() == conv.c_out), "conv2d grad_weight: db of {conv:?}");
    let isa = isa::active();
    if let Some(db) = db {
        grad_bias(isa, conv, dy, db);
    }
    if dy.is_empty() || dw.is_empty() {
        dw.fill(0.0);
    } else if planes::suits(&Correlation::forward(conv)) {
        planes::grad_weight(isa, conv, x, dy, dw);
    } else if pointwise::suits(isa, conv) {
        pointwise::grad_weight(isa, conv, x, dy, dw);
    } else if depthwise::suits(conv) {
        depthwise::grad_weight(isa, conv, x, dy, dw);
    } else if let Some(size) = winograd::size(&Correlation::forward(conv), [conv.out_h(), conv.out_w()]) {
        winograd::grad_weight(isa, conv, size, x, dy, dw);
    } else {
        dense(isa, conv, x, dy, dw);
    }
}

/// `db[c] = Σ dy[·, c, ·, ·]`: planes as they lie in memory, a fixed number of chunks of the batch, which are added in order.
fn grad_bias(isa: Isa, conv: &Conv2d, dy: &[f32], db: &mut [f32]) {
    let area = conv.out_h() * conv.out_w();
    let chunks = CHUNKS.min(conv.n);
    let mut parts = take::<f64>(chunks * conv.c_out);
    let sums = Disjoint::new(&mut parts);
    for_each(chunks, dy.len() / 16, |chunk| {
        // SAFETY: each task has its own chunk.
        let sums = unsafe { sums.range(chunk * conv.c_out..(chunk + 1) * conv.c_out) };
        sums.fill(0.0);
        for image in conv.n * chunk / chunks..conv.n * (chunk + 1) / chunks {
            for (channel, sum) in sums.iter_mut().enumerate() {
                *sum += f64::from(vector::sum(isa, &dy[(image * conv.c_out + channel) * area..][..area]));
            }
        }
    });
    for (channel, db) in db.iter_mut().enumerate() {
        *db = parts.iter().skip(channel).step_by(conv.c_out).sum::<f64>() as f32;
    }
}

fn dense(isa: Isa, conv: &Conv2d, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let plan = Correlation::forward(conv);
    let (depth, area) = (plan.depth(), plan.out[0] * plan.out[1]);
    let lanes = panel_lanes(isa, plan.outputs);
    let blocks = plan.outputs.div_ceil(lanes);
    let chunks = CHUNKS.min(conv.n);
    let together = (PIXELS / area).clamp(1, conv.n.div_ceil(chunks));
    let columns = plan.steps();
    let pixels = stacked_pixels(&plan, together);

    // Partial sums, [chunk][group][block][depth][lanes].
    let panel_len = depth * lanes;
    let part_len = plan.groups * blocks * panel_len;
    let mut parts = zeroed(chunks * part_len);
    let sums = Disjoint::new(&mut parts);
    let splits = if chunks * plan.groups < CHUNKS { blocks } else { 1 };
    for_each(chunks * plan.groups * splits, flops_ns(plan.flops()), |task| {
        let (stack, split) = (task / splits, task % splits);
        let (chunk, group) = (stack / plan.groups, stack % plan.groups);
        let images = conv.n * chunk / chunks..conv.n * (chunk + 1) / chunks;
        let mut padded = zeroed(together * plan.padded_len());
        let mut panel = take::<f32>(together * area * lanes);
        let mut tile = take::<f32>(COLUMNS.min(depth) * lanes);
        for first in images.clone().step_by(together) {
            let count = together.min(images.end - first);
            for (i, padded) in padded.chunks_exact_mut(plan.padded_len()).take(count).enumerate() {
                plan.place(isa, &x[plan.planes(first + i, group)], padded);
            }
            for block in blocks * split / splits..blocks * (split + 1) / splits {
                let planes = lanes.min(plan.outputs - block * lanes);
                panel.fill(0.0);
                for (i, panel) in panel.chunks_exact_mut(area * lanes).take(count).enumerate() {
                    let plane = (first + i) * conv.c_out + group * plan.outputs + block * lanes;
                    transpose(isa, [planes, area], (&dy[plane * area..], area), (panel, lanes));
                }
                let start = chunk * part_len + (group * blocks + block) * panel_len;
                // SAFETY: each task has its own chunk, group and blocks.
                let sums = unsafe { sums.range(start..start + panel_len) };
                for (columns, sums) in columns.chunks(COLUMNS).zip(sums.chunks_mut(COLUMNS * lanes)) {
                    let picked = Picked { x: &padded, columns, steps: &pixels[..count * area] };
                    // SAFETY: every filter element under every output pixel is inside the padded planes.
                    unsafe { multiply(isa, picked, &panel, lanes, &mut tile) };
                    isa.vectorise(|| sums.iter_mut().zip(tile.iter()).for_each(|(sum, tile)| *sum += tile));
                }
            }
        }
    });
    add_parts(isa, &mut parts, part_len);
    let dw = Disjoint::new(dw);
    for_each(plan.groups * blocks, flops_ns(4 * part_len), |task| {
        let (group, block) = (task / blocks, task % blocks);
        let planes = lanes.min(plan.outputs - block * lanes);
        let start = (group * plan.outputs + block * lanes) * depth;
        // SAFETY: each task has its own filters.
        let dw = unsafe { dw.range(start..start + planes * depth) };
        transpose(isa, [depth, planes], (&parts[task * panel_len..], lanes), (dw, depth));
    });
}

/// Offsets of all output pixels of several images whose padded planes follow each other.
fn stacked_pixels(plan: &Correlation, images: usize) -> super::super::scratch::Scratch<usize> {
    let one = plan.pixels(plan.out[0], plan.out[1]);
    let mut all = take::<usize>(images * one.len());
    for (image, all) in all.chunks_exact_mut(one.len()).enumerate() {
        all.iter_mut().zip(one.iter()).for_each(|(to, from)| *to = image * plan.padded_len() + from);
    }
    all
}
