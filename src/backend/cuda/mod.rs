//! The CUDA backend: our kernels (`kernels/*.cu`) on an NVIDIA GPU, or on the emulator where there is none.

pub mod driver;
