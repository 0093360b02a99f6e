//! Random changes to training images. What happens to an image depends on the seed, the epoch and the image alone: not on the
//! batch that it is in, and not on the number of threads.

use crate::error::{Error, Result};
use crate::tensor::random::Sequence;

/// Which changes are made, and how large they are. Zeros change nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AugmentConfig {
    /// The largest shift along each axis, in pixels.
    pub shift: f64,
    /// The largest rotation in degrees.
    pub rotate: f64,
    /// Zeros on each side before a crop of the image's own size at a random place, in pixels.
    pub crop: usize,
    /// Mirror half of the images horizontally.
    pub flip: bool,
    /// Side of a random square that is set to zero (DeVries & Taylor 2017), in pixels.
    pub cutout: usize,
    /// α of mixup (Zhang et al. 2018): images are mixed in pairs, with a share drawn from Beta(α, α).
    pub mixup: f64,
}

impl AugmentConfig {
    /// Whether anything is changed at all.
    pub fn is_active(&self) -> bool {
        *self != AugmentConfig::default()
    }

    /// Checks every range.
    ///
    /// # Errors
    /// A value is negative, not finite, or larger than the image.
    pub fn validate(&self, height: usize, width: usize) -> Result<()> {
        let side = height.min(width) as f64;
        let limits = [
            ("shift", self.shift, side),
            ("rotate", self.rotate, 180.0),
            ("crop", self.crop as f64, side),
            ("cutout", self.cutout as f64, side),
            ("mixup", self.mixup, 100.0),
        ];
        match limits.iter().find(|(_, value, limit)| !(0.0..=*limit).contains(value)) {
            None => Ok(()),
            Some((name, value, limit)) => Err(Error::argument(*name, format!("must be 0 to {limit}, found {value}"))),
        }
    }

    /// Changes one image `[channels, height, width]` in place.
    pub(super) fn apply(&self, image: &mut [f32], height: usize, width: usize, random: &mut Sequence) {
        let mirrored = self.flip && random.bernoulli(0.5);
        let mut between = |limit: f64| f64::from(random.uniform_in(-1.0, 1.0)) * limit;
        let (dy, dx, angle) = (between(self.shift), between(self.shift), between(self.rotate).to_radians());
        let crop = self.crop as u32;
        let mut offset = || f64::from(random.below(2 * crop + 1)) - f64::from(crop);
        let place = Placement { dy: dy + offset(), dx: dx + offset(), angle, mirrored };
        let corner = (self.cutout > 0).then(|| (random.below(height as u32), random.below(width as u32)));
        for plane in image.chunks_mut(height * width) {
            if place != Placement::default() {
                let moved: Vec<f32> = (0..plane.len()).map(|i| place.sample(plane, height, width, i)).collect();
                plane.copy_from_slice(&moved);
            }
            if let Some((cy, cx)) = corner {
                blank(plane, width, (cy as usize, cx as usize), self.cutout);
            }
        }
    }
}

/// Where an image's pixels go.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Placement {
    dy: f64,
    dx: f64,
    angle: f64,
    mirrored: bool,
}

impl Placement {
    /// The value of target pixel `i`: bilinear between the pixels that it comes from, 0 outside.
    fn sample(&self, plane: &[f32], height: usize, width: usize, i: usize) -> f32 {
        let (cy, cx) = ((height as f64 - 1.0) / 2.0, (width as f64 - 1.0) / 2.0);
        let (y, x) = ((i / width) as f64 - cy - self.dy, (i % width) as f64 - cx - self.dx);
        let (sin, cos) = self.angle.sin_cos();
        let (sy, sx) = (cos * y - sin * x + cy, sin * y + cos * x);
        let sx = if self.mirrored { cx - sx } else { cx + sx };
        let (y0, x0) = (sy.floor(), sx.floor());
        let at = |y: f64, x: f64| match y >= 0.0 && x >= 0.0 && y < height as f64 && x < width as f64 {
            true => f64::from(plane[y as usize * width + x as usize]),
            false => 0.0,
        };
        let (fy, fx) = (sy - y0, sx - x0);
        let row = |y: f64| at(y, x0) * (1.0 - fx) + at(y, x0 + 1.0) * fx;
        (row(y0) * (1.0 - fy) + row(y0 + 1.0) * fy) as f32
    }
}

