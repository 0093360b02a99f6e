//! kdengine: knowledge distillation with a tensor engine of its own.
//!
//! Modules depend on each other in one direction only:
//! `cli → report, train → distill → models → nn, optim → ops → autograd → backend → tensor`; `data` needs only `tensor`.

pub mod adapt;
pub mod analysis;
pub mod autograd;
pub mod backend;
pub mod bench;
pub mod cli;
pub mod compress;
pub mod conformance;
pub mod data;
pub mod distill;
mod error;
mod folders;
pub mod machine;
pub mod models;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod pipeline;
pub mod recipes;
pub mod report;
mod suggest;
pub mod tensor;
pub mod train;

/// The walkthrough's code is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/add-a-method.md")]
pub struct AddAMethod;

/// The same for recipes.
#[cfg(doctest)]
#[doc = include_str!("../docs/recipes.md")]
pub struct AddARecipe;

pub use error::{Error, Result};
pub use tensor::{DType, Device, Shape, Tensor};
