//! Corruptions of test images, each in five severities: what MNIST-C (Mu & Gilmer 2019) took over from ImageNet-C (Hendrycks & Dietterich
//! 2019), with MNIST-C's constants.
//!
//! What differs from MNIST-C: lengths are for images whose smaller side is 28 pixels, and grow with it; `stripe` has severities, of which
//! the fifth is MNIST-C's only one; bytes are rounded. What happens to an image depends on the seed, its place in the data set and
//! the images themselves, not on the number of threads. A corruption draws the same numbers at every severity.

mod light;
mod noise;
mod shape;

use super::Dataset;
use crate::backend::params::ImagePlan;
use crate::error::{Error, Result};
use crate::suggest::nearest;
use crate::tensor::random::Sequence;
use crate::tensor::{Device, Rng, Tensor};
use rayon::prelude::*;

/// One way to spoil an image.
#[derive(Debug)]
pub struct Corruption {
    /// The name on the command line.
    pub name: &'static str,
    /// One line for listings: what the numbers are.
    pub about: &'static str,
    /// The strength at severity 1 to 5.
    pub strengths: [f64; 5],
    change: Change,
}

/// Changes the pixels of an image of `[c, h, w]`, in [0, 1] before and cut off there after, given the strength.
type Repaint = fn(&mut [f32], [usize; 3], f64, &mut Sequence);
/// Where the pixels of an image of `[h, w]` go, given the strength.
type Move = fn(f64, [usize; 2], &mut Sequence) -> ImagePlan;

/// What is done to an image.
#[derive(Debug)]
enum Change {
    /// New pixels.
    Pixels(Repaint),
    /// The same pixels in other places, bilinearly interpolated, black where none comes from.
    Motion(Move),
}

const fn pixels(name: &'static str, about: &'static str, strengths: [f64; 5], change: Repaint) -> Corruption {
    Corruption { name, about, strengths, change: Change::Pixels(change) }
}

const fn motion(name: &'static str, about: &'static str, strengths: [f64; 5], change: Move) -> Corruption {
    Corruption { name, about, strengths, change: Change::Motion(change) }
}

/// All corruptions. A new one is a function and a line here.
pub const CORRUPTIONS: &[Corruption] = &[
    pixels("gaussian-noise", "x + s · N(0, 1)", [0.08, 0.12, 0.18, 0.26, 0.38], noise::gaussian),
    pixels("shot-noise", "Poisson(s · x) / s: few photons", [60.0, 25.0, 12.0, 5.0, 3.0], noise::shot),
    pixels("impulse-noise", "a share s of the pixels black or white", [0.03, 0.06, 0.09, 0.17, 0.27], noise::impulse),
    pixels("speckle-noise", "x + x · s · N(0, 1)", [0.15, 0.2, 0.35, 0.45, 0.6], noise::speckle),
    pixels("gaussian-blur", "a Gaussian of deviation s pixels", [1.0, 2.0, 3.0, 4.0, 6.0], shape::blur),
    pixels("pixelate", "areas of 1/s pixels averaged", [0.6, 0.5, 0.4, 0.3, 0.25], shape::pixelate),
    pixels("contrast", "mean + s · (x − mean)", [0.4, 0.3, 0.2, 0.1, 0.05], light::contrast),
    pixels("brightness", "s added to the largest channel", [0.1, 0.2, 0.3, 0.4, 0.5], light::brightness),
    pixels("stripe", "a share s of the width inverted on both sides", [0.05, 0.1, 0.15, 0.2, 0.25], light::stripe),
    motion("rotation", "s radians, one way or the other", [0.2, 0.4, 0.6, 0.8, 1.0], shape::rotate),
    motion(
        "translation",
        "s pixels along both axes, one way or the other",
        [1.0, 2.0, 3.0, 4.0, 5.0],
        shape::translate,
    ),
];

/// The side of MNIST's images, which the lengths are for.
const SIDE: f64 = 28.0;
/// The stream of random numbers of corruptions; image i has the i-th derived from it.
const STREAM: u64 = 105;

/// A corruption by name.
///
/// # Errors
/// There is none; the error names the nearest.
pub fn corruption(name: &str) -> Result<&'static Corruption> {
    CORRUPTIONS.iter().find(|corruption| corruption.name == name).ok_or_else(|| {
        let known: Vec<&str> = CORRUPTIONS.iter().map(|corruption| corruption.name).collect();
        let hint = nearest(name, &known).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
        Error::argument("corrupt", format!("there is no `{name}`; {hint}known: all, {}", known.join(", ")))
    })
}

