//! Differentiable ops, one file each: shape checks, forward, backward, cost, and an entry for the registry.
//!
//! An op checks its arguments, calls a kernel of the backend, and hands the result to `autograd::record` with its backward pass.

mod binary;
pub mod case;
mod check;
mod unary;

pub use case::{Case, OpSpec, Outputs};

/// Every registered op, for `gradcheck`, `conformance` and their tests.
pub fn registry() -> impl Iterator<Item = &'static OpSpec> {
    [unary::SPECS, binary::SPECS].into_iter().flatten()
}
