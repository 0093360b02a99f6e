//! Batches: shuffled by seed, prepared by a thread in the background.

use super::augment::{beta, AugmentConfig};
use super::{Curriculum, Dataset};
use crate::backend;
use crate::backend::params::ImagePlan;
use crate::error::{Error, Result};
use crate::tensor::{Device, Rng, Tensor};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::Arc;
use std::thread::JoinHandle;

/// How batches are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Images a batch; the last one of an epoch may be smaller.
    pub batch_size: usize,
    /// Determines order and augmentation.
    pub seed: u64,
    /// Random changes to the images.
    pub augment: AugmentConfig,
}

/// Batches that are prepared ahead of the one in use.
const PREFETCH: usize = 3;
/// Streams of random numbers of a loader.
const ORDER: u64 = 101;
const AUGMENT: u64 = 102;
const MIXUP: u64 = 103;

/// Makes batches of a data set.
pub struct Loader {
    data: Arc<Dataset>,
    /// The data set's images on the device.
    resident: Tensor,
    config: LoaderConfig,
    curriculum: Option<Arc<Curriculum>>,
}

/// Some images and their labels.
#[derive(Debug)]
pub struct Batch {
    /// Which images of the data set these are.
    pub index: Vec<u32>,
    /// `[n, c, h, w]`, on the loader's device.
    pub images: Tensor,
    /// The class of each image.
    pub labels: Vec<i32>,
    /// With mixup, what each image was mixed with.
    pub mix: Option<Mix>,
}

/// The other half of a mixture.
#[derive(Debug)]
pub struct Mix {
    /// The classes of the images mixed in.
    pub labels: Vec<i32>,
    /// The share of the first image; `1 − lambda` is the other's.
    pub lambda: f64,
}

impl Loader {
    /// A loader over `data`, whose images it keeps on `device`.
    ///
    /// # Errors
    /// A batch size of 0, augmentation out of range, or not enough memory on the device.
    pub fn new(data: Arc<Dataset>, config: LoaderConfig, device: Device) -> Result<Loader> {
        if config.batch_size == 0 {
            return Err(Error::argument("batch-size", "must be at least 1, found 0"));
        }
        config.augment.validate(data.height, data.width)?;
        let resident = data.images.to_device(device)?;
        Ok(Loader { data, resident, config, curriculum: None })
    }

    /// The same loader, which shows easy images first.
    ///
    /// # Errors
    /// The curriculum is of another number of images.
    pub fn with_curriculum(self, curriculum: Curriculum) -> Result<Loader> {
        let (ranked, all) = (curriculum.easiest_first.len(), self.data.len());
        match ranked == all && curriculum.easiest_first.iter().all(|&i| (i as usize) < all) {
            true => Ok(Loader { curriculum: Some(Arc::new(curriculum)), ..self }),
            false => Err(Error::argument("curriculum", format!("ranks {ranked} images, but there are {all}"))),
        }
    }

    /// The images.
    pub fn dataset(&self) -> &Dataset {
        &self.data
    }

    /// Images a batch.
    pub fn batch_size(&self) -> usize {
        self.config.batch_size
    }

    /// Whether batches are of mixtures of images (mixup).
    pub fn mixes(&self) -> bool {
        self.config.augment.mixup > 0.0
    }

    /// Steps of an epoch; the last batch may be smaller than the others.
    pub fn batches_per_epoch(&self) -> usize {
        self.data.len().div_ceil(self.config.batch_size)
    }

    /// The batches of an epoch from number `first` on. The order is a function of the seed and the epoch.
    pub fn epoch_from(&self, epoch: u64, first: usize) -> Epoch {
        let (data, resident) = (self.data.clone(), self.resident.clone());
        let maker = BatchMaker { data, resident, config: self.config, curriculum: self.curriculum.clone(), epoch };
        let (sender, receiver) = sync_channel(PREFETCH);
        let worker = std::thread::spawn(move || Arc::new(maker).run(first, &sender));
        Epoch { receiver: Some(receiver), worker: Some(worker) }
    }
}

