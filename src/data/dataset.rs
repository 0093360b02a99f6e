//! Labelled images in memory.

use crate::error::{Error, Result};
use crate::tensor::{Device, Rng, Tensor};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Labelled images: bytes, `[n, channels, height, width]`, row-major.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What the data set is called.
    pub name: String,
    /// Channels of an image.
    pub channels: usize,
    /// Height of an image in pixels.
    pub height: usize,
    /// Width of an image in pixels.
    pub width: usize,
    /// All pixels, 0 to 255: `U8`, `[n, channels, height, width]`, on the CPU.
    pub images: Tensor,
    /// The class of each image.
    pub labels: Vec<i32>,
    /// The classes' names.
    pub classes: Vec<String>,
}

impl PartialEq for Dataset {
    fn eq(&self, other: &Dataset) -> bool {
        self.name == other.name
            && self.image_shape() == other.image_shape()
            && self.pixels() == other.pixels()
            && self.labels == other.labels
            && self.classes == other.classes
    }
}

/// Images to learn from and images to be judged by.
#[derive(Clone, Debug)]
pub struct Splits {
    /// To learn from.
    pub train: Dataset,
    /// To be judged by.
    pub test: Dataset,
}

impl Dataset {
    /// Checks that counts match and every label is a class.
    ///
    /// # Errors
    /// They do not; the first wrong label is named.
    pub fn new(
        name: &str,
        shape: [usize; 3],
        images: Vec<u8>,
        labels: Vec<i32>,
        classes: Vec<String>,
    ) -> Result<Dataset> {
        let [channels, height, width] = shape;
        let (pixels, n) = (channels * height * width, labels.len());
        if pixels == 0 || images.len() != n * pixels {
            let found = images.len() as f64 / pixels.max(1) as f64;
            return Err(Error::argument(
                name,
                format!("{found} images but {n} labels; the files do not belong together"),
            ));
        }
        if n == 0 {
            return Err(Error::argument(name, "there are no images"));
        }
        if let Some(at) = labels.iter().position(|&label| label < 0 || label as usize >= classes.len()) {
            let reason = format!("label {} of image {at} is not one of the {} classes", labels[at], classes.len());
            return Err(Error::argument(name, reason));
        }
        let images = Tensor::from_slice(&images, [n, channels, height, width], Device::Cpu)?;
        Ok(Dataset { name: name.to_string(), channels, height, width, images, labels, classes })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Channels, height and width.
    pub fn image_shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// All pixels, one image after another.
    pub fn pixels(&self) -> &[u8] {
        self.images.slice()
    }

    /// The pixels of image `i`.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.pixels()[i * self.image_len()..(i + 1) * self.image_len()]
    }

    /// Images `range` as a tensor `[n, c, h, w]` with values in [0, 1].
    pub fn images_tensor(&self, range: Range<usize>, device: Device) -> Result<Tensor> {
        let images = self.images.narrow(0, range.start, range.len())?.to_device(device)?;
        let all: Vec<i32> = (0..range.len() as i32).collect();
        images.gather_images(&Tensor::from_slice(&all, [all.len()], device)?, None)
    }

    /// The images with these indices, in this order.
    ///
    /// # Errors
    /// An index is out of range.
    pub fn subset(&self, index: &[u32]) -> Result<Dataset> {
        if let Some(beyond) = index.iter().find(|&&i| i as usize >= self.len()) {
            return Err(Error::argument(&self.name, format!("there is no image {beyond}; there are {}", self.len())));
        }
        let rows: Vec<i32> = index.iter().map(|&i| i as i32).collect();
        let images = self.images.gather_rows(&Tensor::from_slice(&rows, [rows.len()], Device::Cpu)?)?;
        let labels = index.iter().map(|&i| self.labels[i as usize]).collect();
        Ok(Dataset { images, labels, name: self.name.clone(), classes: self.classes.clone(), ..*self })
    }

    /// `n` random images (classes as they come), in random order.
    ///
    /// # Errors
    /// There are fewer than `n`.
    pub fn limit(&self, n: usize, rng: Rng) -> Result<Dataset> {
        if n == 0 || n > self.len() {
            return Err(Error::argument(
                "train-limit",
                format!("must be 1 to {} for {}, found {n}", self.len(), self.name),
            ));
        }
        self.subset(&rng.sequence().permutation(self.len())[..n])
    }

    /// The images that [`limit`](Dataset::limit) leaves out, in random order.
    ///
    /// # Errors
    /// It leaves out none.
    pub fn beyond(&self, n: usize, rng: Rng) -> Result<Dataset> {
        match n < self.len() {
            true => self.subset(&rng.sequence().permutation(self.len())[n..]),
            false => Err(Error::argument(
                "train-limit",
                format!("leaves out none of the {} images of {}", self.len(), self.name),
            )),
        }
    }

