//! Noise: of a sensor, of few photons, of broken pixels, of coherent light.

use crate::tensor::random::Sequence;

pub(super) fn gaussian(x: &mut [f32], _: [usize; 3], deviation: f64, random: &mut Sequence) {
    x.iter_mut().for_each(|x| *x += deviation as f32 * random.normal());
}

pub(super) fn speckle(x: &mut [f32], _: [usize; 3], deviation: f64, random: &mut Sequence) {
    x.iter_mut().for_each(|x| *x += *x * deviation as f32 * random.normal());
}

pub(super) fn shot(x: &mut [f32], _: [usize; 3], photons: f64, random: &mut Sequence) {
    x.iter_mut().for_each(|x| *x = (f64::from(poisson(f64::from(*x) * photons, random)) / photons) as f32);
}

/// Salt and pepper in equal parts.
pub(super) fn impulse(x: &mut [f32], _: [usize; 3], share: f64, random: &mut Sequence) {
    for x in x {
        let (hit, salt) = (random.bernoulli(share as f32), random.bernoulli(0.5));
        if hit {
            *x = f32::from(u8::from(salt));
        }
    }
}

/// How many uniform numbers can be multiplied before the product falls below e^−mean, less one (Knuth, TAOCP 2, 3.4.1).
fn poisson(mean: f64, random: &mut Sequence) -> u32 {
    let least = (-mean).exp();
    let mut product = f64::from(random.uniform());
    let mut count = 0;
    while product > least {
        product *= f64::from(random.uniform());
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::Repaint;
    use super::*;
    use crate::tensor::Rng;

    const PIXELS: usize = 20_000;

    /// Mean and variance of what becomes of grey pixels.
    fn moments(change: Repaint, strength: f64) -> [f64; 2] {
        let mut x = vec![0.5; PIXELS];
        change(&mut x, [1, 1, PIXELS], strength, &mut Rng::new(5, 0).sequence());
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / PIXELS as f64;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / PIXELS as f64;
        [mean, variance]
    }

    #[test]
    fn noise_has_the_moments_of_its_distribution() {
        let cases: [(Repaint, f64, f64); 4] = [
            (gaussian, 0.2, 0.2 * 0.2),
            (speckle, 0.4, 0.2 * 0.2),
            // Poisson(λ) / s has the variance λ / s².
            (shot, 20.0, 0.5 / 20.0),
            // A share of the pixels is half a unit away.
            (impulse, 0.2, 0.2 * 0.25),
        ];
        for (change, strength, expected) in cases {
            let [mean, variance] = moments(change, strength);
            assert!((mean - 0.5).abs() < 0.01 && (variance / expected - 1.0).abs() < 0.05, "{mean} {variance}");
        }
    }

    #[test]
    fn black_stays_black_where_there_is_no_light() {
        for change in [shot, speckle] {
            let mut x = [0.0; 50];
            change(&mut x, [1, 5, 10], 3.0, &mut Rng::new(1, 0).sequence());
            assert_eq!(x, [0.0; 50]);
        }
    }
}
