//! Tian, Krishnan & Isola, "Contrastive Representation Distillation", 2020. Both networks' features are mapped to vectors of length 1; a
//! critic tells the pair of one sample's vectors from pairs with other samples' vectors, taken from a memory of the whole training set.
//! Noise-contrastive estimation (eqs. 17–19, as in the authors' code), with K negatives of N samples:
//! `h(v, m) = e / (e + K/N)`, `e = exp(v·m / τ) / Z`, `L = −mean over samples of [log h(v, m₊) + Σ_K log(1 − h(v, m₋))]`, for the student
//! against the teacher's memory plus for the teacher against the student's. Z is set by the first batch; after each step, the memory of
//! the batch's samples moves towards their vectors.
//!
//! The scores against the whole memory are one matrix product; each sample's negatives, drawn with replacement by the alias method,
//! are counts in a matrix. So memory grows with batch · N, not with batch · K · width. The rest of a loss is one kernel
//! ([`Tensor::noise_contrastive_loss`]), in which `e / (K/N)` is the score's exponential.

use super::alias::AliasTable;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::{constant, rows, unit_vectors};
use super::taps::TapPair;
use super::{Loss, Method, Setup, StepInputs};
use crate::backend::cpu::kernels::{isa, philox};
use crate::backend::params::NoiseContrast;
use crate::error::{Error, Result};
use crate::nn::{Context, Linear, Module, Parameter, Visitor};
use crate::ops::case::{sample_labels, sample_normal};
use crate::ops::{Case, OpSpec};
use crate::tensor::{DType, Device, Tensor};
use rayon::prelude::*;
use std::sync::Mutex;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "crd",
    paper: "Tian, Krishnan & Isola 2020",
    family: Family::Relation,
    about: "tell a sample's pair of features from thousands of wrong pairs",
    formula: "−mean [log h(v, m₊) + Σ_K log(1 − h(v, m₋))] both ways, h = e / (e + K/N), e = exp(v·m/τ) / Z",
    needs: Needs::features(Taps::Penultimate),
    weight: 0.8,
    hard_weight: 1.0,
    cost: 1.6,
    when:
        "When features are reused (transfer, retrieval), and as the strongest single loss of RepDistiller's comparison.",
    traps: &[
        "It keeps two vectors for each training sample: 1 kB a sample at width 128.",
        "Not under mixup, where a batch's images are no training samples any more; use crd-infonce there.",
    ],
    hyperparameters: &[
        Hyperparameter::count("width", [1, 4096], 128, "numbers in a vector"),
        Hyperparameter::count(
            "negatives",
            [1, 1000000],
            16384,
            "K, wrong pairs a sample; at most as many as there are samples",
        ),
        Hyperparameter::above("tau", 0.0, 0.07, "τ of the scores"),
        Hyperparameter::between("momentum", [0.0, 1.0], 0.5, "how much of its old vector the memory keeps"),
        Hyperparameter::choice("from", &["other-classes", "all"], "which samples are wrong partners"),
    ],
    build,
    specs: SPECS,
};

fn build(setup: &mut Setup) -> Result<Box<dyn Method>> {
    setup.require_samples(INFO.name, "leave --mixup out, or use crd-infonce")?;
    let (settings, samples) = (setup.settings, setup.labels.len());
    let pair = setup.pairs.remove(0);
    let [student, teacher] = pair.widths();
    let width = settings.count("width");
    let all = settings.is("from", "all");
    let partners = |class: usize| {
        let weight = |&label: &i32| f64::from(u8::from(all || label as usize != class));
        AliasTable::new(&setup.labels.iter().map(weight).collect::<Vec<_>>()).ok_or_else(|| {
            let reason = format!("every sample is of class {class}, so there is no wrong partner; set from = all");
            Error::argument(INFO.name, reason)
        })
    };
    let mut present: Vec<bool> = vec![false; setup.classes];
    setup.labels.iter().for_each(|&label| present[label as usize] = true);
    let negatives = (0..setup.classes).map(|c| present[c].then(|| partners(c)).transpose()).collect::<Result<_>>()?;
    let bound = (3.0 / width as f64).sqrt();
    let mut embed = |from| Linear::new(&mut setup.init, from, width);
    let embeddings = [embed(student)?, embed(teacher)?];
    let mut memory = || setup.init.uniform_buffer([samples.max(1), width], bound);
    Ok(Box::new(Crd {
        pair,
        embeddings,
        memories: [memory()?, memory()?],
        normalisers: setup.init.constant_buffer([2], 0.0)?,
        labels: setup.labels.to_vec(),
        partners: negatives,
        negatives: settings.count("negatives").min(samples).max(1),
        tau: settings.number("tau"),
        momentum: settings.number("momentum"),
        seen: Mutex::new(None),
    }))
}

