//! Tensors in files.

mod atomic;
mod safetensors;

pub use atomic::write_atomically;
pub use safetensors::{load_safetensors, save_safetensors, NamedTensors};
