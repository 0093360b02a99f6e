//! Light: too little contrast, too bright, the wrong way round.

use crate::tensor::random::Sequence;

/// Each channel is drawn towards its own mean.
pub(super) fn contrast(x: &mut [f32], [_, h, w]: [usize; 3], factor: f64, _: &mut Sequence) {
    for plane in x.chunks_mut(h * w) {
        let mean = plane.iter().sum::<f32>() / (h * w) as f32;
        plane.iter_mut().for_each(|x| *x = mean + factor as f32 * (*x - mean));
    }
}

/// The value of HSV, which is the largest channel, is raised; hue and saturation stay.
pub(super) fn brightness(x: &mut [f32], [c, h, w]: [usize; 3], by: f64, _: &mut Sequence) {
    for pixel in 0..h * w {
        let channels = (0..c).map(|channel| channel * h * w + pixel);
        let value = channels.clone().map(|at| x[at]).fold(0.0, f32::max);
        let raised = (value + by as f32).min(1.0);
        channels.for_each(|at| x[at] = if value > 0.0 { x[at] * raised / value } else { raised });
    }
}

/// A stripe on the left and one on the right become negatives; whole columns, and at least one.
pub(super) fn stripe(x: &mut [f32], [_, _, w]: [usize; 3], share: f64, _: &mut Sequence) {
    let width = ((share * w as f64).round() as usize).clamp(1, w);
    let inverted = |column: usize| column < width || column + width >= w;
    for row in x.chunks_mut(w) {
        row.iter_mut().enumerate().filter(|(column, _)| inverted(*column)).for_each(|(_, x)| *x = 1.0 - *x);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Repaint;
    use super::*;
    use crate::tensor::Rng;

    fn changed(change: Repaint, x: &[f32], shape: [usize; 3], by: f64) -> Vec<f32> {
        let mut x = x.to_vec();
        change(&mut x, shape, by, &mut Rng::new(0, 0).sequence());
        x
    }

    #[test]
    fn contrast_keeps_the_mean_of_each_channel() {
        assert_eq!(changed(contrast, &[0.0, 1.0, 0.5, 0.5], [2, 1, 2], 0.5), [0.25, 0.75, 0.5, 0.5]);
    }

    #[test]
    fn brightness_adds_to_grey_and_keeps_the_hue_of_colours() {
        assert_eq!(changed(brightness, &[0.0, 0.5, 1.0], [1, 1, 3], 0.25), [0.25, 0.75, 1.0]);
        assert_eq!(changed(brightness, &[0.5, 0.25, 0.0], [3, 1, 1], 0.5), [1.0, 0.5, 0.0]);
    }

    #[test]
    fn the_fifth_stripe_is_that_of_mnist_c() {
        let row = changed(stripe, &[0.0; 28], [1, 1, 28], 0.25);
        let expected: Vec<f32> = (0..28).map(|column| f32::from(u8::from(!(7..21).contains(&column)))).collect();
        assert_eq!(row, expected);
    }
}