/// The reference implementation's guard: it is added to K/N.
const EPS: f64 = 1e-7;

/// One network's vectors against the other's memory.
pub struct Contrast<'a> {
    /// The memory, `[samples, width]`.
    pub memory: &'a Tensor,
    /// The samples' own rows, `[n]`, `I32`.
    pub index: &'a Tensor,
    /// How often each row is a negative of each sample, `[n, samples]`.
    pub counts: &'a Tensor,
    /// Negatives a sample: the sum of a row of `counts`.
    pub negatives: usize,
    /// τ, above 0.
    pub tau: f64,
}

impl Contrast<'_> {
    /// N times the mean of the exponentiated scores of these vectors: what Z is set to.
    fn normaliser(&self, vectors: &Tensor) -> Result<f64> {
        let vectors = vectors.detach().affine(1.0 / self.tau, 0.0)?;
        let right = vectors.mul(&self.memory.gather_rows(self.index)?)?.sum(&[1], false)?.exp()?;
        let all = vectors.matmul_transposed(self.memory)?.exp()?;
        let sum = all.mul(self.counts)?.sum_all()?.item()? + right.sum_all()?.item()?;
        let pairs = (self.negatives + 1) * right.numel();
        Ok(sum / pairs as f64 * self.memory.shape()[0] as f64)
    }

    /// The loss of these vectors `[n, width]` at a known Z.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn loss(&self, vectors: &Tensor, normaliser: f64) -> Result<Tensor> {
        let noise = self.negatives as f64 / self.memory.shape()[0] as f64;
        let p = NoiseContrast { tau: self.tau, shift: (normaliser * noise).ln(), floor: 1.0 + EPS / noise };
        vectors.noise_contrastive_loss(self.memory, self.index, self.counts, p)
    }
}

struct Crd {
    pair: TapPair,
    /// Of the student's and of the teacher's features.
    embeddings: [Linear; 2],
    /// Of the student's and of the teacher's vectors.
    memories: [Parameter; 2],
    /// Z of both directions; 0 before the first batch.
    normalisers: Parameter,
    labels: Vec<i32>,
    /// The wrong partners of each class's samples.
    partners: Vec<Option<AliasTable>>,
    negatives: usize,
    tau: f64,
    momentum: f64,
    /// The last batch: its samples, and both networks' vectors.
    seen: Mutex<Option<(Tensor, [Tensor; 2])>>,
}

impl Crd {
    /// Draws each sample's negatives.
    fn counts(&self, inputs: &StepInputs, like: &Tensor) -> Result<Tensor> {
        let shape = [inputs.samples.len(), self.labels.len()];
        let isa = isa::active();
        let counts = Tensor::build(shape.into(), Device::Cpu, |counts: &mut [f32]| {
            // Every sample has random numbers of its own, so it does not matter who draws them.
            counts.par_chunks_mut(shape[1].max(1)).zip(inputs.samples).for_each(|(row, &sample)| {
                row.fill(0.0);
                let label = self.labels.get(sample as usize).copied().unwrap_or(0);
                let Some(Some(partners)) = self.partners.get(label as usize) else { return };
                let random = inputs.rng.derive(u64::from(sample));
                let mut numbers = [0; NUMBERS];
                for first in (0..self.negatives).step_by(NUMBERS) {
                    philox::fill(isa, random, first as u64 / 4, &mut numbers);
                    let numbers = &numbers[..NUMBERS.min(self.negatives - first)];
                    numbers.iter().for_each(|&number| row[partners.draw(number)] += 1.0);
                }
            });
        });
        counts.to_dtype(like.dtype())?.to_device(like.device())
    }
}