impl Corruption {
    /// All images of a data set, corrupted with a severity from 1 to 5.
    ///
    /// # Errors
    /// Another severity.
    pub fn of(&self, data: &Dataset, severity: usize, seed: u64) -> Result<Dataset> {
        let strength = severity.checked_sub(1).and_then(|at| self.strengths.get(at)).copied().ok_or_else(|| {
            Error::argument("corrupt", format!("{} has severities 1 to 5, found {severity}", self.name))
        })?;
        let random = |image: usize| Rng::new(seed, STREAM).derive(image as u64).sequence();
        let (shape, size) = (data.image_shape(), data.image_len());
        let images = match self.change {
            Change::Pixels(change) => {
                let one = |(image, bytes): (usize, &[u8])| {
                    let mut x: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
                    change(&mut x, shape, strength, &mut random(image));
                    x.into_iter().map(byte)
                };
                data.pixels().par_chunks(size).enumerate().flat_map_iter(one).collect()
            }
            Change::Motion(change) => {
                let plan = |image| change(strength, [data.height, data.width], &mut random(image));
                let plans: Vec<ImagePlan> = (0..data.len()).map(plan).collect();
                let all: Vec<i32> = (0..data.len() as i32).collect();
                let index = Tensor::from_slice(&all, [all.len()], Device::Cpu)?;
                data.images.gather_images(&index, Some(&plans))?.to_vec::<f32>()?.into_iter().map(byte).collect()
            }
        };
        Dataset::new(&data.name, shape, images, data.labels.clone(), data.classes.clone())
    }
}

/// A number in [0, 1], or what is cut off there, as a byte.
fn byte(x: f32) -> u8 {
    (255.0 * x.clamp(0.0, 1.0)).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits::{generate, DigitsConfig};

    fn digits() -> Dataset {
        generate(&DigitsConfig { train: 1, test: 40, ..Default::default() }).test
    }

    /// The mean distance of a pixel from what it was.
    fn distance(a: &Dataset, b: &Dataset) -> f64 {
        let differences = a.pixels().iter().zip(b.pixels()).map(|(a, b)| f64::from(a.abs_diff(*b)));
        differences.sum::<f64>() / a.pixels().len() as f64
    }

    #[test]
    fn every_corruption_moves_images_further_away_with_each_severity() {
        let clean = digits();
        for corruption in CORRUPTIONS {
            let away: Vec<f64> =
                (1..=5).map(|severity| distance(&corruption.of(&clean, severity, 3).unwrap(), &clean)).collect();
            assert!(away[0] > 0.0, "{}", corruption.name);
            // A stroke that has left its place cannot be further away from it: motions only begin to be seen by pixels.
            let ordered = match corruption.change {
                Change::Pixels(_) => away.is_sorted_by(|a, b| a < b),
                Change::Motion(_) => away[0] < away[1] && away[1] < away[4],
            };
            assert!(ordered, "{}: {away:?}", corruption.name);
            let [a, .., e] = corruption.strengths;
            let ordered = corruption.strengths.is_sorted_by(|x, y| if a < e { x < y } else { x > y });
            assert!(ordered, "{}", corruption.name);
        }
    }

    #[test]
    fn a_corruption_is_a_function_of_seed_and_image() {
        let clean = digits();
        for corruption in CORRUPTIONS {
            let spoilt = corruption.of(&clean, 3, 8).unwrap();
            assert_eq!(spoilt, corruption.of(&clean, 3, 8).unwrap(), "{}", corruption.name);
            let first = clean.subset(&[0, 1]).unwrap();
            assert_eq!(corruption.of(&first, 3, 8).unwrap(), spoilt.subset(&[0, 1]).unwrap(), "{}", corruption.name);
            assert_eq!(spoilt.labels, clean.labels);
        }
        let noise = corruption("gaussian-noise").unwrap();
        assert_ne!(noise.of(&clean, 3, 8).unwrap(), noise.of(&clean, 3, 9).unwrap());
    }

    #[test]
    fn any_size_and_number_of_channels_is_taken() {
        for shape in [[1, 1, 1], [3, 5, 9], [2, 64, 32]] {
            let bytes = (0..shape.iter().product()).map(|i: usize| (i * 37 % 256) as u8).collect();
            let data = Dataset::new("toy", shape, bytes, vec![0], vec!["a".into()]).unwrap();
            for corruption in CORRUPTIONS {
                for severity in 1..=5 {
                    assert_eq!(corruption.of(&data, severity, 0).unwrap().image_shape(), shape, "{}", corruption.name);
                }
            }
        }
    }

    #[test]
    fn unknown_names_and_severities_are_explained() {
        let error = corruption("gausian-noise").unwrap_err().to_string();
        assert!(error.contains("did you mean `gaussian-noise`?"), "{error}");
        for severity in [0, 6] {
            let error = CORRUPTIONS[0].of(&digits(), severity, 0).unwrap_err().to_string();
            assert!(error.contains("severities 1 to 5"), "{error}");
        }
    }
}
