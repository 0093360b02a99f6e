//! Liu et al., "Knowledge Distillation via Instance Relationship Graph", 2019. A graph for each layer: vertices are the samples' features,
//! edges their relations. Three terms:
//! vertices, the logits (eq. 6): `mean (z_s − z_t)²`;
//! edges (eq. 7): `mean over i, j of (‖ŝ_i − ŝ_j‖² − ‖t̂_i − t̂_j‖²)²` of features of length 1;
//! transformation, how the edges change from one compared layer to the next (eq. 10): the same of the edges' differences, which any two
//! layers have, whatever their widths. (The paper takes the vertices' change, which needs layers of equal shape.)

use super::cases::vectors;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps, NON_NEGATIVE};
use super::logit_mse::logit_mse;
use super::math::{rows, unit_vectors};
use super::pairwise::sum_over;
use super::taps::TapPair;
use super::{Loss, Method, StepInputs};
use crate::error::Result;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "irg",
    paper: "Liu et al. 2019",
    family: Family::Relation,
    about: "a graph of samples for each layer: vertices, edges, and how edges change",
    formula: "0.1 · mean (z_s − z_t)² + 5 · mean (E_s − E_t)² + 5 · mean (ΔE_s − ΔE_t)², E_ij = ‖f̂_i − f̂_j‖²",
    needs: Needs { taps: Taps::StagesAndPenultimate, ..Needs::LOGITS },
    weight: 1.0,
    hard_weight: 1.0,
    cost: 3.0,
    when: "When relations alone (rkd, sp) are too little and exact features (fitnet) too much.",
    traps: &["Short texts keep only the edges; all three terms belong to it."],
    hyperparameters: &[
        Hyperparameter::between("vertex-weight", NON_NEGATIVE, 0.1, "weight of the logits"),
        Hyperparameter::between("edge-weight", NON_NEGATIVE, 5.0, "weight of the edges"),
        Hyperparameter::between("transformation-weight", NON_NEGATIVE, 5.0, "weight of the change between layers"),
    ],
    build: |setup| {
        let weight = |name| setup.settings.number(name);
        let weights = [weight("vertex-weight"), weight("edge-weight"), weight("transformation-weight")];
        Ok(Box::new(Irg { pairs: setup.pairs.clone(), weights }))
    },
    specs: SPECS,
};

/// Squared distances between samples, whose features are first given length 1: `‖a‖² + ‖b‖² − 2⟨a, b⟩`, one matrix product. What cancels
/// is about 1e-7 of numbers between 0 and 4.
///
/// # Errors
/// Not a batch of features.
pub fn edges(features: &Tensor) -> Result<Tensor> {
    let unit = unit_vectors(&rows(features)?)?;
    // 1, or 0 for a sample without features; constant either way, as far as gradients go.
    let squares = unit.detach().square()?.sum(&[1], true)?;
    let n = squares.numel();
    unit.gram()?.affine(-2.0, 0.0)?.add(&squares)?.add(&squares.reshape([1, n])?)
}

struct Irg {
    pairs: Vec<TapPair>,
    weights: [f64; 3],
}

impl Method for Irg {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let graph = |pair: &TapPair| {
            let (student, teacher) = inputs.features(pair)?;
            Ok((edges(student)?, edges(&teacher.detach())?))
        };
        let graphs = self.pairs.iter().map(graph).collect::<Result<Vec<_>>>()?;
        let edge = sum_over(INFO.name, &graphs, |(student, teacher)| student.mse_loss(teacher))?;
        let [vertices, edges, transformation] = self.weights;
        let vertex = logit_mse(inputs.student_logits, inputs.teacher_logits()?)?;
        let mut terms = vec![("vertices", vertices, vertex), ("edges", edges, edge)];
        if graphs.len() > 1 {
            let change = sum_over(INFO.name, graphs.windows(2), |layers| {
                let [(s, t), (next_s, next_t)] = layers else { unreachable!("windows of two") };
                next_s.sub(s)?.mse_loss(&next_t.sub(t)?)
            })?;
            terms.push(("transformation", transformation, change));
        }
        Loss::weighted(terms)
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "irg",
    run: |case| {
        case.require("relation", RELATION)?;
        let (student, teacher) = (case.tensor("student")?, case.tensor("teacher")?.detach());
        Ok(vec![("loss", edges(&student)?.mse_loss(&edges(&teacher)?)?)])
    },
    sample: Some(|random| vectors(random).attr("relation", RELATION)),
}];

const RELATION: &str = "squared Euclidean distance of L2-normalised features, w_ij = 1/B^2";