/// Random numbers that are made at a time.
const NUMBERS: usize = 256;

impl Method for Crd {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let (student, teacher) = inputs.features(&self.pair)?;
        let embed =
            |which: usize, x: &Tensor| unit_vectors(&self.embeddings[which].forward(&rows(x)?, &mut Context::eval())?);
        let vectors = [embed(0, student)?, embed(1, &teacher.detach())?];
        let index = inputs.rows(INFO.name)?;
        let counts = self.counts(inputs, student)?;
        let memories = [0, 1].map(|i: usize| self.memories[i].get());
        let mut known = self.normalisers.get().to_f64_vec()?;
        let mut losses = Vec::new();
        for (i, name) in ["student", "teacher"].into_iter().enumerate() {
            let contrast = Contrast {
                memory: &memories[1 - i],
                index: &index,
                counts: &counts,
                negatives: self.negatives,
                tau: self.tau,
            };
            if known[i] == 0.0 {
                known[i] = contrast.normaliser(&vectors[i])?;
                let both = constant(&[known[0] as f32, known[1] as f32], [2], student)?;
                self.normalisers.set(&both.to_dtype(DType::F32)?)?;
                known = self.normalisers.get().to_f64_vec()?;
            }
            losses.push((name, 1.0, contrast.loss(&vectors[i], known[i])?));
        }
        *self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Some((index, vectors.map(|vector| vector.detach())));
        Loss::weighted(losses)
    }

    fn visit(&self, visitor: &mut Visitor) {
        for (i, name) in ["student", "teacher"].into_iter().enumerate() {
            visitor.child(&format!("{name}_embedding"), &self.embeddings[i]);
            visitor.buffer(&format!("{name}_memory"), &self.memories[i]);
        }
        visitor.buffer("normalisers", &self.normalisers);
    }

    fn after_step(&self) -> Result<()> {
        let seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some((index, vectors)) = seen else { return Ok(()) };
        for (memory, vectors) in self.memories.iter().zip(vectors) {
            let old = memory.get().detach().gather_rows(&index)?.affine(self.momentum, 0.0)?;
            let moved = unit_vectors(&old.add(&vectors.affine(1.0 - self.momentum, 0.0)?)?)?;
            memory.write().set_rows(&index, &moved)?;
        }
        Ok(())
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "crd_nce",
    run: |case| {
        let (memory, index, counts) = (case.tensor("memory")?.detach(), case.tensor("index")?, case.tensor("counts")?);
        let contrast = Contrast {
            memory: &memory,
            index: &index,
            counts: &counts.detach(),
            negatives: case.count("negatives")?,
            tau: case.number("tau")?,
        };
        Ok(vec![("loss", contrast.loss(&unit_vectors(&case.tensor("vectors")?)?, case.number("normaliser")?)?)])
    },
    sample: Some(|random| {
        let (vectors, memory) = (sample_normal(random, &[3, 4]), sample_normal(random, &[5, 4]));
        let memory = unit_vectors(&memory).expect("a valid sample");
        let counts = crate::ops::case::sample_positive(random, &[3, 5]);
        Case::new()
            .input("vectors", vectors)
            .input("memory", memory)
            .input("index", sample_labels(random, &[3], 5))
            .input("counts", counts)
            .attr("negatives", 4)
            .attr("tau", 0.5)
            .attr("normaliser", 6.0)
            .attr("detached", vec!["memory", "counts"])
    }),
}];
