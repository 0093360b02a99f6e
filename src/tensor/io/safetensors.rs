//! The safetensors format: named tensors and string metadata, readable by PyTorch and most other tools.

use super::write_atomically;
use crate::error::{Error, Result};
use crate::tensor::{DType, Device, Shape, Storage, Tensor};
use safetensors::tensor::{Dtype as FileDType, TensorView};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// Tensors by name.
pub type NamedTensors = BTreeMap<String, Tensor>;

/// Writes tensors and metadata to a file, atomically.
///
/// # Errors
/// The file cannot be written.
pub fn save_safetensors(path: &Path, tensors: &NamedTensors, metadata: &BTreeMap<String, String>) -> Result<()> {
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    let on_host = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), tensor.to_host()?));
    let tensors = tensors.iter().map(on_host).collect::<Result<NamedTensors>>()?;
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(file_dtype(tensor.dtype()), tensor.shape().to_vec(), tensor.storage().bytes());
        (name, view.expect("a tensor's bytes match its shape"))
    });
    let bytes = safetensors::serialize(views, (!metadata.is_empty()).then_some(metadata));
    let bytes = bytes.map_err(|e| Error::argument("safetensors", format!("cannot serialise: {e}")))?;
    write_atomically(path, &with_sorted_header(&bytes))
}

/// The same file with the header's keys in alphabetical order, so that equal contents are equal bytes: the crate writes metadata
/// in the random order of a hash map.
fn with_sorted_header(bytes: &[u8]) -> Vec<u8> {
    let (length, rest) = bytes.split_first_chunk::<8>().expect("a header's length comes first");
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).expect("a header is JSON");
    let header = Value::from_iter(header.into_iter().map(|(key, value)| (key, sorted(value)))).to_string();
    // Tensors start at a multiple of 8 bytes, as the format wants.
    let padded = header.len().next_multiple_of(8);
    let mut file = (padded as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.resize(8 + padded, b' ');
    file.extend(data);
    file
}

/// An object with its keys in alphabetical order; other values as they are.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => Value::from_iter(object.into_iter().collect::<BTreeMap<String, Value>>()),
        other => other,
    }
}

/// Reads all tensors (onto the CPU) and the metadata of a file. 64-bit integers become `I32` where they fit.
///
/// # Errors
/// The file cannot be read, is damaged, or holds a tensor that has no counterpart here.
pub fn load_safetensors(path: &Path) -> Result<(NamedTensors, BTreeMap<String, String>)> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let damaged = |e| Error::data(path, format!("is not a whole safetensors file ({e}); write or download it again"));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let mut tensors = NamedTensors::new();
    for (name, view) in file.iter() {
        let tensor = read_tensor(&view).map_err(|reason| Error::data(path, format!("tensor `{name}` {reason}")))?;
        tensors.insert(name.to_string(), tensor);
    }
    Ok((tensors, metadata))
}

fn file_dtype(dtype: DType) -> FileDType {
    match dtype {
        DType::F32 => FileDType::F32,
        DType::F64 => FileDType::F64,
        DType::BF16 => FileDType::BF16,
        DType::F16 => FileDType::F16,
        DType::I32 => FileDType::I32,
        DType::U8 => FileDType::U8,
    }
}

fn read_tensor(view: &TensorView) -> Result<Tensor, String> {
    let shape = Shape::new(view.shape()).map_err(|e| e.to_string())?;
    let dtype = match view.dtype() {
        FileDType::F32 => DType::F32,
        FileDType::F64 => DType::F64,
        FileDType::BF16 => DType::BF16,
        FileDType::F16 => DType::F16,
        FileDType::I32 => DType::I32,
        FileDType::U8 | FileDType::BOOL => DType::U8,
        FileDType::I64 => return super::narrow_integers(view.data(), shape),
        other => return Err(format!("has type {other:?}; supported are F32, F64, BF16, F16, I32, I64, U8, BOOL")),
    };
    let mut storage = Storage::uninitialised(dtype, shape.numel());
    storage.bytes_mut().copy_from_slice(view.data());
    Ok(Tensor::from_storage(storage, shape, Device::Cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let values = Tensor::from_slice(&[0.0f32, 1.5, -2.0, 7.0, 1.0, 3.0], [2, 3], Device::Cpu).unwrap();
        let dtypes = [DType::F32, DType::F64, DType::BF16, DType::F16, DType::I32, DType::U8];
        let tensors = dtypes.map(|dtype| (dtype.to_string(), values.to_dtype(dtype).unwrap())).into_iter().collect();
        save_safetensors(&path, &tensors, &BTreeMap::from([("key".to_string(), "value".to_string())])).unwrap();
        (folder, path)
    }

    #[test]
    fn every_dtype_and_the_metadata_round_trip() {
        let (_folder, path) = file();
        let (tensors, metadata) = load_safetensors(&path).unwrap();
        assert_eq!(metadata["key"], "value");
        assert_eq!(tensors.len(), 6);
        for (name, tensor) in tensors {
            assert_eq!(tensor.dtype().to_string(), name);
            assert_eq!(tensor.shape().dims(), [2, 3]);
            assert_eq!(tensor.to_f64_vec().unwrap()[3], 7.0, "{name}");
        }
    }

    #[test]
    fn equal_contents_are_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = NamedTensors::from([("w".to_string(), Tensor::zeros([3], DType::U8, Device::Cpu).unwrap())]);
        let metadata: BTreeMap<String, String> = (0..20).map(|i| (format!("key {i} ü"), "value".to_string())).collect();
        let write = |name: &str| {
            let path = folder.path().join(name);
            save_safetensors(&path, &tensors, &metadata).unwrap();
            assert_eq!(load_safetensors(&path).unwrap().1, metadata);
            fs::read(&path).unwrap()
        };
        let first = write("0");
        assert!((1..10).all(|i| write(&i.to_string()) == first));
    }

    #[test]
    fn truncated_and_corrupted_files_are_refused_in_one_line() {
        let (folder, path) = file();
        let whole = fs::read(&path).unwrap();
        let damaged = folder.path().join("damaged.safetensors");
        let mut huge_header = whole.clone();
        huge_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        for bytes in [&whole[..4], &whole[..60], &whole[..whole.len() - 1], &huge_header[..], &[]] {
            fs::write(&damaged, bytes).unwrap();
            let error = load_safetensors(&damaged).unwrap_err().to_string();
            assert!(error.contains("damaged.safetensors: is not a whole safetensors file"), "{error}");
            assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let (folder, path) = file();
        let before = fs::read(&path).unwrap();
        let beyond = folder.path().join("absent").join("t.safetensors");
        assert!(write_atomically(&beyond, b"x").unwrap_err().to_string().contains("absent"));
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
