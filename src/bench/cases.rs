//! What is timed.

use crate::autograd::Cost;
use crate::error::Result;

/// Work that is run many times, and what it costs at least. Its tensors are made at its first run, so that a long list of cases does
/// not hold the memory of all.
pub struct Case {
    /// The case's name.
    pub what: String,
    /// What one run has to do at least; no cost, no comparison with the machine's limit.
    pub cost: Cost,
    /// How often it is timed.
    pub runs: usize,
    prepare: Box<dyn FnOnce() -> Result<Work>>,
}

/// One run of a case.
pub type Work = Box<dyn FnMut() -> Result<()>>;

impl Case {
    /// A case whose tensors `prepare` makes.
    pub fn new(what: impl Into<String>, prepare: impl FnOnce() -> Result<Work> + 'static) -> Case {
        Case { what: what.into(), cost: Cost::default(), runs: 30, prepare: Box::new(prepare) }
    }

    /// With the floating-point operations and the bytes of one run.
    pub fn costing(self, flops: f64, bytes: f64) -> Case {
        Case { cost: Cost { flops, bytes }, ..self }
    }

    /// Timed so many times.
    pub fn runs(self, runs: usize) -> Case {
        Case { runs, ..self }
    }

    /// Makes the tensors.
    pub(super) fn prepare(self) -> Result<Work> {
        (self.prepare)()
    }
}
