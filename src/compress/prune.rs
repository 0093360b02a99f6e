//! Pruning while training: the smallest weights become 0 and stay so, a growing share of each layer's.
//!
//! The share grows with the cubic schedule of Zhu & Gupta, "To Prune, or Not to Prune", 2017, eq. 1: `s_t = s_f · (1 − (1 − t/n)³)` over the
//! first two thirds of the steps; the rest is for the network to recover. Single weights go by magnitude; whole filters of convolutions by the
//! sum of their magnitudes (Li et al., "Pruning Filters for Efficient ConvNets", 2017), with their biases.

use super::weights;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Module, Parameter};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::fmt;

/// Which weights become 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pruning {
    /// Whole filters of convolutions, instead of single weights of every layer.
    pub structured: bool,
    /// The share of each layer's that are 0 in the end, in [0, 1).
    pub sparsity: f64,
}

/// How often the share grows on the way.
const STAGES: u64 = 100;

impl Pruning {
    /// `unstructured:0.9` or `structured:0.5`.
    ///
    /// # Errors
    /// Something else, or a share outside [0, 1).
    pub fn parse(text: &str) -> Result<Pruning> {
        let wrong = || {
            let reason =
                format!("`{text}` is not KIND:SHARE; write unstructured:0.9 or structured:0.5, a share below 1");
            Error::argument("prune", reason)
        };
        let (kind, share) = text.split_once(':').ok_or_else(wrong)?;
        let sparsity = share.parse::<f64>().ok().filter(|share| (0.0..1.0).contains(share)).ok_or_else(wrong)?;
        let structured = match kind {
            "structured" => true,
            "unstructured" => false,
            _ => return Err(wrong()),
        };
        Ok(Pruning { structured, sparsity })
    }

    /// The share that is 0 after step `step` (from 0) of `steps`.
    pub fn share(self, step: u64, steps: u64) -> f64 {
        let ramp = (steps * 2 / 3).max(1);
        let left = 1.0 - ((step + 1) as f64 / ramp as f64).min(1.0);
        self.sparsity * (1.0 - left.powi(3))
    }
}

impl fmt::Display for Pruning {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}structured:{}", if self.structured { "" } else { "un" }, self.sparsity)
    }
}

/// The masks of a network that is pruned: 1 for each weight that is left, 0 for those that are gone.
pub struct Masks {
    pruning: Pruning,
    steps: u64,
    /// Each weight's name, itself, its bias where that goes with it, and its mask.
    masked: Vec<Masked>,
}

struct Masked {
    name: String,
    weight: Parameter,
    bias: Option<Parameter>,
    /// 1 or 0 for each weight, or for each filter.
    keep: Vec<f32>,
}

impl Masks {
    /// Masks that leave everything, for a training of `steps` steps.
    pub fn new(pruning: Pruning, model: &Model, steps: u64) -> Masks {
        let all: BTreeMap<String, Parameter> = model.parameters().into_iter().collect();
        let masked = |(name, weight): (String, Parameter)| {
            let shape = *weight.get().shape();
            let bias = name.strip_suffix("weight").and_then(|layer| all.get(&format!("{layer}bias")).cloned());
            match (pruning.structured, shape.rank()) {
                (true, 4) => Some(Masked { name, weight, bias, keep: vec![1.0; shape[0]] }),
                (true, _) => None,
                (false, _) => Some(Masked { name, weight, bias: None, keep: vec![1.0; shape.numel()] }),
            }
        };
        Masks { pruning, steps, masked: weights(model).into_iter().filter_map(masked).collect() }
    }

    /// To be called after each step of the optimiser (from 0): prunes a little more now and then, and sets what is pruned to 0.
    ///
    /// # Errors
    /// The weights cannot be read from or written to the device.
    pub fn after_step(&mut self, step: u64) -> Result<()> {
        let ramp = (self.steps * 2 / 3).max(1);
        let grows = step < ramp && ((step + 1).is_multiple_of((ramp / STAGES).max(1)) || step + 1 == ramp);
        let share = self.pruning.share(step, self.steps);
        for masked in &mut self.masked {
            if grows {
                masked.prune(share)?;
            }
            masked.enforce()?;
        }
        Ok(())
    }

    /// The masks by the names of their weights, for checkpoints.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mask = |masked: &Masked| {
            let keep = Tensor::from_slice(&masked.keep, [masked.keep.len()], crate::tensor::Device::Cpu)?;
            Ok((masked.name.clone(), keep))
        };
        self.masked.iter().map(mask).collect()
    }

    /// Takes over what [`Masks::state`] returned.
    ///
    /// # Errors
    /// A mask is missing or has another size.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for masked in &mut self.masked {
            let saved = state.get(&masked.name).filter(|mask| mask.numel() == masked.keep.len());
            let missing =
                || Error::argument("checkpoint", format!("has no mask for {}; start the job again", masked.name));
            masked.keep = saved.ok_or_else(missing)?.to_vec()?;
        }
        Ok(())
    }
}

impl Masked {
    /// Leaves all but this share. What is gone stays gone: it is 0, and smaller than everything else.
    fn prune(&mut self, share: f64) -> Result<()> {
        let values: Vec<f32> = self.weight.get().to_vec()?;
        let each = (values.len() / self.keep.len().max(1)).max(1);
        let size = |group: &[f32]| group.iter().map(|w| f64::from(w.abs())).sum::<f64>();
        let sizes: Vec<f64> =
            values.chunks(each).zip(&self.keep).map(|(group, keep)| size(group) * f64::from(*keep)).collect();
        let mut order: Vec<usize> = (0..sizes.len()).collect();
        order.sort_by(|&a, &b| self.keep[a].total_cmp(&self.keep[b]).then(sizes[a].total_cmp(&sizes[b])));
        let gone = (share * sizes.len() as f64).round() as usize;
        order.iter().take(gone.min(sizes.len().saturating_sub(1))).for_each(|&i| self.keep[i] = 0.0);
        Ok(())
    }

    /// Sets what is pruned to 0.
    fn enforce(&self) -> Result<()> {
        if !self.keep.contains(&0.0) {
            return Ok(());
        }
        for cell in [Some(&self.weight), self.bias.as_ref()].into_iter().flatten() {
            let now = cell.get().detach();
            let each = now.numel() / self.keep.len();
            let keep: Vec<f32> = self.keep.iter().flat_map(|keep| std::iter::repeat_n(*keep, each)).collect();
            cell.set(&now.mul(&Tensor::from_slice(&keep, *now.shape(), now.device())?)?)?;
        }
        Ok(())
    }
}
