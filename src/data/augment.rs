//! Random changes to training images. What happens to an image depends on the seed, the epoch and the image alone: not on the
//! batch that it is in, and not on the number of threads.

use crate::backend::params::ImagePlan;
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

    /// What is done to one image of this size.
    pub fn plan(&self, height: usize, width: usize, random: &mut Sequence) -> ImagePlan {
        let mirrored = self.flip && random.bernoulli(0.5);
        let mut between = |limit: f64| f64::from(random.uniform_in(-1.0, 1.0)) * limit;
        let (dy, dx, angle) = (between(self.shift), between(self.shift), between(self.rotate).to_radians());
        let crop = self.crop as u32;
        let mut offset = || f64::from(random.below(2 * crop + 1)) - f64::from(crop);
        let (dy, dx) = (dy + offset(), dx + offset());
        let (cut_y, cut_x) = match self.cutout {
            0 => (0, 0),
            _ => (random.below(height as u32), random.below(width as u32)),
        };
        ImagePlan {
            dy: dy as f32,
            dx: dx as f32,
            sine: angle.sin() as f32,
            cosine: angle.cos() as f32,
            mirrored: f32::from(u8::from(mirrored)),
            cut_y: cut_y as f32,
            cut_x: cut_x as f32,
            side: self.cutout as f32,
        }
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
    use crate::tensor::{Device, Rng, Tensor};

    fn augmented(config: AugmentConfig, seed: u64) -> Vec<f32> {
        let pixels: Vec<u8> = (0..64).collect();
        let image = Tensor::from_slice(&pixels, [1, 1, 8, 8], Device::Cpu).unwrap();
        let index = Tensor::from_slice(&[0], [1], Device::Cpu).unwrap();
        let plan = config.plan(8, 8, &mut Rng::new(seed, 0).sequence());
        let values = image.gather_images(&index, Some(&[plan])).unwrap().to_vec::<f32>().unwrap();
        values.into_iter().map(|x| x * 255.0).collect()
    }

    #[test]
    fn each_change_does_what_its_name_says() {
        let original: Vec<f32> = (0..64).map(|i| i as f32 * (1.0 / 255.0) * 255.0).collect();
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
        assert!(cropped != original && cropped.iter().all(|v| original.contains(v)), "crops move by whole pixels");
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
