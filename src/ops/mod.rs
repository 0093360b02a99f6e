//! Differentiable ops, one file each: shape checks, forward, backward, cost, and an entry for the registry.
//!
//! An op checks its arguments, calls a kernel of the backend, and hands the result to `autograd::record` with its backward pass.

mod attention;
mod binary;
pub mod case;
mod check;
mod contrast;
mod conv2d;
mod distillation;
mod dropout;
mod gather;
mod images;
mod layout;
mod linear;
mod losses;
mod matmul;
mod norm;
mod pool2d;
mod quantize;
mod random;
mod reduce;
mod relations;
mod softmax;
mod tiled;
mod unary;

pub use case::{Case, OpSpec, Outputs};
pub use conv2d::Conv2dOptions;
pub use distillation::DistillationLoss;
pub use norm::BatchNormTrain;
pub use tiled::sum_of_tiles;

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
        softmax::SPECS,
        norm::SPECS,
        attention::SPECS,
        dropout::SPECS,
        losses::SPECS,
        distillation::SPECS,
        contrast::SPECS,
        relations::SPECS,
        quantize::SPECS,
    ]
    .into_iter()
    .flatten()
}