    /// The images of both data sets, these first.
    ///
    /// # Errors
    /// Images of other extents or other classes.
    pub fn joined(&self, other: &Dataset) -> Result<Dataset> {
        if self.image_shape() != other.image_shape() || self.classes != other.classes {
            let reason = format!("has other images or classes than {}; they cannot be joined", other.name);
            return Err(Error::argument(&self.name, reason));
        }
        let images = [self.pixels(), other.pixels()].concat();
        let labels = [&self.labels[..], &other.labels[..]].concat();
        Dataset::new(&self.name, self.image_shape(), images, labels, self.classes.clone())
    }

    /// A random part of the images, and the rest.
    ///
    /// # Errors
    /// `share` is not between 0 and 1, or one part would be empty.
    pub fn split(&self, share: f64, rng: Rng) -> Result<(Dataset, Dataset)> {
        let first = (share * self.len() as f64).round() as usize;
        if !(share > 0.0 && share < 1.0) || first == 0 || first == self.len() {
            return Err(Error::argument("split", format!("the share must leave images on both sides, found {share}")));
        }
        let order = rng.sequence().permutation(self.len());
        Ok((self.subset(&order[..first])?, self.subset(&order[first..])?))
    }

    /// SHA-256 of everything that a model could see.
    pub fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {:?}", self.image_shape(), self.classes));
        hash.update(self.pixels());
        self.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
        hash.finalize().into()
    }

    /// Mean and standard deviation of each channel, of pixels in [0, 1].
    pub fn moments(&self) -> Vec<[f32; 2]> {
        let plane = self.height * self.width;
        let moments = |channel: usize| {
            let planes = self.pixels().chunks(plane).skip(channel).step_by(self.channels);
            let (mut count, mut sum, mut squares) = (0u64, 0u64, 0u64);
            for &pixel in planes.flatten() {
                count += 1;
                sum += u64::from(pixel);
                squares += u64::from(pixel) * u64::from(pixel);
            }
            let mean = sum as f64 / count as f64;
            let variance = (squares as f64 / count as f64 - mean * mean).max(0.0);
            [(mean / 255.0) as f32, ((variance.sqrt() / 255.0) as f32).max(1e-6)]
        };
        (0..self.channels).map(moments).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(labels: &[i32]) -> Result<Dataset> {
        let images = (0..labels.len() * 6).map(|i| i as u8).collect();
        Dataset::new("toy", [1, 2, 3], images, labels.to_vec(), vec!["a".into(), "b".into()])
    }

    #[test]
    fn counts_and_labels_are_checked() {
        assert_eq!(dataset(&[0, 1, 0]).unwrap().image(1), [6, 7, 8, 9, 10, 11]);
        assert!(dataset(&[0, 2]).unwrap_err().to_string().contains("label 2 of image 1"));
        assert!(dataset(&[-1]).unwrap_err().to_string().contains("label -1"));
        assert!(dataset(&[]).is_err());
        let error = Dataset::new("toy", [1, 2, 3], vec![0; 12], vec![0], vec!["a".into()]).unwrap_err().to_string();
        assert!(error.contains("2 images but 1 labels"), "{error}");
    }

    #[test]
    fn subsets_splits_and_limits_keep_images_with_their_labels() {
        let data = dataset(&[0, 1, 0, 1, 0]).unwrap();
        let (a, b) = data.split(0.4, Rng::new(1, 2)).unwrap();
        assert_eq!((a.len(), b.len()), (2, 3));
        for part in [&a, &b, &data.limit(3, Rng::new(0, 0)).unwrap()] {
            for i in 0..part.len() {
                let original = usize::from(part.image(i)[0]) / 6;
                assert_eq!(part.labels[i], data.labels[original]);
            }
        }
        assert!(data.limit(6, Rng::new(0, 0)).is_err() && data.split(1.0, Rng::new(0, 0)).is_err());
        assert!(data.subset(&[5]).is_err());
        let (few, rest) = (data.limit(3, Rng::new(9, 0)).unwrap(), data.beyond(3, Rng::new(9, 0)).unwrap());
        let mut seen: Vec<u8> = few.joined(&rest).unwrap().pixels().iter().copied().step_by(6).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 6, 12, 18, 24], "what one leaves out is the other");
        assert!(data.beyond(5, Rng::new(9, 0)).is_err());
    }

    #[test]
    fn the_hash_changes_with_any_pixel_or_label() {
        let data = dataset(&[0, 1]).unwrap();
        let mut other = data.clone();
        other.images = data
            .images
            .to_dtype(crate::DType::F32)
            .unwrap()
            .affine(1.0, 1.0)
            .unwrap()
            .to_dtype(crate::DType::U8)
            .unwrap();
        assert_ne!(data.content_hash(), other.content_hash());
        other = data.clone();
        other.labels[1] = 0;
        assert_ne!(data.content_hash(), other.content_hash());
    }
}
