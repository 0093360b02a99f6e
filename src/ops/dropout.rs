//! Dropout (Srivastava et al. 2014), inverted: what stays is scaled up in training.

use super::case::{sample_normal, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::error::{Error, Result};
use crate::tensor::{Rng, Tensor};

impl Tensor {
    /// Each element 0 with probability `p`, else divided by `1 − p`. The mask is a function of `rng` alone, so the backward pass
    /// draws it again instead of keeping it.
    ///
    /// # Errors
    /// `p` is not in [0, 1).
    pub fn dropout(&self, p: f64, rng: Rng) -> Result<Tensor> {
        const OP: &str = "dropout";
        check::float(OP, "x", self)?;
        if !(0.0..1.0).contains(&p) {
            return Err(Error::argument(OP, format!("the probability must be in [0, 1), found {p}")));
        }
        let backend = self.backend();
        let y = backend.dropout(&self.detach(), p, rng)?;
        let cost = Cost::new(self.numel() as f64, &[self, &y]);
        record(OP, cost, y, &[self], move |dy, _| Ok(vec![Some(backend.dropout(dy, p, rng)?)]))
    }
}

pub(super) const SPECS: &[OpSpec] = &[OpSpec {
    name: "dropout",
    run: |case| {
        let rng = Rng::new(case.count("seed")? as u64, 0);
        Ok(vec![("y", case.tensor("x")?.dropout(case.number("p")?, rng)?)])
    },
    sample: Some(|random| {
        let p = f64::from(random.uniform_in(0.0, 0.9));
        Case::new().input("x", sample_normal(random, &[3, 7])).attr("p", p).attr("seed", random.next_u32())
    }),
}];
