//! Views: what a network gets to see of an image. A view is a function of the image alone, so teacher and student can be shown different
//! things of the same image: a sharp and a blurred one (privileged information), two halves, another domain.

use super::Dataset;
use crate::error::{Error, Result};
use crate::suggest::nearest;
use crate::tensor::Rng;
use rayon::prelude::*;

/// A deterministic transformation of images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum View {
    /// The image itself.
    #[default]
    Identity,
    /// Averages over so many areas in each direction: `low-resolution-7`.
    LowResolution(usize),
    /// The columns left of the middle.
    LeftHalf,
    /// The other columns.
    RightHalf,
    /// Gaussian noise of this standard deviation added to pixels in [0, 1], cut off there: `noise-0.3`. The same image always gets the
    /// same noise.
    Noise(f64),
    /// A quarter of the length of the Sobel gradient, at most white; pixels outside are like those at the border.
    Edges,
}

const LOW_RESOLUTION: &str = "low-resolution-";
const NOISE: &str = "noise-";
/// The stream of random numbers of the noise.
const NOISE_STREAM: u64 = 104;

impl View {
    /// All views, with examples of those that have a number in their name.
    pub const NAMES: [&str; 6] = ["identity", "low-resolution-7", "left-half", "right-half", "noise-0.3", "edges"];

    /// A view by name.
    ///
    /// # Errors
    /// There is none of this name (the nearest is named), or its number is out of range.
    pub fn named(name: &str) -> Result<View> {
        let number = |prefix: &str| name.strip_prefix(prefix);
        let refuse = |reason: String| Err(Error::argument("view", reason));
        if let Some(side) = number(LOW_RESOLUTION) {
            return match side.parse() {
                Ok(side) if side > 0 => Ok(View::LowResolution(side)),
                _ => refuse(format!("`{name}`: the number is the side in pixels, 1 or more, as in low-resolution-7")),
            };
        }
        if let Some(deviation) = number(NOISE) {
            return match deviation.parse() {
                Ok(deviation) if (0.0..=100.0).contains(&deviation) => Ok(View::Noise(deviation)),
                _ => refuse(format!("`{name}`: the number is the noise's deviation, 0 to 100, as in noise-0.3")),
            };
        }
        match name {
            "identity" => Ok(View::Identity),
            "left-half" => Ok(View::LeftHalf),
            "right-half" => Ok(View::RightHalf),
            "edges" => Ok(View::Edges),
            _ => {
                let hint = nearest(name, &View::NAMES).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
                refuse(format!("there is no `{name}`; {hint}known: {}", View::NAMES.join(", ")))
            }
        }
    }

    /// The same images as they look in this view; pixels are rounded to bytes again.
    ///
    /// # Errors
    /// The images are too small for it.
    pub fn of(self, data: &Dataset) -> Result<Dataset> {
        let (h, w) = (data.height, data.width);
        let plane = move |data: &Dataset, size: [usize; 2], of: &(dyn Fn(&[u8]) -> Vec<u8> + Sync)| {
            let pixels = data.pixels().par_chunks(h * w).flat_map_iter(of).collect();
            Dataset::new(
                &data.name,
                [data.channels, size[0], size[1]],
                pixels,
                data.labels.clone(),
                data.classes.clone(),
            )
        };
        let columns = |from: usize, to: usize| match from < to {
            true => plane(data, [h, to - from], &|x| x.chunks(w).flat_map(|row| row[from..to].to_vec()).collect()),
            false => Err(Error::argument("view", format!("images of {h}×{w} pixels have no half"))),
        };
        match self {
            View::Identity => Ok(data.clone()),
            View::LowResolution(side) if side > h.min(w) => {
                let reason =
                    format!("low-resolution-{side} is larger than the images, {h}×{w}; choose a smaller number");
                Err(Error::argument("view", reason))
            }
            View::LowResolution(side) => plane(data, [side, side], &|x| averages(x, [h, w], side)),
            View::LeftHalf => columns(0, w / 2),
            View::RightHalf => columns(w / 2, w),
            View::Noise(deviation) => plane(data, [h, w], &|x| noisy(x, deviation)),
            View::Edges => plane(data, [h, w], &|x| edges(x, [h, w])),
        }
    }
}

/// The mean over each of `side × side` areas; they overlap where `side` does not divide the extents.
fn averages(x: &[u8], [h, w]: [usize; 2], side: usize) -> Vec<u8> {
    let range = |i: usize, extent: usize| i * extent / side..((i + 1) * extent).div_ceil(side);
    let mean = |at: usize| {
        let (rows, columns) = (range(at / side, h), range(at % side, w));
        let count = rows.len() * columns.len();
        let sum: usize = rows.map(|y| x[y * w..][columns.clone()].iter().map(|p| usize::from(*p)).sum::<usize>()).sum();
        ((sum + count / 2) / count) as u8
    };
    (0..side * side).map(mean).collect()
}

