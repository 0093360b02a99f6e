//! Tensors in files.

use crate::tensor::{Device, Shape, Tensor};

mod atomic;
mod npy;
mod npz;
mod safetensors;

pub use atomic::write_atomically;
pub use npy::{load_npy, save_npy};
pub use npz::{load_npz, save_npz};
pub use safetensors::{load_safetensors, save_safetensors, NamedTensors};

/// 64-bit little-endian integers as `I32`.
fn narrow_integers(bytes: &[u8], shape: Shape) -> Result<Tensor, String> {
    let wide = bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")));
    let narrow = |(i, wide): (usize, i64)| {
        i32::try_from(wide).map_err(|_| format!("holds {wide} at position {i}, beyond what 32 bits can hold"))
    };
    let values = wide.enumerate().map(narrow).collect::<Result<Vec<i32>, _>>()?;
    Tensor::from_slice(&values, shape, Device::Cpu).map_err(|e| e.to_string())
}
