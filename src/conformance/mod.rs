//! Proof that ops are right: gradients against finite differences, and results against reference fixtures.

mod fixture;
mod gradcheck;
mod runner;

pub use fixture::Fixture;
pub use gradcheck::{gradcheck, GradcheckRow};
pub use runner::{run, CaseResult, Status, Summary};

use crate::distill;
use crate::ops::{self, OpSpec};
use crate::optim;

/// Every op, loss, optimiser and schedule that has an entry.
pub fn registry() -> impl Iterator<Item = &'static OpSpec> {
    ops::registry().chain(distill::registry()).chain(optim::registry())
}