/// The noise is drawn from the image's own hash (FNV-1a), so it depends on nothing else.
fn noisy(x: &[u8], deviation: f64) -> Vec<u8> {
    let hash = x.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, p| (hash ^ u64::from(*p)).wrapping_mul(0x100_0000_01b3));
    let mut random = Rng::new(hash, NOISE_STREAM).sequence();
    x.iter().map(|&p| (f64::from(p) + 255.0 * deviation * f64::from(random.normal())).round() as u8).collect()
}

fn edges(x: &[u8], [h, w]: [usize; 2]) -> Vec<u8> {
    let length = |at: usize| {
        let (y, column) = ((at / w) as isize, (at % w) as isize);
        let pixel = |dy: isize, dx: isize| {
            let (y, column) = ((y + dy).clamp(0, h as isize - 1), (column + dx).clamp(0, w as isize - 1));
            f64::from(x[y as usize * w + column as usize])
        };
        let across = |dx| pixel(-1, dx) + 2.0 * pixel(0, dx) + pixel(1, dx);
        let down = |dy| pixel(dy, -1) + 2.0 * pixel(dy, 0) + pixel(dy, 1);
        ((across(1) - across(-1)).hypot(down(1) - down(-1)) / 4.0).round() as u8
    };
    (0..h * w).map(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(width: usize) -> Dataset {
        let images = (0..3 * 4 * width).map(|i| (i * 37 % 256) as u8).collect();
        Dataset::new("toy", [1, 4, width], images, vec![0, 1, 0], vec!["a".into(), "b".into()]).unwrap()
    }

    fn of(name: &str, data: &Dataset) -> Dataset {
        View::named(name).unwrap().of(data).unwrap()
    }

    #[test]
    fn halves_put_together_are_the_image() {
        let data = data(5);
        let (left, right) = (of("left-half", &data), of("right-half", &data));
        assert_eq!((left.image_shape(), right.image_shape()), ([1, 4, 2], [1, 4, 3]));
        for i in 0..3 {
            let rows = left.image(i).chunks(2).zip(right.image(i).chunks(3));
            assert_eq!(rows.flat_map(|(l, r)| [l, r].concat()).collect::<Vec<u8>>(), data.image(i));
        }
        assert_eq!(left.labels, data.labels);
    }

    #[test]
    fn low_resolution_averages_areas() {
        let data =
            Dataset::new("toy", [1, 2, 4], vec![0, 10, 20, 30, 4, 6, 30, 40], vec![0], vec!["a".into()]).unwrap();
        assert_eq!(of("low-resolution-2", &data).image(0), [5, 25, 5, 35], "rows stay, columns are averaged in pairs");
        assert_eq!(of("low-resolution-1", &data).image(0), [18]);
    }

    #[test]
    fn noise_depends_on_the_image_alone_and_has_its_deviation() {
        let grey = Dataset::new("toy", [1, 64, 64], vec![128; 4096], vec![0], vec!["a".into()]).unwrap();
        let noise = |x: &u8| (f64::from(*x) - 128.0) / 255.0;
        let (first, again) = (of("noise-0.1", &grey), of("noise-0.1", &grey));
        assert_eq!(first, again);
        let variance = first.image(0).iter().map(|x| noise(x).powi(2)).sum::<f64>() / 4096.0;
        assert!((variance.sqrt() - 0.1).abs() < 0.005, "{}", variance.sqrt());
        let data = data(4);
        assert_eq!(of("noise-0.5", &data).image(2), of("noise-0.5", &data.subset(&[2]).unwrap()).image(0));
    }

    #[test]
    fn edges_are_where_pixels_change() {
        let step: Vec<u8> = [0, 0, 200, 200].repeat(4);
        let data = Dataset::new("toy", [1, 4, 4], step, vec![0], vec!["a".into()]).unwrap();
        assert_eq!(of("edges", &data).image(0), [0, 200, 200, 0].repeat(4));
    }

    #[test]
    fn every_named_view_exists_and_others_are_explained() {
        for name in View::NAMES {
            assert!(View::named(name).is_ok(), "{name}");
        }
        let error = |name: &str| View::named(name).unwrap_err().to_string();
        assert!(error("left-hlf").contains("did you mean `left-half`?"), "{}", error("left-hlf"));
        for name in ["low-resolution-0", "low-resolution-x", "noise--1", "noise-nan"] {
            assert!(error(name).contains("as in"), "{}", error(name));
        }
        assert!(View::LowResolution(9).of(&data(5)).unwrap_err().to_string().contains("larger than the images"));
        let narrow = Dataset::new("toy", [1, 2, 1], vec![0; 2], vec![0], vec!["a".into()]).unwrap();
        assert!(View::LeftHalf.of(&narrow).unwrap_err().to_string().contains("no half"));
    }
}
