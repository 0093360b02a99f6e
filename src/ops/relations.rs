//! Relations between samples and summaries of feature maps, from which relation- and attention-based methods are built. (A Gram
//! matrix is `x.matmul_transposed(&x)`.)

use super::case::{sample_away_from_zero, sample_extent, sample_normal, Case, OpSpec};
use super::check;
use super::losses::scaled_by;
use crate::autograd::{record, Cost};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

impl Tensor {
    /// Squared Euclidean distances `[n, n]` between all pairs of rows of `[n, features]`. Exact 0 on the diagonal.
    ///
    /// # Errors
    /// Not a matrix.
    pub fn pairwise_squared_distances(&self) -> Result<Tensor> {
        const OP: &str = "pairwise_squared_distances";
        check::float(OP, "self", self)?;
        check::rank(OP, "self", self, 2, "[n, features]")?;
        let (x, backend) = (self.detach(), self.backend());
        let y = backend.pairwise_distances(&x)?;
        let cost = Cost::new(3.0 * (x.numel() * x.shape()[0]) as f64, &[&x, &y]);
        record(OP, cost, y, &[self], move |dy, _| Ok(vec![Some(backend.pairwise_distances_grad(&x, dy)?)]))
    }

    /// The mean over all triplets of the Huber loss (bound 1) between the cosines of two networks' angles,
    /// `⟨e_ij, e_ik⟩` with `e_ij = (x_j − x_i) / ‖x_j − x_i‖` (Park et al. 2019, eqs. 7–8), from the squared distances `[n, n]` of the
    /// samples in each network ([`Tensor::pairwise_squared_distances`]); 0 where two samples coincide. The target's history is ignored.
    ///
    /// No triplet is stored: memory is a few `n²`. A cosine's error grows with the ratio of its sides: about 1e-7 · ratio in `f32`. The
    /// gradient is meant for distances: `[i, j]` and `[j, i]` together are what the loss changes by the distance of i and j.
    ///
    /// # Errors
    /// Not two square matrices of one size, or there are no rows.
    pub fn angle_loss(&self, target: &Tensor) -> Result<Tensor> {
        const OP: &str = "angle_loss";
        check::alike(OP, self, "target", target)?;
        check::rank(OP, "self", self, 2, "[n, n]")?;
        let n = self.shape()[0];
        check::shape(OP, "self", self, &Shape::from([n.max(1); 2]))?;
        check::shape(OP, "target", target, self.shape())?;
        let (distances, backend) = (self.detach(), self.backend());
        let [losses, gradient] = backend.angle_losses(&distances, &target.detach())?;
        let share = 1.0 / (n as f64).powi(3);
        let loss = losses.sum_all()?.affine(share, 0.0)?;
        let cost = Cost::new(40.0 * (n as f64).powi(3), &[&distances, target, &losses, &gradient]);
        record(OP, cost, loss, &[self], move |dy, _| Ok(vec![Some(scaled_by(&gradient, share, dy)?)]))
    }

    /// `Σ_c |x|^power` of feature maps `[n, c, …]`, as `[n, positions]`: where a network looks (Zagoruyko & Komodakis 2017).
    ///
    /// # Errors
    /// Fewer than three dimensions, or a power below 1.
    pub fn attention_map(&self, power: f64) -> Result<Tensor> {
        const OP: &str = "attention_map";
        check::float(OP, "self", self)?;
        check::dim(OP, self, 2)?;
        if !(power >= 1.0 && power.is_finite()) {
            return Err(Error::argument(OP, format!("the power must be 1 or more, found {power}")));
        }
        let (x, backend) = (self.detach(), self.backend());
        let y = backend.attention_map(&x, power)?;
        let cost = Cost::new(2.0 * x.numel() as f64, &[&x, &y]);
        record(OP, cost, y, &[self], move |dy, _| Ok(vec![Some(backend.attention_map_grad(&x, dy, power)?)]))
    }
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "pairwise_squared_distances",
        run: |case| Ok(vec![("y", case.tensor("x")?.pairwise_squared_distances()?)]),
        sample: Some(|random| {
            let (n, features) = (sample_extent(random, 1, 5), sample_extent(random, 1, 4));
            Case::new().input("x", sample_normal(random, &[n, features]))
        }),
    },
    OpSpec {
        name: "angle_loss",
        run: |case| {
            let [x, target] = [case.tensor("x")?, case.tensor("target")?.detach()];
            Ok(vec![("loss", x.pairwise_squared_distances()?.angle_loss(&target.pairwise_squared_distances()?)?)])
        },
        sample: Some(|random| {
            let n = sample_extent(random, 1, 5);
            let mut samples = || {
                let features = sample_extent(random, 2, 4);
                sample_normal(random, &[n, features])
            };
            Case::new().input("x", samples()).input("target", samples()).attr("detached", vec!["target"])
        }),
    },
    OpSpec {
        name: "attention_map",
        run: |case| Ok(vec![("y", case.tensor("x")?.attention_map(case.number("power")?)?)]),
        sample: Some(|random| {
            let [n, c, side] = [(); 3].map(|()| sample_extent(random, 1, 3));
            let power = [1.0, 2.0, 3.5][random.below(3) as usize];
            Case::new().input("x", sample_away_from_zero(random, &[n, c, side, side], 0.2)).attr("power", power)
        }),
    },
];
