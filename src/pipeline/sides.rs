//! What each of the two networks sees: its own view of the same images, under its own classes.

use super::RunConfig;
use crate::data::{self, Classes, Dataset, Splits, View};
use crate::error::{Error, Result};
use crate::models::Task;
use crate::tensor::{Device, Rng};
use crate::train::{streams, Regime, TestSet};
use std::sync::Arc;

/// The data of one network.
pub(super) struct Side {
    /// All training images.
    pub all: Arc<Dataset>,
    /// What it learns from: these, or the random subset that was asked for.
    pub train: Arc<Dataset>,
    /// What it is judged by: the test images, but in a search those that are held out of the training images.
    pub test: Arc<Dataset>,
    /// The same on the device, for the accuracy after each epoch.
    pub test_set: TestSet,
    /// How it is trained.
    pub regime: Regime,
}

impl Side {
    /// What a network is built for that sees this data.
    pub fn task(&self) -> Task {
        Task { input: self.test.image_shape(), classes: self.test.classes.len() }
    }
}

/// The data of both networks.
pub(super) struct Sides {
    /// The teacher's: its view of all images, or of those of `--teacher-limit`.
    pub teacher: Side,
    /// The student's: its view of all images, or of those of `--train-limit`.
    pub student: Side,
    /// The teacher's view of the student's images, in the same order.
    pub shown_to_teacher: Arc<Dataset>,
    /// In a search, the student's view of the test images, by which nothing is chosen.
    pub untouched: Option<Dataset>,
    /// Whether both have the same view.
    same_view: bool,
    /// The student's class for each of the teacher's classes.
    pub mapping: Vec<usize>,
}

impl Sides {
    /// Loads the data set and makes both networks' views of it.
    ///
    /// # Errors
    /// The data cannot be read, a view or grouping does not fit it, or the options exclude each other.
    pub fn load(config: &RunConfig, device: Device) -> Result<Sides> {
        let views = [View::named(&config.teacher_view)?, View::named(&config.student_view)?];
        let grouping = Classes::named(&config.student_classes)?;
        let same_view = views[0] == views[1];
        if !same_view && config.augmentation().is_active() {
            let reason = "needs both networks to see the same images: leave shift, rotate, crop, flip, cutout and mixup out, or \
                          give --teacher-view and --student-view the same view";
            return Err(Error::argument("augmentation", reason));
        }
        let Splits { train, test } = data::load(&config.data, config.data_dir.as_deref())?;
        let (train, train_limit, test, untouched) = match config.validation {
            None => (train, config.train_limit, test, None),
            Some(share) => {
                let (train, limit, validation) = hold_out(train, share, config)?;
                (train, limit, validation, Some(test))
            }
        };
        let mapping = grouping.mapping(train.classes.len())?;
        let teacher_train = Arc::new(views[0].of(&train)?);
        let student_train = match same_view && grouping == Classes::Same {
            true => teacher_train.clone(),
            false => Arc::new(grouping.of(&views[1].of(&train)?)?),
        };
        // One permutation for all: the smaller of two subsets is a part of the larger.
        let limited = |data: &Arc<Dataset>, limit: usize| match limit {
            0 => Ok(data.clone()),
            limit => data.limit(limit, Rng::new(config.seed, streams::SUBSET)).map(Arc::new),
        };
        let side = |all: &Arc<Dataset>, limit: usize, test: Dataset| {
            Ok::<_, Error>(Side {
                all: all.clone(),
                train: limited(all, limit)?,
                test_set: TestSet::new(&test, device)?,
                test: Arc::new(test),
                regime: config.regime(if config.normalize { all.moments() } else { Vec::new() })?,
            })
        };
        Ok(Sides {
            student: side(&student_train, train_limit, grouping.of(&views[1].of(&test)?)?)?,
            shown_to_teacher: limited(&teacher_train, train_limit)?,
            teacher: side(&teacher_train, config.teacher_limit, views[0].of(&test)?)?,
            untouched: untouched.map(|test| grouping.of(&views[1].of(&test)?)).transpose()?,
            same_view,
            mapping,
        })
    }

    /// Replaces the student's images, and what the teacher sees of them; returns those of before.
    pub fn show(&mut self, to_student: Arc<Dataset>, to_teacher: Arc<Dataset>) -> (Arc<Dataset>, Arc<Dataset>) {
        let own = std::mem::replace(&mut self.student.train, to_student);
        (own, std::mem::replace(&mut self.shown_to_teacher, to_teacher))
    }

    /// Whether the student sees or answers anything else than the teacher.
    pub fn differ(&self) -> bool {
        !self.same_view || self.other_task()
    }

    /// Whether the student answers another question than the teacher.
    pub fn other_task(&self) -> bool {
        self.student.test.classes != self.teacher.test.classes
    }
}

/// Takes the share of a search's judges out of the training images. What is left, how many of it students may use, and the judges.
/// The share is of what students may use: `--train-limit` is all the labels that there are.
fn hold_out(train: Dataset, share: f64, config: &RunConfig) -> Result<(Dataset, usize, Dataset)> {
    let labelled = if config.train_limit == 0 { train.len() } else { config.train_limit.min(train.len()) };
    let judges = ((share * labelled as f64).round() as usize).clamp(1, labelled.max(2) - 1);
    let part = judges as f64 / train.len() as f64;
    let (validation, rest) = train.split(part, Rng::new(config.seed, streams::VALIDATION))?;
    Ok((rest, config.train_limit.saturating_sub(judges), validation))
}