/// Sets a square round a centre to zero; what lies outside the image is cut off.
fn blank(plane: &mut [f32], width: usize, (cy, cx): (usize, usize), side: usize) {
    let clip = |centre: usize, len: usize| centre.saturating_sub(side / 2)..(centre + side - side / 2).min(len);
    let height = plane.len() / width;
    for y in clip(cy, height) {
        plane[y * width..][clip(cx, width)].fill(0.0);
    }
}

/// A number from Beta(α, α): the ratio of two Gamma(α) numbers (Marsaglia & Tsang 2000).
pub(super) fn beta(alpha: f64, random: &mut Sequence) -> f64 {
    let (a, b) = (gamma(alpha, random), gamma(alpha, random));
    if a + b > 0.0 {
        a / (a + b)
    } else {
        0.5
    }
}

fn gamma(alpha: f64, random: &mut Sequence) -> f64 {
    if alpha < 1.0 {
        let u = f64::from(random.uniform()).max(1e-12);
        return gamma(alpha + 1.0, random) * u.powf(1.0 / alpha);
    }
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = f64::from(random.normal());
        let v = (1.0 + c * x).powi(3);
        let u = f64::from(random.uniform()).max(1e-12);
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Rng;

    fn augmented(config: AugmentConfig, seed: u64) -> Vec<f32> {
        let mut image: Vec<f32> = (0..64).map(|i| i as f32).collect();
        config.apply(&mut image, 8, 8, &mut Rng::new(seed, 0).sequence());
        image
    }

    #[test]
    fn each_change_does_what_its_name_says() {
        let original: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let none = AugmentConfig::default();
        assert_eq!(augmented(none, 1), original);
        let mirrored: Vec<f32> = original.chunks(8).flat_map(|row| row.iter().rev().copied()).collect();
        let flips: Vec<Vec<f32>> = (0..20).map(|seed| augmented(AugmentConfig { flip: true, ..none }, seed)).collect();
        assert!(flips.contains(&mirrored) && flips.contains(&original));
        assert!(flips.iter().all(|image| *image == mirrored || *image == original));
        let cut = augmented(AugmentConfig { cutout: 3, ..none }, 3);
        let zeros = cut.iter().filter(|v| **v == 0.0).count();
        assert!((4..=10).contains(&zeros), "{zeros}");
        let cropped = augmented(AugmentConfig { crop: 2, ..none }, 5);
        assert!(cropped != original && cropped.iter().all(|v| v.fract() == 0.0), "crops move by whole pixels");
        assert_ne!(augmented(AugmentConfig { rotate: 20.0, ..none }, 5), original);
    }

    #[test]
    fn ranges_are_checked() {
        let bad = [
            AugmentConfig { shift: -1.0, ..Default::default() },
            AugmentConfig { rotate: f64::NAN, ..Default::default() },
            AugmentConfig { cutout: 29, ..Default::default() },
        ];
        assert!(bad.iter().all(|config| config.validate(28, 28).is_err()));
        assert!(AugmentConfig { shift: 2.0, mixup: 0.2, ..Default::default() }.validate(28, 28).is_ok());
    }

    #[test]
    fn mixup_shares_have_the_moments_of_the_beta_distribution() {
        let mut random = Rng::new(4, 0).sequence();
        for alpha in [0.2, 1.0, 4.0] {
            let draws: Vec<f64> = (0..4000).map(|_| beta(alpha, &mut random)).collect();
            let mean = draws.iter().sum::<f64>() / 4000.0;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4000.0;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 0.03 && (variance - expected).abs() < 0.02, "α {alpha}: {mean} {variance}");
        }
    }
}
