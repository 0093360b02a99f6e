//! Park et al., "Relational Knowledge Distillation", 2019. Distance (eqs. 4–6): pairwise Euclidean distances, each network's divided by
//! their mean, compared by the Huber loss (smooth L1). Angle (eqs. 7–8): the same for the cosines of the angles of all triplets,
//! `⟨e_ij, e_ik⟩` with `e_ij = (x_j − x_i) / ‖x_j − x_i‖`.
//!
//! There are B³ angles. [`Tensor::angle_loss`](crate::Tensor::angle_loss) computes and differentiates them without storing any: memory
//! grows with B². The notebook's forms leave distances squared and unscaled, and replace angles by the matrix of cosines.

use super::cases::vectors;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps, NON_NEGATIVE};
use super::math::{at_least, root, rows, unit_vectors};
use super::pairwise::sum_over;
use super::taps::TapPair;
use super::{Loss, Method, StepInputs};
use crate::error::Result;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "rkd",
    paper: "Park et al. 2019",
    family: Family::Relation,
    about: "distances of pairs and angles of triplets of samples",
    formula: "25 · H(d_ij / mean d) + 50 · H(⟨e_ij, e_ik⟩), H the Huber loss between student and teacher",
    needs: Needs::features(Taps::Penultimate),
    weight: 1.0,
    hard_weight: 1.0,
    cost: 1.4,
    when: "For embeddings (metric learning, retrieval), where relations are what counts.",
    traps: &[
        "Time grows with the cube of the batch; angle-weight 0 leaves the angles out.",
        "As an addition for classifiers it often loses against plain hinton.",
    ],
    hyperparameters: &[
        Hyperparameter::between("distance-weight", NON_NEGATIVE, 25.0, "weight of the distances"),
        Hyperparameter::between("angle-weight", NON_NEGATIVE, 50.0, "weight of the angles"),
        Hyperparameter::choice(
            "form",
            &["paper", "notebook"],
            "the paper's relations, or the notebook's simplified ones",
        ),
    ],
    build: |setup| {
        let number = |name| setup.settings.number(name);
        let (distance, angle): (Compare, Compare) = match setup.settings.is("form", "notebook") {
            true => (squared_distances, cosines),
            false => (distances, angles),
        };
        let terms = [("distance", number("distance-weight"), distance), ("angle", number("angle-weight"), angle)];
        Ok(Box::new(Rkd { pairs: setup.pairs.clone(), terms }))
    },
    specs: SPECS,
};

/// What relations are computed from: the samples' features `[n, width]`, and their squared distances `[n, n]`.
struct Samples {
    features: Tensor,
    squares: Tensor,
}

impl Samples {
    fn of(features: &Tensor) -> Result<Samples> {
        let features = rows(features)?;
        Ok(Samples { squares: features.pairwise_squared_distances()?, features })
    }
}

type Compare = fn(&Samples, &Samples) -> Result<Tensor>;

/// Where the Huber loss turns from a parabola into a line.
const BETA: f64 = 1.0;

/// Smooth L1 of Euclidean distances, each network's divided by their mean over i ≠ j; 0 for a batch of one.
fn distances(student: &Samples, teacher: &Samples) -> Result<Tensor> {
    let relation = |samples: &Samples| {
        // √max(d², 1e-24) − 1e-12: exact 0 on the diagonal, with a gradient of 0.
        let d = root(&samples.squares)?.affine(1.0, -1e-12)?;
        let n = d.shape()[0];
        let mean = d.sum_all()?.affine(1.0 / (n * n.saturating_sub(1)).max(1) as f64, 0.0)?;
        d.div(&at_least(&mean, 1e-12)?)
    };
    relation(student)?.smooth_l1_loss(&relation(teacher)?, BETA)
}

/// Smooth L1 of the cosines of all angles at all triplets, mean over B³.
fn angles(student: &Samples, teacher: &Samples) -> Result<Tensor> {
    student.squares.angle_loss(&teacher.squares)
}

/// The notebook's distances: smooth L1 of squared ones, as they are.
fn squared_distances(student: &Samples, teacher: &Samples) -> Result<Tensor> {
    student.squares.smooth_l1_loss(&teacher.squares, BETA)
}

/// The notebook's angles: the mean squared difference of the cosines between samples.
fn cosines(student: &Samples, teacher: &Samples) -> Result<Tensor> {
    let relation = |samples: &Samples| unit_vectors(&samples.features)?.gram();
    relation(student)?.mse_loss(&relation(teacher)?)
}

struct Rkd {
    pairs: Vec<TapPair>,
    terms: [(&'static str, f64, Compare); 2],
}

impl Method for Rkd {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let of_pair = |pair| {
            let (student, teacher) = inputs.features(pair)?;
            Ok([Samples::of(student)?, Samples::of(&teacher.detach())?])
        };
        let samples = self.pairs.iter().map(of_pair).collect::<Result<Vec<_>>>()?;
        let wanted = self.terms.iter().filter(|(_, weight, _)| *weight > 0.0);
        let term = |&(name, weight, compare): &(&'static str, f64, Compare)| {
            let sum = sum_over(INFO.name, &samples, |[student, teacher]| compare(student, teacher))?;
            Ok((name, weight, sum))
        };
        Loss::weighted(wanted.map(term).collect::<Result<_>>()?)
    }
}

macro_rules! spec {
    ($name:literal, $loss:ident $(, $attr:literal: $value:literal)?) => {
        OpSpec {
            name: $name,
            run: |case| {
                $(case.require($attr, $value)?;)?
                let (student, teacher) = (case.tensor("student")?, case.tensor("teacher")?.detach());
                Ok(vec![("loss", $loss(&Samples::of(&student)?, &Samples::of(&teacher)?)?)])
            },
            sample: Some(|random| vectors(random)$(.attr($attr, $value))?),
        }
    };
}

const SPECS: &[OpSpec] = &[
    spec!("rkd_distance", distances, "normalise": "mean over i != j"),
    spec!("rkd_angle", angles, "eps": 1e-12),
    spec!("rkd_distance_seed", squared_distances),
    spec!("rkd_angle_seed", cosines),
];