/// Gives a prepared batch.
type Prepared = Box<dyn FnOnce() -> Result<Batch> + Send>;

/// The batches of one epoch, while a thread prepares the next ones.
pub struct Epoch {
    receiver: Option<Receiver<Prepared>>,
    worker: Option<JoinHandle<()>>,
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if let Ok(prepared) = self.receiver.as_ref()?.recv() {
            return Some(prepared());
        }
        self.receiver = None;
        let failed = self.worker.take()?.join().is_err();
        failed.then(|| Err(Error::argument("loader", "the thread that prepares batches failed; see its message above")))
    }
}

impl Drop for Epoch {
    /// Stops the thread: it cannot send any more, and ends.
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(worker) = self.worker.take() {
            // A panic of the thread was reported when it happened, and nobody wants its batches now.
            let _ = worker.join();
        }
    }
}

/// Prepares the batches of one epoch.
struct BatchMaker {
    data: Arc<Dataset>,
    resident: Tensor,
    config: LoaderConfig,
    curriculum: Option<Arc<Curriculum>>,
    epoch: u64,
}

/// A batch before its images are fetched.
struct Choice {
    index: Vec<u32>,
    plans: Option<Vec<ImagePlan>>,
    /// With mixup, the share of the first image and the numbers within the batch of the others.
    mix: Option<(f64, Vec<u32>)>,
}

impl BatchMaker {
    fn run(self: Arc<BatchMaker>, first: usize, sender: &SyncSender<Prepared>) {
        let mut random = self.rng(ORDER).sequence();
        let order = match &self.curriculum {
            None => random.permutation(self.data.len()),
            Some(curriculum) => curriculum.order(self.epoch, &mut random),
        };
        // A device that computes meanwhile fetches the images as part of the step that takes them, the processor here.
        let later = backend::of(self.resident.device()).runs_ahead();
        for (number, index) in order.chunks(self.config.batch_size).enumerate().skip(first) {
            let (maker, choice) = (self.clone(), self.choose(number, index));
            let prepared: Prepared = match later {
                true => Box::new(move || maker.batch(choice)),
                false => {
                    let batch = maker.batch(choice);
                    Box::new(move || batch)
                }
            };
            if sender.send(prepared).is_err() {
                return; // Nobody wants the rest.
            }
        }
    }

    fn rng(&self, stream: u64) -> Rng {
        Rng::new(self.config.seed, stream).derive(self.epoch)
    }

    fn choose(&self, number: usize, index: &[u32]) -> Choice {
        let augment = &self.config.augment;
        let plans = augment.is_active().then(|| index.iter().map(|&i| self.plan(i)).collect());
        let mix = (augment.mixup > 0.0).then(|| {
            let mut random = self.rng(MIXUP).derive(number as u64).sequence();
            (beta(augment.mixup, &mut random), random.permutation(index.len()))
        });
        Choice { index: index.to_vec(), plans, mix }
    }

    fn batch(&self, Choice { index, plans, mix }: Choice) -> Result<Batch> {
        let labels: Vec<i32> = index.iter().map(|&i| self.data.labels[i as usize]).collect();
        let mut images = self.resident.gather_images(&self.rows(&index)?, plans.as_deref())?;
        if let Some((lambda, partners)) = &mix {
            let others = images.gather_rows(&self.rows(partners)?)?;
            images = images.affine(*lambda, 0.0)?.add(&others.affine(1.0 - lambda, 0.0)?)?;
        }
        let labels_of = |partners: Vec<u32>| partners.into_iter().map(|p| labels[p as usize]).collect();
        let mix = mix.map(|(lambda, partners)| Mix { labels: labels_of(partners), lambda });
        Ok(Batch { index, images, labels, mix })
    }

