//! Compiles what is not Rust: the CUDA kernels with nvrtc where it is found, and for the emulator with the C++ compiler.

#[cfg(feature = "emulator")]
#[path = "src/backend/cuda/emulator/compile.rs"]
mod emulator;

#[cfg(feature = "cuda")]
#[path = "src/backend/cuda/embed.rs"]
mod embed;

#[cfg(feature = "cuda")]
#[allow(dead_code)] // the run-time half of this file is not used here
#[path = "src/backend/cuda/nvrtc.rs"]
mod nvrtc;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    embed::build();
    #[cfg(feature = "emulator")]
    emulator::build();
}
