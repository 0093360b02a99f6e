//! Fast f32 kernels for the CPU: pure functions on slices, vectorised for the instruction set found at run time.
//!
//! Arrays are row-major and contiguous; images are `[n, c, h, w]`. Every function checks the lengths of its slices and
//! panics when they disagree with the geometry: shapes are validated with a proper error before a kernel is called.
//! Work is split by shape alone, never by the number of threads, so results are bit-equal for any thread pool.

// Loops over registers are written with their indices, like the formulas they compute.
#![allow(clippy::needless_range_loop)]

pub(super) mod activation;
pub mod angles;
pub mod conv;
pub mod dots;
pub mod elementwise;
pub mod gemm;
pub mod isa;
pub mod loss;
pub mod optim;
pub(super) mod parallel;
pub mod peak;
pub(crate) mod philox;
pub mod pool;
pub mod relations;
mod scratch;
mod simd;
pub mod softmax;
mod tile;
mod transpose;
pub(super) mod vector;
pub mod weights;
