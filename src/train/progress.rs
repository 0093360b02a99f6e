//! What a job tells whoever watches it.

use super::{EpochRecord, Job, StepRecord};

/// Receives the events of jobs; every method does nothing by default.
pub trait Progress {
    /// A job starts, or goes on at `first_step` of `steps`.
    fn job_started(&mut self, _job: &Job, _first_step: u64, _steps: u64) {}
    /// A step is done: `images` were seen.
    fn step(&mut self, _record: &StepRecord, _images: usize) {}
    /// An epoch is done and evaluated.
    fn epoch(&mut self, _job: &Job, _record: &EpochRecord) {}
    /// A job is done.
    fn job_finished(&mut self, _job: &Job) {}
    /// Something other than training begins, such as computing the teacher's logits.
    fn stage(&mut self, _what: &str) {}
    /// `done` parts of `of` of something other than training are done; `what` is under way.
    fn advanced(&mut self, _what: &str, _done: u64, _of: u64) {}
    /// Something that the user should know.
    fn note(&mut self, _text: &str) {}
}

/// Watches nothing.
pub struct Silent;

impl Progress for Silent {}
