//! Pooling.

use super::from_wide;
use crate::backend::params::Pool2d;
use crate::tensor::{Real, Shape, Tensor};
use std::ops::Range;

/// The pixels of one image `[h, w]` that a window covers; what lies in the padding is left out.
fn pixels(w: usize, rows: Range<usize>, columns: Range<usize>) -> impl Iterator<Item = usize> {
    rows.flat_map(move |y| columns.clone().map(move |x| y * w + x))
}

/// The pixels of output `i` (within its image).
fn window(p: &Pool2d, i: usize) -> impl Iterator<Item = usize> {
    let range = |out: usize, len: usize| {
        let start = out * p.stride;
        start.saturating_sub(p.padding)..(start + p.kernel).saturating_sub(p.padding).min(len)
    };
    pixels(p.w, range(i / p.out_w(), p.h), range(i % p.out_w(), p.w))
}

/// The shape `[n, c, …]` with another spatial size.
fn resized(x: &Tensor, h: usize, w: usize) -> Shape {
    Shape::from([x.shape()[0], x.shape()[1], h, w])
}

pub(super) fn max<T: Real>(p: &Pool2d, x: &Tensor) -> (Tensor, Tensor) {
    let shape = resized(x, p.out_h(), p.out_w());
    let outputs = p.out_h() * p.out_w();
    let values = x.slice::<T>();
    let mut y = Tensor::build(shape, x.device(), |y: &mut [T]| y.fill(T::neg_infinity()));
    let y_values = y.storage_mut().as_mut_slice::<T>();
    let index = Tensor::build(shape, x.device(), |index: &mut [i32]| {
        for (i, (y, index)) in y_values.iter_mut().zip(index).enumerate() {
            let image = i / outputs * p.h * p.w;
            *index = -1;
            for pixel in window(p, i % outputs) {
                let value = values[image + pixel];
                // Nothing beats a NaN, so that it shows in the result.
                if *index < 0 || value > *y || (value.is_nan() && !y.is_nan()) {
                    (*y, *index) = (value, pixel as i32);
                }
            }
        }
    });
    (y, index)
}

pub(super) fn max_grad<T: Real>(p: &Pool2d, dy: &Tensor, index: &Tensor) -> Tensor {
    let outputs = p.out_h() * p.out_w();
    let shape = resized(dy, p.h, p.w);
    let mut sums = vec![0.0; shape.numel()];
    for (i, (dy, &pixel)) in dy.slice::<T>().iter().zip(index.slice::<i32>()).enumerate() {
        sums[i / outputs * p.h * p.w + pixel as usize] += dy.wide();
    }
    from_wide::<T>(&sums, shape, dy.device())
}

pub(super) fn avg<T: Real>(p: &Pool2d, x: &Tensor) -> Tensor {
    let outputs = p.out_h() * p.out_w();
    let area = (p.kernel * p.kernel) as f64;
    let values = x.slice::<T>();
    Tensor::build(resized(x, p.out_h(), p.out_w()), x.device(), |y: &mut [T]| {
        for (i, y) in y.iter_mut().enumerate() {
            let image = i / outputs * p.h * p.w;
            *y = T::of(window(p, i % outputs).map(|pixel| values[image + pixel].wide()).sum::<f64>() / area);
        }
    })
}

pub(super) fn avg_grad<T: Real>(p: &Pool2d, dy: &Tensor) -> Tensor {
    let outputs = p.out_h() * p.out_w();
    let area = (p.kernel * p.kernel) as f64;
    let shape = resized(dy, p.h, p.w);
    let mut sums = vec![0.0; shape.numel()];
    for (i, dy) in dy.slice::<T>().iter().enumerate() {
        for pixel in window(p, i % outputs) {
            sums[i / outputs * p.h * p.w + pixel] += dy.wide() / area;
        }
    }
    from_wide::<T>(&sums, shape, dy.device())
}

/// Bin `i` of `bins` over `len` pixels: from ⌊i·len/bins⌋ to ⌈(i+1)·len/bins⌉.
fn bin(i: usize, bins: usize, len: usize) -> Range<usize> {
    i * len / bins..((i + 1) * len).div_ceil(bins)
}

pub(super) fn adaptive_avg<T: Real>(x: &Tensor, out: [usize; 2]) -> Tensor {
    let (h, w) = (x.shape()[2], x.shape()[3]);
    let outputs = out[0] * out[1];
    let values = x.slice::<T>();
    Tensor::build(resized(x, out[0], out[1]), x.device(), |y: &mut [T]| {
        for (i, y) in y.iter_mut().enumerate() {
            let image = i / outputs * h * w;
            let (rows, columns) = (bin(i / out[1] % out[0], out[0], h), bin(i % out[1], out[1], w));
            let area = (rows.len() * columns.len()) as f64;
            *y = T::of(pixels(w, rows, columns).map(|pixel| values[image + pixel].wide()).sum::<f64>() / area);
        }
    })
}

pub(super) fn adaptive_avg_grad<T: Real>(dy: &Tensor, input: [usize; 2]) -> Tensor {
    let [h, w] = input;
    let (out_h, out_w) = (dy.shape()[2], dy.shape()[3]);
    let shape = resized(dy, h, w);
    let mut sums = vec![0.0; shape.numel()];
    for (i, dy) in dy.slice::<T>().iter().enumerate() {
        let image = i / (out_h * out_w) * h * w;
        let (rows, columns) = (bin(i / out_w % out_h, out_h, h), bin(i % out_w, out_w, w));
        let area = (rows.len() * columns.len()) as f64;
        for pixel in pixels(w, rows, columns) {
            sums[image + pixel] += dy.wide() / area;
        }
    }
    from_wide::<T>(&sums, shape, dy.device())
}
