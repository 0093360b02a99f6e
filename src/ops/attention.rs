//! Scaled dot product attention (Vaswani et al. 2017, eq. 1).

use super::case::{sample_extent, sample_normal, Case, OpSpec};
use super::check;
use crate::error::Result;
use crate::tensor::{Device, Shape, Tensor};

impl Tensor {
    /// `softmax(q kᵀ / √d) v` for queries `[…, n, d]` (this tensor), keys `[…, m, d]` and values `[…, m, e]`. With `causal`,
    /// query `i` sees keys `0..=i` only.
    pub fn scaled_dot_product_attention(&self, keys: &Tensor, values: &Tensor, causal: bool) -> Result<Tensor> {
        const OP: &str = "scaled_dot_product_attention";
        let rank = self.shape().rank();
        if rank < 2 {
            return Err(check::shape_error(OP, "q", self, "[…, n, d]".to_string()));
        }
        let depth = self.shape()[rank - 1].max(1) as f64;
        let mut scores = self.matmul_transposed(keys)?.affine(1.0 / depth.sqrt(), 0.0)?;
        if causal {
            scores = scores.add(&causal_mask(&scores)?)?;
        }
        scores.softmax(1.0)?.matmul(values)
    }
}

/// Far below every score, so that its exponential is 0, and finite, so that a gradient of 0 stays 0.
const HIDDEN: f64 = -1e30;

/// 0 where query `i` may see key `j ≤ i`, [`HIDDEN`] elsewhere.
fn causal_mask(scores: &Tensor) -> Result<Tensor> {
    let rank = scores.shape().rank();
    let (n, m) = (scores.shape()[rank - 2], scores.shape()[rank - 1]);
    let mask: Vec<f64> = (0..n * m).map(|i| if i % m <= i / m { 0.0 } else { HIDDEN }).collect();
    Tensor::from_slice(&mask, Shape::from([n, m]), Device::Cpu)?.to_dtype(scores.dtype())?.to_device(scores.device())
}

pub(super) const SPECS: &[OpSpec] = &[OpSpec {
    name: "scaled_dot_product_attention",
    run: |case| {
        let (q, k, v) = (case.tensor("q")?, case.tensor("k")?, case.tensor("v")?);
        Ok(vec![("y", q.scaled_dot_product_attention(&k, &v, case.flag("causal")?)?)])
    },
    sample: Some(|random| {
        let mut extent = || sample_extent(random, 1, 4);
        let (heads, n, m, depth, width) = (extent(), extent(), extent(), extent(), extent());
        Case::new()
            .input("q", sample_normal(random, &[heads, n, depth]))
            .input("k", sample_normal(random, &[heads, m, depth]))
            .input("v", sample_normal(random, &[heads, m, width]))
            .attr("causal", random.bernoulli(0.5))
    }),
}];
