//! Compiles what is not Rust.

#[cfg(feature = "emulator")]
#[path = "src/backend/cuda/emulator/compile.rs"]
mod emulator;

fn main() {
    #[cfg(feature = "emulator")]
    emulator::build();
}
