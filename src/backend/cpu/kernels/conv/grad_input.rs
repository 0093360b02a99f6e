//! The dense gradient with respect to the input: a correlation with turned filters.

use super::super::isa;
use super::super::parallel::Disjoint;
use super::correlation::{Correlation, Filters};
use super::forward::{correlate, Planes};
use super::{depthwise, planes, pointwise, strided, winograd, Conv2d};

/// `dx`, `[n, c_in, h, w]`, from `dy`, `[n, c_out, out_h, out_w]`, and the weights.
///
/// # Panics
/// When a slice does not have the length the geometry implies.
pub fn grad_input(conv: &Conv2d, dy: &[f32], weights: &[f32], dx: &mut [f32]) {
    conv.check();
    assert_eq!(dy.len(), conv.y_len(), "conv2d grad_input: dy of {conv:?}");
    assert_eq!(weights.len(), conv.w_len(), "conv2d grad_input: weights of {conv:?}");
    assert_eq!(dx.len(), conv.x_len(), "conv2d grad_input: dx of {conv:?}");
    if dy.is_empty() || weights.is_empty() || dx.is_empty() {
        return dx.fill(0.0);
    }
    let isa = isa::active();
    let plan = Correlation::adjoint(conv);
    if planes::suits(&plan) {
        let filter = |plane: usize, taps: &mut [f32]| depthwise::turned_filter(conv, &plan, weights, plane, taps);
        return planes::correlate(isa, &plan, dy, filter, (None, false), dx);
    }
    if pointwise::suits(isa, conv) {
        return pointwise::Mix::adjoint(conv, weights).run(isa, dy, dx);
    }
    if depthwise::suits(conv) {
        return depthwise::grad_input(isa, conv, &plan, dy, weights, dx);
    }
    if strided::suits(conv) {
        return strided::grad_input(isa, conv, dy, weights, dx);
    }
    let size = winograd::size(&plan, plan.out);
    let filters = winograd::transform(isa, &plan, size, Filters::adjoint(isa, &plan, weights));
    let planes = Planes { plan: &plan, bias: None, relu: false, y: Disjoint::new(dx) };
    correlate(isa, &plan, dy, &filters, &planes);
}
