//! The embedded data set: digits drawn by program as if by many hands, 28×28 grey, from a seed.
//!
//! Each image picks one of several ways to write its digit, bends the strokes, places them by a random affine map and an elastic
//! field, draws them with a pen of varying width and ink, and adds noise. The knobs in [`DigitsConfig`] make the task hard enough
//! that a small network trails a large one.

mod glyphs;
mod pen;

use super::{Dataset, Splits};
use crate::tensor::random::Sequence;
use crate::tensor::Rng;
use glyphs::{Point, GLYPHS};
use rayon::prelude::*;

/// Height and width of an image in pixels.
pub const SIDE: usize = 28;
/// Streams of random numbers of the two splits.
const TRAIN: u64 = 201;
const TEST: u64 = 202;

/// How many digits are drawn, and how unlike each other they are. Lengths are shares of the digit's height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DigitsConfig {
    /// Training images.
    pub train: usize,
    /// Test images.
    pub test: usize,
    /// Determines every pixel.
    pub seed: u64,
    /// How far each point of a stroke strays.
    pub wobble: f32,
    /// The largest rotation in radians.
    pub rotation: f32,
    /// The largest slant.
    pub shear: f32,
    /// The largest change of either size, as a share.
    pub stretch: f32,
    /// The largest shift in pixels.
    pub shift: f32,
    /// How far the elastic field moves a point, in pixels.
    pub elastic: f32,
    /// The thinnest and the thickest pen, in pixels.
    pub pen: [f32; 2],
    /// Deviation of the noise, of pixels in [0, 1].
    pub noise: f32,
    /// How often a stray stroke crosses the image.
    pub stray: f32,
}

impl Default for DigitsConfig {
    fn default() -> Self {
        DigitsConfig {
            train: 12_000,
            test: 2_000,
            seed: 20_150_309,
            wobble: 0.045,
            rotation: 0.35,
            shear: 0.35,
            stretch: 0.25,
            shift: 3.0,
            elastic: 1.6,
            pen: [0.9, 2.4],
            noise: 0.12,
            stray: 0.3,
        }
    }
}

/// Draws both splits. The same configuration gives the same pixels on any machine with any number of threads.
pub fn generate(config: &DigitsConfig) -> Splits {
    Splits { train: draw_all(config, config.train, TRAIN), test: draw_all(config, config.test, TEST) }
}

fn draw_all(config: &DigitsConfig, count: usize, stream: u64) -> Dataset {
    let rng = Rng::new(config.seed, stream);
    let labels: Vec<i32> = (0..count).map(|i| (i % 10) as i32).collect();
    let mut images = vec![0; count * SIDE * SIDE];
    images.par_chunks_mut(SIDE * SIDE).enumerate().for_each(|(i, image)| {
        draw(config, i % 10, &mut rng.derive(i as u64).sequence(), image);
    });
    let classes = (0..10).map(|digit| digit.to_string()).collect();
    Dataset::new("digits", [1, SIDE, SIDE], images, labels, classes).expect("as many labels as images")
}

/// Draws one digit.
fn draw(config: &DigitsConfig, digit: usize, random: &mut Sequence, image: &mut [u8]) {
    let ways = GLYPHS[digit];
    let glyph = ways[random.below(ways.len() as u32) as usize];
    let map = Map::random(config, random);
    let base_width = random.uniform_in(config.pen[0], config.pen[1]);
    let ink = random.uniform_in(0.65, 1.0);
    let mut canvas = pen::Canvas::new();
    for stroke in glyph {
        let mut stray = |p: Point| {
            let mut near = |x: f32| x + config.wobble * random.normal();
            [near(p[0]), near(p[1])]
        };
        let points: Vec<Point> = stroke.iter().map(|&p| stray(p)).collect();
        let pressure = [random.uniform_in(0.7, 1.3), random.uniform_in(0.7, 1.3)];
        canvas.stroke(&pen::smooth(&points), |p| map.apply(p), base_width, pressure);
    }
    if random.bernoulli(config.stray) {
        let mut end = || [random.uniform_in(-2.0, 30.0), random.uniform_in(-2.0, 30.0)];
        let (from, to) = (end(), end());
        let middle = [(from[0] + to[0]) / 2.0 + random.uniform_in(-5.0, 5.0), (from[1] + to[1]) / 2.0];
        let faint = random.uniform_in(0.5, 1.0);
        canvas.stroke(&pen::smooth(&[from, middle, to]), |p| p, base_width * 0.5 * faint, [1.0, 1.0]);
    }
    for (pixel, coverage) in image.iter_mut().zip(canvas.coverage()) {
        let value = coverage * ink + config.noise * random.normal();
        *pixel = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    }
}

/// Where the points of a glyph, in [0, 1]², land on the image.
struct Map {
    matrix: [[f32; 2]; 2],
    centre: Point,
    /// Waves of the elastic field: direction, phase and displacement.
    waves: [([f32; 2], f32, [f32; 2]); 3],
}

impl Map {
    fn random(config: &DigitsConfig, random: &mut Sequence) -> Map {
        let mut between = |limit: f32| random.uniform_in(-limit, limit);
        let (sin, cos) = between(config.rotation).sin_cos();
        let shear = between(config.shear);
        let (width, height) = (15.0 * (1.0 + between(config.stretch)), 20.0 * (1.0 + between(config.stretch)));
        let middle = SIDE as f32 / 2.0 - 0.5;
        let centre = [middle + between(config.shift), middle + between(config.shift)];
        let mut wave = || {
            let direction = [between(0.35), between(0.35)];
            (direction, between(3.2), [between(config.elastic), between(config.elastic)])
        };
        let waves = [wave(), wave(), wave()];
        let matrix = [[cos * width, (shear * cos - sin) * height], [sin * width, (shear * sin + cos) * height]];
        Map { matrix, centre, waves }
    }

    fn apply(&self, p: Point) -> Point {
        let (x, y) = (p[0] - 0.5, p[1] - 0.5);
        let straight = [
            self.matrix[0][0] * x + self.matrix[0][1] * y + self.centre[0],
            self.matrix[1][0] * x + self.matrix[1][1] * y + self.centre[1],
        ];
        self.waves.iter().fold(straight, |[x, y], (direction, phase, displacement)| {
            let swing = (direction[0] * straight[0] + direction[1] * straight[1] + phase).sin();
            [x + swing * displacement[0], y + swing * displacement[1]]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn few(seed: u64) -> Splits {
        generate(&DigitsConfig { train: 200, test: 50, seed, ..Default::default() })
    }

    #[test]
    fn the_same_seed_draws_the_same_digits_with_any_number_of_threads() {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (one, three) = (pool(1).install(|| few(1)), pool(3).install(|| few(1)));
        assert_eq!(one.train, three.train);
        assert_ne!(one.train.pixels(), few(2).train.pixels());
        assert_ne!(&one.train.pixels()[..784 * 50], one.test.pixels(), "train and test differ");
    }

    #[test]
    fn every_class_is_there_and_every_image_has_ink() {
        let data = few(3).train;
        for class in 0..10 {
            assert_eq!(data.labels.iter().filter(|&&label| label == class).count(), 20);
        }
        for i in 0..data.len() {
            let bright = data.image(i).iter().filter(|&&pixel| pixel > 90).count();
            assert!((20..450).contains(&bright), "image {i}: {bright} bright pixels");
        }
    }
}