    /// Numbers of rows, on the device.
    fn rows(&self, index: &[u32]) -> Result<Tensor> {
        let rows: Vec<i32> = index.iter().map(|&i| i as i32).collect();
        Tensor::from_slice(&rows, [rows.len()], self.resident.device())
    }

    /// What happens to image `i` in this epoch.
    fn plan(&self, i: u32) -> ImagePlan {
        let mut random = self.rng(AUGMENT).derive(u64::from(i)).sequence();
        self.config.augment.plan(self.data.height, self.data.width, &mut random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loader(augment: AugmentConfig) -> Loader {
        let images = (0..10 * 16).map(|i| i as u8).collect();
        let labels = (0..10).map(|i| i % 2).collect();
        let data = Dataset::new("toy", [1, 4, 4], images, labels, vec!["even".into(), "odd".into()]).unwrap();
        Loader::new(Arc::new(data), LoaderConfig { batch_size: 4, seed: 3, augment }, Device::Cpu).unwrap()
    }

    fn epoch(loader: &Loader, number: u64, first: usize) -> Vec<(Vec<u32>, Vec<f32>, Vec<i32>)> {
        let batches = loader.epoch_from(number, first).map(Result::unwrap);
        batches.map(|b| (b.index, b.images.to_vec().unwrap(), b.labels)).collect()
    }

    #[test]
    fn an_epoch_shows_every_image_once_and_keeps_the_last_partial_batch() {
        let loader = loader(AugmentConfig::default());
        let batches = epoch(&loader, 0, 0);
        assert_eq!(batches.iter().map(|b| b.0.len()).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(loader.batches_per_epoch(), 3);
        let mut seen: Vec<u32> = batches.iter().flat_map(|b| b.0.clone()).collect();
        for (index, images, labels) in &batches {
            for ((&i, image), &label) in index.iter().zip(images.chunks(16)).zip(labels) {
                assert_eq!(label, i as i32 % 2);
                assert_eq!(image[1], f32::from(i as u8 * 16 + 1) * (1.0 / 255.0));
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn order_and_augmentation_depend_on_seed_and_epoch_alone() {
        let loader = loader(AugmentConfig { shift: 1.0, mixup: 0.5, ..Default::default() });
        assert_eq!(epoch(&loader, 5, 0), epoch(&loader, 5, 0));
        assert_ne!(epoch(&loader, 5, 0), epoch(&loader, 6, 0));
        assert_eq!(epoch(&loader, 5, 0)[1..], epoch(&loader, 5, 1)[..], "starting later gives the same batches");
    }

    #[test]
    fn a_curriculum_shows_the_easiest_images_first_and_in_the_end_all() {
        let easiest_first: Vec<u32> = (0..10).rev().collect();
        let curriculum = Curriculum { easiest_first, growing_epochs: 4.0 };
        let loader = loader(AugmentConfig::default()).with_curriculum(curriculum.clone()).unwrap();
        for (number, shown) in [(0, 3), (1, 5), (2, 7), (4, 10), (9, 10)] {
            let batches = epoch(&loader, number, 0);
            let mut seen: Vec<u32> = batches.iter().flat_map(|b| b.0.clone()).collect();
            assert_eq!(seen.len(), 10, "as many steps as without");
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, (10 - shown..10).collect::<Vec<_>>(), "epoch {number}");
            assert_eq!(epoch(&loader, number, 1)[..], batches[1..], "starting later gives the same batches");
        }
        let short = Curriculum { easiest_first: vec![0, 1], ..curriculum };
        assert!(loader.with_curriculum(short).err().unwrap().to_string().contains("ranks 2 images"));
    }

    #[test]
    fn an_epoch_that_is_dropped_early_leaves_no_thread() {
        let loader = loader(AugmentConfig::default());
        let data = loader.data.clone();
        let mut epoch = loader.epoch_from(0, 0);
        epoch.next().unwrap().unwrap();
        drop(epoch);
        drop(loader);
        assert_eq!(Arc::strong_count(&data), 1);
    }
}
