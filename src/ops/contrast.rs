//! Noise-contrastive estimation (Gutmann & Hyvärinen 2010) against a memory of vectors, fused: the loss and its gradient by
//! the vectors are computed together, from the same scores.

use super::case::{sample_extent, sample_labels, sample_normal, sample_positive, Case, OpSpec};
use super::check;
use super::gather::check_range;
use super::losses::scaled_by;
use crate::autograd::{record, Cost};
use crate::backend::params::NoiseContrast;
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

impl Tensor {
    /// The mean over these vectors `[n, width]` of `Σ counts · log(floor + e) + log(floor / e_own + 1)`, where `e = exp(v·m / τ − shift)` of
    /// each row m of `memory: [rows, width]`: how badly a vector's own row, `own: [n]` (`I32`), is told from the rows that are noise to
    /// it, each as often as `counts: [n, rows]` says. No gradient reaches the memory or the counts.
    ///
    /// # Errors
    /// Shapes that do not fit, an `own` that is no row, or a τ that is not above 0.
    pub fn noise_contrastive_loss(
        &self,
        memory: &Tensor,
        own: &Tensor,
        counts: &Tensor,
        p: NoiseContrast,
    ) -> Result<Tensor> {
        const OP: &str = "noise_contrastive_loss";
        check::rank(OP, "self", self, 2, "[n, width]")?;
        check::rank(OP, "memory", memory, 2, "[rows, width]")?;
        let ([n, width], rows) = ([self.shape()[0], self.shape()[1]], memory.shape()[0]);
        check::alike(OP, self, "memory", memory)?;
        check::shape(OP, "memory", memory, &Shape::from([rows, width]))?;
        check::alike(OP, self, "counts", counts)?;
        check::shape(OP, "counts", counts, &Shape::from([n, rows]))?;
        check::integer(OP, "own", own)?;
        check::same_device(OP, self, own)?;
        check::shape(OP, "own", own, &Shape::from([n]))?;
        check_range(OP, own, rows)?;
        check::temperature(OP, p.tau)?;
        if !(p.shift.is_finite() && p.floor.is_finite() && p.floor > 0.0) {
            return Err(Error::argument(OP, format!("needs a finite shift and a floor above 0, found {p:?}")));
        }
        let (x, memory, backend) = (self.detach(), memory.detach(), self.backend());
        let [losses, gradient] = backend.noise_contrast(p, &x, &memory, &own.detach(), &counts.detach())?;
        let share = 1.0 / n.max(1) as f64;
        let loss = losses.sum_all()?.affine(share, 0.0)?;
        let cost = Cost::new(((4 * width + 30) * n * rows) as f64, &[&x, &memory, counts, &gradient]);
        record(OP, cost, loss, &[self], move |dy, _| Ok(vec![Some(scaled_by(&gradient, share, dy)?)]))
    }
}

pub(super) const SPECS: &[OpSpec] = &[OpSpec {
    name: "noise_contrastive_loss",
    run: |case| {
        let (memory, counts) = (case.tensor("memory")?.detach(), case.tensor("counts")?.detach());
        let p = NoiseContrast { tau: case.number("tau")?, shift: case.number("shift")?, floor: case.number("floor")? };
        let loss = case.tensor("vectors")?.noise_contrastive_loss(&memory, &case.tensor("own")?, &counts, p)?;
        Ok(vec![("loss", loss)])
    },
    sample: Some(|random| {
        let [n, rows, width] = [(); 3].map(|()| sample_extent(random, 1, 5));
        Case::new()
            .input("vectors", sample_normal(random, &[n, width]))
            .input("memory", sample_normal(random, &[rows, width]))
            .input("own", sample_labels(random, &[n], rows))
            .input("counts", sample_positive(random, &[n, rows]))
            .attr("tau", f64::from(random.uniform_in(0.5, 2.0)))
            .attr("shift", f64::from(random.uniform_in(-1.0, 2.0)))
            .attr("floor", f64::from(random.uniform_in(0.5, 1.5)))
            .attr("detached", vec!["memory", "counts"])
    }),
}];
