//! Shape: blurred, in coarse pixels, turned, moved.

use super::SIDE;
use crate::backend::params::ImagePlan;
use crate::tensor::random::Sequence;

/// How many of these images' pixels one pixel of MNIST is.
fn scale(h: usize, w: usize) -> f64 {
    h.min(w) as f64 / SIDE
}

/// A Gaussian filter as scikit-image has it: cut off after four deviations, pixels outside like those at the border.
pub(super) fn blur(x: &mut [f32], [_, h, w]: [usize; 3], deviation: f64, _: &mut Sequence) {
    let deviation = deviation * scale(h, w);
    let radius = (4.0 * deviation).round() as isize;
    let weight = |offset: isize| (-0.5 * (offset as f64 / deviation).powi(2)).exp();
    let total: f64 = (-radius..=radius).map(weight).sum();
    let weights: Vec<f32> = (-radius..=radius).map(|offset| (weight(offset) / total) as f32).collect();
    let filtered = |x: &[f32], lines: usize, line: usize, step: usize, extent: usize| -> Vec<f32> {
        let at = |i: usize, j: isize| x[i * line + j.clamp(0, extent as isize - 1) as usize * step];
        let mean = |i: usize, j: usize| {
            weights.iter().zip(j as isize - radius..).map(|(weight, j)| weight * at(i, j)).sum::<f32>()
        };
        (0..lines).flat_map(|i| (0..extent).map(move |j| (i, j))).map(|(i, j)| mean(i, j)).collect()
    };
    for plane in x.chunks_mut(h * w) {
        let rows = filtered(plane, h, w, 1, w);
        // One column after another: the transpose.
        let columns = filtered(&rows, w, 1, w, h);
        plane.iter_mut().enumerate().for_each(|(at, x)| *x = columns[at % w * h + at / w]);
    }
}

/// Each of `⌊s · h⌋ × ⌊s · w⌋` areas becomes its mean: what Pillow's box filter makes of an image scaled down and up again. A pixel
/// belongs to the area that its centre lies in.
pub(super) fn pixelate(x: &mut [f32], [_, h, w]: [usize; 3], share: f64, _: &mut Sequence) {
    let areas = |extent: usize| ((share * extent as f64) as usize).max(1);
    let area = |at: usize, extent: usize| (2 * at + 1) * areas(extent) / (2 * extent);
    let columns = areas(w);
    for plane in x.chunks_mut(h * w) {
        let mut sums = vec![(0.0f32, 0.0f32); areas(h) * columns];
        let of = |at: usize| area(at / w, h) * columns + area(at % w, w);
        for (at, x) in plane.iter().enumerate() {
            let (sum, count) = &mut sums[of(at)];
            *sum += x;
            *count += 1.0;
        }
        plane.iter_mut().enumerate().for_each(|(at, x)| *x = sums[of(at)].0 / sums[of(at)].1);
    }
}

/// An image that stays where it is.
const STILL: ImagePlan =
    ImagePlan { dy: 0.0, dx: 0.0, sine: 0.0, cosine: 1.0, mirrored: 0.0, cut_y: 0.0, cut_x: 0.0, side: 0.0 };

/// One way or the other.
fn sign(random: &mut Sequence) -> f64 {
    if random.bernoulli(0.5) {
        1.0
    } else {
        -1.0
    }
}

pub(super) fn rotate(radians: f64, _: [usize; 2], random: &mut Sequence) -> ImagePlan {
    let angle = radians * sign(random);
    ImagePlan { sine: angle.sin() as f32, cosine: angle.cos() as f32, ..STILL }
}

pub(super) fn translate(pixels: f64, [h, w]: [usize; 2], random: &mut Sequence) -> ImagePlan {
    let mut along = || (pixels * scale(h, w) * sign(random)) as f32;
    ImagePlan { dy: along(), dx: along(), ..STILL }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Rng;

    #[test]
    fn a_blurred_point_is_a_gaussian_and_a_blurred_plane_a_plane() {
        let random = &mut Rng::new(0, 0).sequence();
        let mut x = vec![0.0; 28 * 28];
        x[14 * 28 + 14] = 1.0;
        blur(&mut x, [1, 28, 28], 1.0, random);
        let at = |y: usize, column: usize| f64::from(x[y * 28 + column]);
        let centre = 1.0 / std::f64::consts::TAU;
        // The filter is a Gaussian at whole pixels; its sum differs from √(2π) by less than one in a million.
        for (y, column, exponent) in [(14, 14, 0.0), (14, 15, -0.5), (16, 14, -2.0), (15, 13, -1.0)] {
            assert!((at(y, column) - centre * f64::exp(exponent)).abs() < 1e-5, "{y} {column}");
        }
        let mut plane = vec![0.25; 2 * 30 * 40];
        blur(&mut plane, [2, 30, 40], 6.0, random);
        assert!(plane.iter().all(|x| (x - 0.25).abs() < 1e-6));
    }

    #[test]
    fn coarse_pixels_are_means_of_fine_ones() {
        let mut x = [0.0, 0.5, 1.0, 0.5, 1.0, 0.5, 0.0, 0.0];
        pixelate(&mut x, [1, 2, 4], 0.5, &mut Rng::new(0, 0).sequence());
        assert_eq!(x, [0.5, 0.5, 0.375, 0.375, 0.5, 0.5, 0.375, 0.375]);
    }

    #[test]
    fn motions_go_all_ways() {
        let mut random = Rng::new(4, 0).sequence();
        let mut seen: Vec<[i32; 2]> = (0..40)
            .map(|_| translate(3.0, [28, 56], &mut random))
            .map(|plan| [plan.dy as i32, plan.dx as i32])
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [[-3, -3], [-3, 3], [3, -3], [3, 3]]);
        let angles: Vec<f32> = (0..20).map(|_| rotate(0.5, [28, 28], &mut random).sine).collect();
        assert!(angles.iter().any(|sine| *sine > 0.4) && angles.iter().any(|sine| *sine < -0.4));
    }
}
