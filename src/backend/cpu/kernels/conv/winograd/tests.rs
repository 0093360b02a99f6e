use super::super::super::isa;
use super::super::{forward, grad_input, grad_weight, Conv2d};
use super::{Correlation, Size};
use crate::backend::params::normal_block;
use crate::tensor::Rng;

fn normal(len: usize, seed: u64) -> Vec<f32> {
    let rng = Rng::new(seed, 9);
    (0..len.div_ceil(4) as u64).flat_map(|i| normal_block(rng, i, 0.0, 1.0)).take(len).map(|x| x as f32).collect()
}

/// Runs `visit(x index, weight index, y index)` for every product of a 3×3 convolution of stride 1.
fn for_each_product(conv: &Conv2d, mut visit: impl FnMut(usize, usize, usize)) {
    let &Conv2d { h, w, .. } = conv;
    let (height, width, inputs, outputs) = (conv.out_h(), conv.out_w(), conv.group_in(), conv.group_out());
    let pairs = |a: usize, b: usize| (0..a).flat_map(move |i| (0..b).map(move |j| (i, j)));
    for (image, group) in pairs(conv.n, conv.groups) {
        for ((co, ci), (y, x)) in pairs(outputs, inputs).flat_map(|c| pairs(height, width).map(move |at| (c, at))) {
            let (to, from) = (group * outputs + co, group * inputs + ci);
            for (i, j) in pairs(3, 3) {
                let [row, column] = [(y + i).wrapping_sub(conv.padding[0]), (x + j).wrapping_sub(conv.padding[1])];
                if row < h && column < w {
                    visit(
                        ((image * conv.c_in + from) * h + row) * w + column,
                        ((to * inputs + ci) * 3 + i) * 3 + j,
                        ((image * conv.c_out + to) * height + y) * width + x,
                    );
                }
            }
        }
    }
}

/// The largest difference, relative to the largest value.
fn error(got: &[f32], want: &[f64]) -> f64 {
    let largest = want.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).abs() / largest).fold(0.0, f64::max)
}

#[test]
fn errors_stay_below_what_the_documentation_says_for_every_size_and_instruction_set() {
    // Image, padding, channels, outputs, groups.
    let cases = [
        ([2, 2], [1, 1], 40, 35, 1, Size::Two, 1e-6),
        ([3, 3], [1, 1], 40, 35, 1, Size::Three, 4e-6),
        ([8, 8], [1, 1], 40, 35, 1, Size::Four, 1e-5),
        ([9, 13], [1, 0], 34, 32, 2, Size::Three, 4e-6),
        ([5, 4], [2, 2], 16, 70, 1, Size::Four, 1e-5),
    ];
    for ([h, w], padding, c_in, c_out, groups, size, bound) in cases {
        let (stride, dilation) = ([1, 1], [1, 1]);
        let conv = Conv2d { n: 100, c_in, h, w, c_out, kh: 3, kw: 3, stride, padding, dilation, groups };
        assert_eq!(super::size(&Correlation::forward(&conv), [conv.out_h(), conv.out_w()]), Some(size), "{conv:?}");
        let (x, w, dy) = (normal(conv.x_len(), 1), normal(conv.w_len(), 2), normal(conv.y_len(), 3));
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
        for_each_product(&conv, |at_x, at_w, at_y| {
            y[at_y] += f64::from(x[at_x]) * f64::from(w[at_w]);
            dx[at_x] += f64::from(dy[at_y]) * f64::from(w[at_w]);
            dw[at_w] += f64::from(dy[at_y]) * f64::from(x[at_x]);
        });
        for isa in isa::Isa::available() {
            let (mut got_y, mut got_dx, mut got_dw) = (vec![0.0; y.len()], vec![0.0; dx.len()], vec![0.0; dw.len()]);
            isa::with(isa, || {
                forward(&conv, &x, &w[..], None, false, &mut got_y);
                grad_input(&conv, &dy, &w, &mut got_dx);
                grad_weight(&conv, &x, &dy, &mut got_dw, None);
            });
            let errors = [error(&got_y, &y), error(&got_dx, &dx), error(&got_dw, &dw)];
            assert!(errors.iter().all(|&error| error < bound), "{conv:?} {isa}: y, dx, dw {errors:?}");
        }
    }
}
