//! Steps that were taken, and whose losses the device may still be computing.

use super::StepRecord;
use crate::backend;
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

/// The numbers of these steps, for which the device is waited for once.
pub(super) fn records(taken: Vec<StepTaken>, device: Device) -> Result<Vec<StepRecord>> {
    let scalars: Vec<&Tensor> = taken
        .iter()
        .flat_map(|step| std::iter::once(&step.loss).chain(step.terms.iter().map(|(_, term)| term)))
        .collect();
    let mut values = backend::of(device).items(&scalars)?.into_iter();
    let mut next = || values.next().expect("one for each scalar");
    let record = |StepTaken { job, epoch, step, lr, terms, .. }: &StepTaken| {
        let loss = next();
        let terms = terms.iter().map(|(name, _)| (name.clone(), next())).collect();
        StepRecord { job: job.clone(), epoch: *epoch, step: *step, lr: *lr, loss, terms }
    };
    Ok(taken.iter().map(record).collect())
}
