//! Liu et al., "Knowledge Distillation via Instance Relationship Graph", 2019. A graph for each layer: vertices are the samples' features,
//! edges their relations. Three terms:
//! vertices, the logits (eq. 6): `mean (z_s − z_t)²`;
//! edges (eq. 7): `mean over i, j of (‖ŝ_i − ŝ_j‖² − ‖t̂_i − t̂_j‖²)²` of features of length 1;
//! transformation, how a graph changes from one compared layer to the next (eq. 10): the same of the edges' differences, which any two
//! layers have, whatever their widths; or, as in the paper, of how far each vertex goes, `‖f̂ − f̂'‖²`. That needs feature maps of
//! one shape: the larger extents, channels too, are averaged down to the smaller, and only maps are compared.

use super::cases::vectors;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps, NON_NEGATIVE};
use super::logit_mse::logit_mse;
use super::math::{image_size, pooled_to, rows, same_size, unit_vectors};
use super::pairwise::sum_over;
use super::taps::TapPair;
use super::{Loss, Method, StepInputs};
use crate::error::{Error, Result};
use crate::ops::case::sample_normal;
use crate::ops::{Case, OpSpec};
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "irg",
    paper: "Liu et al. 2019",
    family: Family::Relation,
    about: "a graph of samples for each layer: vertices, edges, and how they change",
    formula: "0.1 · mean (z_s − z_t)² + 5 · mean (E_s − E_t)² + 5 · mean (ΔE_s − ΔE_t)², E_ij = ‖f̂_i − f̂_j‖²; Δ also of vertices",
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
        Hyperparameter::choice("transformation", &["edges", "vertices"], "what changes between layers; vertices: the paper's"),
    ],
    build: |setup| {
        let weight = |name| setup.settings.number(name);
        let weights = [weight("vertex-weight"), weight("edge-weight"), weight("transformation-weight")];
        let of_vertices = setup.settings.is("transformation", "vertices");
        let maps = setup.pairs.iter().filter(|pair| pair.require_maps(INFO.name).is_ok()).cloned().collect::<Vec<_>>();
        if of_vertices && maps.len() < 2 {
            let reason = "transformation=vertices needs two or more feature maps [c, h, w]; name them with student-taps and \
                          teacher-taps, or take transformation=edges";
            return Err(Error::argument(INFO.name, reason));
        }
        Ok(Box::new(Irg { pairs: setup.pairs.clone(), maps: of_vertices.then_some(maps), weights }))
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

/// How far each sample goes from one layer's feature maps to the next one's, `[n, 1]`: squared distances of features of length 1.
///
/// # Errors
/// Not feature maps of the same batch.
pub fn paths(map: &Tensor, next: &Tensor) -> Result<Tensor> {
    let (map, next) = same_size(map, next)?;
    let channels = map.shape()[1].min(next.shape()[1]);
    let vertices = |map: &Tensor| unit_vectors(&rows(&with_channels(map, channels)?)?);
    vertices(&map)?.sub(&vertices(&next)?)?.square()?.sum(&[1], true)
}

/// Feature maps whose neighbouring channels are averaged until so many are left.
fn with_channels(map: &Tensor, channels: usize) -> Result<Tensor> {
    let [h, w] = image_size(map)?;
    let [n, c] = [map.shape()[0], map.shape()[1]];
    pooled_to(&map.reshape([n, 1, c, h * w])?, [channels, h * w])
}

struct Irg {
    pairs: Vec<TapPair>,
    /// Those whose vertices' changes are compared, if these are.
    maps: Option<Vec<TapPair>>,
    weights: [f64; 3],
}

impl Irg {
    /// How the student's graph and the teacher's change from each compared layer to the next.
    fn changes(&self, inputs: &StepInputs, edges: &[(Tensor, Tensor)]) -> Result<Vec<(Tensor, Tensor)>> {
        let Some(maps) = &self.maps else {
            let change =
                |layers: &[(Tensor, Tensor)]| Ok((layers[1].0.sub(&layers[0].0)?, layers[1].1.sub(&layers[0].1)?));
            return edges.windows(2).map(change).collect();
        };
        let change = |layers: &[TapPair]| {
            let [(s, t), (next_s, next_t)] = [inputs.features(&layers[0])?, inputs.features(&layers[1])?];
            Ok((paths(s, next_s)?, paths(&t.detach(), &next_t.detach())?))
        };
        maps.windows(2).map(change).collect()
    }
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
        let changes = self.changes(inputs, &graphs)?;
        if !changes.is_empty() {
            let change = sum_over(INFO.name, &changes, |(student, teacher)| student.mse_loss(teacher))?;
            terms.push(("transformation", transformation, change));
        }
        Loss::weighted(terms)
    }
}

const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "irg",
        run: |case| {
            case.require("relation", RELATION)?;
            let (student, teacher) = (case.tensor("student")?, case.tensor("teacher")?.detach());
            Ok(vec![("loss", edges(&student)?.mse_loss(&edges(&teacher)?)?)])
        },
        sample: Some(|random| vectors(random).attr("relation", RELATION)),
    },
    OpSpec {
        name: "irg_paths",
        run: |case| Ok(vec![("y", paths(&case.tensor("map")?, &case.tensor("next")?)?)]),
        sample: Some(|random| {
            let map = sample_normal(random, &[2, 4, 4, 4]);
            Case::new().input("map", map).input("next", sample_normal(random, &[2, 3, 2, 2]))
        }),
    },
];

const RELATION: &str = "squared Euclidean distance of L2-normalised features, w_ij = 1/B^2";
