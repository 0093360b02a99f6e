//! Steps that were taken, and whose losses the device may still be computing.

use super::StepRecord;
use crate::backend::{self, Later};
use crate::error::Result;
use crate::tensor::{Device, Tensor};

/// A step of one network.
#[derive(Clone)]
pub(super) struct StepTaken {
    pub(super) job: String,
    pub(super) epoch: usize,
    /// Since the job began, from 1.
    pub(super) step: u64,
    pub(super) lr: f64,
    /// The loss that was differentiated.
    pub(super) loss: Tensor,
    /// Its terms, unweighted.
    pub(super) terms: Vec<(String, Tensor)>,
}

/// Steps whose numbers nobody has asked for yet.
#[derive(Default)]
pub(super) struct Unread {
    taken: Vec<StepTaken>,
    images: Vec<usize>,
}

/// Steps whose numbers are on their way.
pub(super) struct Asked {
    /// The networks' records, one after another, of one step after another.
    pub(super) records: Later<Vec<StepRecord>>,
    /// How many images each step saw.
    pub(super) images: Vec<usize>,
}

impl Unread {
    /// Adds a step of every network, in which each saw so many images.
    pub(super) fn add(&mut self, taken: Vec<StepTaken>, images: usize) {
        self.taken.extend(taken);
        self.images.push(images);
    }

    /// How many steps there are.
    pub(super) fn steps(&self) -> usize {
        self.images.len()
    }

    /// Asks the device for the numbers, and forgets the steps.
    pub(super) fn ask(&mut self, device: Device) -> Result<Asked> {
        let Unread { taken, images } = std::mem::take(self);
        let scalars: Vec<&Tensor> = taken
            .iter()
            .flat_map(|step| std::iter::once(&step.loss).chain(step.terms.iter().map(|(_, term)| term)))
            .collect();
        let values = backend::of(device).items(&scalars)?;
        let unknown = |StepTaken { job, epoch, step, lr, terms, .. }: StepTaken| {
            let terms = terms.into_iter().map(|(name, _)| (name, f64::NAN)).collect();
            StepRecord { job, epoch, step, lr, loss: f64::NAN, terms }
        };
        let mut records: Vec<StepRecord> = taken.into_iter().map(unknown).collect();
        let records = Later::new(move || {
            let places = records
                .iter_mut()
                .flat_map(|record| [&mut record.loss].into_iter().chain(record.terms.iter_mut().map(|(_, term)| term)));
            places.zip(values.get()?).for_each(|(place, value)| *place = value);
            Ok(records)
        });
        Ok(Asked { records, images })
    }
}
