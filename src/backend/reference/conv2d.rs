//! Convolution: the same walk over (input, weight, output) elements serves the forward pass and both gradients.

use super::{from_wide, relu};
use crate::backend::params::Conv2dGeometry;
use crate::tensor::{Real, Shape, Tensor};

/// Calls `visit(i, j, k)` for every product that a convolution adds up: input element `i` times weight `j` goes to output `k`.
fn for_each_product(g: &Conv2dGeometry, mut visit: impl FnMut(usize, usize, usize)) {
    let (c_in, c_out) = (g.c_in / g.groups, g.c_out / g.groups);
    let (out_h, out_w) = (g.out_h(), g.out_w());
    // Where the kernel element lies in the image, unless it lies in the padding.
    let pixel = |out: usize, tap: usize, axis: usize, len: usize| {
        (out * g.stride[axis] + tap * g.dilation[axis]).checked_sub(g.padding[axis]).filter(|&at| at < len)
    };
    for n in 0..g.n {
        for co in 0..g.c_out {
            for (oy, ox) in grid(out_h, out_w) {
                let output = ((n * g.c_out + co) * out_h + oy) * out_w + ox;
                for ci in 0..c_in {
                    let channel = co / c_out * c_in + ci;
                    for (ky, kx) in grid(g.kh, g.kw) {
                        if let (Some(y), Some(x)) = (pixel(oy, ky, 0, g.h), pixel(ox, kx, 1, g.w)) {
                            let input = ((n * g.c_in + channel) * g.h + y) * g.w + x;
                            visit(input, ((co * c_in + ci) * g.kh + ky) * g.kw + kx, output);
                        }
                    }
                }
            }
        }
    }
}

/// All positions of a grid, row by row.
fn grid(h: usize, w: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..h).flat_map(move |y| (0..w).map(move |x| (y, x)))
}

pub(super) fn conv2d<T: Real>(g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: Option<&Tensor>, clip: bool) -> Tensor {
    let shape = Shape::from([g.n, g.c_out, g.out_h(), g.out_w()]);
    let (x_values, w_values) = (x.slice::<T>(), w.slice::<T>());
    let mut sums = vec![0.0; shape.numel()];
    for_each_product(g, |i, j, k| sums[k] += x_values[i].wide() * w_values[j].wide());
    let area = g.out_h() * g.out_w();
    for (k, sum) in sums.iter_mut().enumerate() {
        *sum += bias.map_or(0.0, |bias| bias.slice::<T>()[k / area % g.c_out].wide());
        *sum = if clip { relu(*sum) } else { *sum };
    }
    from_wide::<T>(&sums, shape, x.device())
}

pub(super) fn grad_input<T: Real>(g: &Conv2dGeometry, dy: &Tensor, w: &Tensor) -> Tensor {
    let shape = Shape::from([g.n, g.c_in, g.h, g.w]);
    let (dy_values, w_values) = (dy.slice::<T>(), w.slice::<T>());
    let mut sums = vec![0.0; shape.numel()];
    for_each_product(g, |i, j, k| sums[i] += dy_values[k].wide() * w_values[j].wide());
    from_wide::<T>(&sums, shape, dy.device())
}

pub(super) fn grad_weight<T: Real>(g: &Conv2dGeometry, x: &Tensor, dy: &Tensor) -> (Tensor, Tensor) {
    let shape = Shape::from([g.c_out, g.c_in / g.groups, g.kh, g.kw]);
    let (x_values, dy_values) = (x.slice::<T>(), dy.slice::<T>());
    let mut sums = vec![0.0; shape.numel()];
    for_each_product(g, |i, j, k| sums[j] += x_values[i].wide() * dy_values[k].wide());
    let mut bias_sums = vec![0.0; g.c_out];
    let area = g.out_h() * g.out_w();
    for (k, dy) in dy_values.iter().enumerate() {
        bias_sums[k / area % g.c_out] += dy.wide();
    }
    (from_wide::<T>(&sums, shape, x.device()), from_wide::<T>(&bias_sums, Shape::from([g.c_out]), x.device()))
}

pub(super) fn relu_pool<T: Real>(g: &Conv2dGeometry, x: &Tensor, w: &Tensor, bias: &Tensor) -> (Tensor, Tensor) {
    let full = conv2d::<T>(g, x, w, Some(bias), true);
    let values = full.slice::<T>();
    let shape = Shape::from([g.n, g.c_out, g.out_h() / 2, g.out_w() / 2]);
    let mut winners = vec![CLIPPED; shape.numel()];
    let y = Tensor::build(shape, x.device(), |y: &mut [T]| {
        for (i, (y, winner)) in y.iter_mut().zip(&mut winners).enumerate() {
            *y = T::zero();
            for (position, at) in window(g, i).into_iter().enumerate() {
                let value = values[at];
                // Nothing beats a NaN, so that it shows in the result.
                if value > *y || (value.is_nan() && !y.is_nan()) {
                    (*y, *winner) = (value, position as u8);
                }
            }
        }
    });
    let winner = Tensor::build(shape, x.device(), |out: &mut [u8]| out.copy_from_slice(&winners));
    (y, winner)
}

/// The winner of a window that ReLU clipped wholly.
const CLIPPED: u8 = 4;

/// Where the four elements of the window of pooled element `i` lie in the convolution's output.
fn window(g: &Conv2dGeometry, i: usize) -> [usize; 4] {
    let (width, pooled_h, pooled_w) = (g.out_w(), g.out_h() / 2, g.out_w() / 2);
    let (plane, y, x) = (i / (pooled_h * pooled_w), i / pooled_w % pooled_h, i % pooled_w);
    let corner = (plane * g.out_h() + 2 * y) * width + 2 * x;
    [corner, corner + 1, corner + width, corner + width + 1]
}

/// The gradient before pooling and ReLU: `dy` at the winners, zero elsewhere.
pub(super) fn unpool<T: Real>(g: &Conv2dGeometry, dy: &Tensor, winner: &Tensor) -> Tensor {
    let shape = Shape::from([g.n, g.c_out, g.out_h(), g.out_w()]);
    Tensor::build(shape, dy.device(), |out: &mut [T]| {
        out.fill(T::zero());
        for (i, (&dy, &winner)) in dy.slice::<T>().iter().zip(winner.slice::<u8>()).enumerate() {
            if winner != CLIPPED {
                out[window(g, i)[usize::from(winner)]] = dy;
            }
        }
    })
}
