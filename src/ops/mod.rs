//! Differentiable ops, one file each: shape checks, forward, backward, cost, and an entry for the registry.
//!
//! An op checks its arguments, calls a kernel of the backend, and hands the result to `autograd::record` with its backward pass.

mod binary;
pub mod case;
mod check;
mod conv2d;
mod gather;
mod layout;
mod linear;
mod matmul;
mod pool2d;
mod random;
mod reduce;
mod unary;

pub use case::{Case, OpSpec, Outputs};
pub use conv2d::Conv2dOptions;

/// Every registered op, for `gradcheck`, `conformance` and their tests.
pub fn registry() -> impl Iterator<Item = &'static OpSpec> {
    [
        unary::SPECS,
        binary::SPECS,
        reduce::SPECS,
        layout::SPECS,
        gather::SPECS,
        matmul::SPECS,
        linear::SPECS,
        conv2d::SPECS,
        pool2d::SPECS,
    ]
    .into_iter()
    .flatten()
}
