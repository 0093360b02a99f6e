//! Groups of a few channels, depthwise convolution above all: row by row, vectorised along the pixels.

use super::super::isa::Isa;
use super::super::parallel::{flops_ns, for_each, Disjoint};
use super::super::scratch::{take, zeroed};
use super::super::vector;
use super::correlation::Correlation;
use super::Conv2d;

/// Channels per group up to which filter panels would be mostly padding.
const FEW_CHANNELS: usize = 3;

pub(super) fn suits(conv: &Conv2d) -> bool {
    conv.groups > 1 && conv.group_in() <= FEW_CHANNELS && conv.group_out() <= FEW_CHANNELS
}

pub(super) fn forward(
    isa: Isa,
    conv: &Conv2d,
    x: &[f32],
    weights: &[f32],
    bias: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    let plan = Correlation::forward(conv);
    let depth = plan.depth();
    rows(isa, &plan, x, y, |plane, i| weights[plane * depth + i]);
    if bias.is_none() && !relu {
        return;
    }
    let area = plan.out[0] * plan.out[1];
    super::super::elementwise::bias_relu(y, bias, conv.c_out, area, relu);
}

pub(super) fn grad_input(isa: Isa, conv: &Conv2d, plan: &Correlation, dy: &[f32], weights: &[f32], dx: &mut [f32]) {
    rows(isa, plan, dy, dx, |plane, i| turned(conv, plan, weights, plane, i));
}

/// The `channels · taps` elements of the filter with which output plane `plane` of the adjoint correlation is computed.
pub(super) fn turned_filter(conv: &Conv2d, plan: &Correlation, weights: &[f32], plane: usize, filter: &mut [f32]) {
    filter.iter_mut().enumerate().for_each(|(i, to)| *to = turned(conv, plan, weights, plane, i));
}

/// Element `i` of that filter.
fn turned(conv: &Conv2d, plan: &Correlation, weights: &[f32], plane: usize, i: usize) -> f32 {
    let taps = conv.taps();
    let (group, input) = (plane / plan.outputs, plane % plan.outputs);
    let (output, tap) = (group * plan.channels + i / taps, taps - 1 - i % taps);
    weights[(output * plan.outputs + input) * taps + tap]
}

/// Correlates every group; `weight(plane, i)` is element `i` of the filter of output plane `plane`.
fn rows(isa: Isa, plan: &Correlation, x: &[f32], y: &mut [f32], weight: impl Fn(usize, usize) -> f32 + Sync) {
    let [height, width] = plan.out;
    let group_len = plan.outputs * height * width;
    let steps = plan.steps();
    let y = Disjoint::new(y);
    for_each(plan.images * plan.groups, flops_ns(4 * plan.flops()), |stack| {
        let (image, group) = (stack / plan.groups, stack % plan.groups);
        let mut padded = zeroed(plan.padded_len());
        plan.place(isa, &x[plan.planes(image, group)], &mut padded);
        // SAFETY: each task has its own group of one image.
        let y = unsafe { y.range(stack * group_len..(stack + 1) * group_len) };
        y.fill(0.0);
        isa.vectorise(|| {
            for (i, y) in y.chunks_exact_mut(width).enumerate() {
                let (output, row) = (i / height, i % height);
                for (i, &step) in steps.iter().enumerate() {
                    let weight = weight(group * plan.outputs + output, i);
                    let x = &padded[row * plan.row_step() + step..];
                    if plan.stride[1] == 1 {
                        y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
                    } else {
                        y.iter_mut().zip(x.iter().step_by(plan.stride[1])).for_each(|(y, x)| *y += weight * x);
                    }
                }
            }
        });
    });
}

pub(super) fn grad_weight(isa: Isa, conv: &Conv2d, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let plan = Correlation::forward(conv);
    let area = plan.out[0] * plan.out[1];
    let group_len = plan.outputs * plan.depth();
    let (steps, pixels) = (plan.steps(), plan.pixels(plan.out[0], plan.out[1]));
    let dw = Disjoint::new(dw);
    for_each(plan.groups, flops_ns(8 * plan.flops()), |group| {
        // SAFETY: each task has its own group.
        let dw = unsafe { dw.range(group * group_len..(group + 1) * group_len) };
        dw.fill(0.0);
        let mut padded = zeroed(plan.padded_len());
        let mut under = take::<f32>(area);
        for image in 0..plan.images {
            plan.place(isa, &x[plan.planes(image, group)], &mut padded);
            for (i, &step) in steps.iter().enumerate() {
                under.iter_mut().zip(pixels.iter()).for_each(|(to, &pixel)| *to = padded[pixel + step]);
                for output in 0..plan.outputs {
                    let plane = (image * conv.c_out + group * plan.outputs + output) * area;
                    dw[output * plan.depth() + i] += vector::dot(isa, &under, &dy[plane..plane + area]);
                }
            }
        }
    });
}
