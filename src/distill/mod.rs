//! Distillation methods, one file each, and the registry that knows them by name.
//!
//! A method's file holds its loss (a function that can be read beside the paper), what is known about it ([`MethodInfo`]), and its
//! entries for the gradient check and the fixtures. [`Plan`] says what a student learns from; [`Objective`] is a plan made for two
//! networks, with the methods' own trainable tensors.

mod adapter;
mod alias;
mod branch;
mod cases;
mod discriminator;
mod info;
mod math;
mod memory;
mod method;
mod objective;
mod pairwise;
mod plan;
mod scheduled;
mod settings;
mod taps;

pub mod ab;
pub mod adversarial;
pub mod at;
pub mod cat_kd;
pub mod cc;
pub mod committee;
pub mod crd;
pub mod ctkd;
pub mod data_free;
pub mod deit;
pub mod dist;
pub mod divergences;
pub mod dkd;
pub mod early_exit;
pub mod embedding_matching;
pub mod fitnet;
pub mod fsp;
pub mod ft;
pub mod generalized;
pub mod hard_labels;
pub mod hinton;
pub mod infonce;
pub mod irg;
pub mod label_smoothing;
pub mod layerwise;
pub mod logit_mse;
pub mod logit_standardization;
pub mod multi_branch;
pub mod nst;
pub mod ofd;
pub mod online;
pub mod pkt;
pub mod ps_kd;
pub mod regression;
pub mod reviewkd;
pub mod rkd;
pub mod sp;
pub mod temporal_ensemble;
pub mod transformers;
pub mod vid;

pub use adapter::Regressor;
pub use committee::{combine_logits, Combine};
pub use info::{Digest, Domain, Entry, Family, Hyperparameter, MethodInfo, Needs, Taps, NON_NEGATIVE};
pub(crate) use math::one_hot;
pub use math::soft_targets;
pub use method::{Features, Loss, Method, Setup, Stage, StepInputs};
pub use objective::{Mixture, Networks, Objective};
pub use plan::{check_weight, Plan, Term, TermConfig};
pub use scheduled::{Scheduled, FORMS};
pub use settings::{Settings, Value};
pub use taps::{Attention, TapPair, TeacherFeature};

use crate::error::{Error, Result};
use crate::ops::OpSpec;
use crate::suggest::nearest;

/// All methods. A new one is a file (`pub mod` above) and a line here.
pub static METHODS: &[&MethodInfo] = &[
    &hard_labels::INFO,
    &label_smoothing::INFO,
    &hinton::INFO,
    &logit_mse::INFO,
    &regression::INFO,
    &generalized::INFO,
    &dkd::INFO,
    &dist::INFO,
    &logit_standardization::INFO,
    &divergences::REVERSE_KL,
    &divergences::JSD,
    &deit::HARD,
    &deit::SOFT,
    &ctkd::INFO,
    &adversarial::LOGITS,
    &fitnet::INFO,
    &at::INFO,
    &vid::INFO,
    &nst::INFO,
    &fsp::INFO,
    &ab::INFO,
    &ft::INFO,
    &ofd::INFO,
    &reviewkd::INFO,
    &cat_kd::INFO,
    &layerwise::INFO,
    &adversarial::FEATURES,
    &sp::INFO,
    &rkd::INFO,
    &cc::INFO,
    &pkt::INFO,
    &irg::INFO,
    &crd::INFO,
    &infonce::INFO,
    &ps_kd::INFO,
    &temporal_ensemble::INFO,
    &early_exit::INFO,
    &multi_branch::INFO,
    &embedding_matching::INFO,
];

/// Losses that are no method of their own: procedures with several networks or without data are made of them.
const PARTS: [&[OpSpec]; 3] = [online::SPECS, data_free::SPECS, transformers::SPECS];

/// The method with this name.
///
/// # Errors
/// There is none; the error names the nearest.
pub fn find_method(name: &str) -> Result<&'static MethodInfo> {
    let unknown = || unknown_name(name, METHODS.iter().map(|info| info.name));
    METHODS.iter().find(|info| info.name == name).copied().ok_or_else(unknown)
}

/// The error for a name that is not among the known ones; it names the nearest.
pub fn unknown_name(name: &str, known: impl Iterator<Item = &'static str>) -> Error {
    let known: Vec<&str> = known.collect();
    let hint = nearest(name, &known).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
    Error::argument("method", format!("there is no `{name}`; {hint}known: {}", known.join(", ")))
}

/// Every loss, for `gradcheck`, `conformance` and their tests.
pub fn registry() -> impl Iterator<Item = &'static OpSpec> {
    METHODS.iter().flat_map(|info| info.specs).chain(PARTS.into_iter().flatten())
}
