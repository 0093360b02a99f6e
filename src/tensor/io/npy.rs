//! NumPy's array format: a magic number, a version, a header that is a Python dictionary, the elements
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

use super::write_atomically;
use crate::error::{Error, Result};
use crate::tensor::{DType, Device, Shape, Storage, Tensor};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself refuses longer headers; ours are under 200 bytes.
const LONGEST_HEADER: usize = 10_000;
/// The elements start at a multiple of this.
const ALIGNMENT: usize = 64;

/// Reads an array (onto the CPU): `f64`, `f32`, `f16`, `i32`, `i64` (where the numbers fit into 32 bits), `u8` or `bool`.
///
/// # Errors
/// The file cannot be read, is damaged, or holds an array that has no counterpart here.
pub fn load_npy(path: &Path) -> Result<Tensor> {
    let open = || File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (len, file) = open().map_err(|e| Error::io("read", path, e))?;
    read(&mut BufReader::new(file), len).map_err(|reason| Error::data(path, reason))
}

/// Writes an array, atomically.
///
/// # Errors
/// The file cannot be written, or the dtype is `BF16`, which NumPy does not know.
pub fn save_npy(path: &Path, tensor: &Tensor) -> Result<()> {
    write_atomically(path, &to_bytes(tensor)?)
}

/// The array as the contents of an `.npy` file.
pub(super) fn to_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let descr = match tensor.dtype() {
        DType::F64 => "<f8",
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::I32 => "<i4",
        DType::U8 => "|u1",
        DType::BF16 => {
            let expected = "a type that NumPy knows (convert with `to_dtype`)".to_string();
            return Err(Error::DType { op: "save_npy", arg: "tensor", expected, found: "bf16".to_string() });
        }
    };
    let tensor = tensor.to_host()?;
    // One extent needs a comma too, or Python would read a number in parentheses.
    let extents: String = tensor.shape().iter().map(|extent| format!("{extent}, ")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", extents.trim_end());
    let preamble = MAGIC.len() + 4;
    let padded = (preamble + header.len() + 1).next_multiple_of(ALIGNMENT) - preamble;
    let mut bytes = Vec::with_capacity(preamble + padded + tensor.storage().bytes().len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(padded as u16).to_le_bytes());
    bytes.extend_from_slice(format!("{header:<width$}\n", width = padded - 1).as_bytes());
    bytes.extend_from_slice(tensor.storage().bytes());
    Ok(bytes)
}

/// Reads an array from `source`, which claims to hold `len` bytes. Memory is taken for bytes that are there, never for bytes that
/// a header only promises. The error says what is wrong with the file.
pub(super) fn read(source: &mut dyn Read, len: u64) -> Result<Tensor, String> {
    let (header, header_len) = read_header(source)?;
    let shape = Shape::new(&header.shape).map_err(|e| e.to_string())?;
    let promised = (shape.numel() as u64).checked_mul(header.kind.size());
    if promised.and_then(|data| data.checked_add(header_len)) != Some(len) {
        return Err(format!(
            "is {len} bytes long, but its header ({} of shape {shape:?}) does not fit that; write or download it again",
            header.descr
        ));
    }
    let mut data = Vec::new();
    source.take(len - header_len + 1).read_to_end(&mut data).map_err(|e| format!("cannot be read ({e})"))?;
    if data.len() as u64 != len - header_len {
        return Err(format!("holds {} bytes of data, its header promises {}", data.len(), len - header_len));
    }
    match header.kind {
        Kind::Plain(dtype) => {
            let mut storage = Storage::uninitialised(dtype, shape.numel());
            storage.bytes_mut().copy_from_slice(&data);
            Ok(Tensor::from_storage(storage, shape, Device::Cpu))
        }
        Kind::Wide => super::narrow_integers(&data, shape),
    }
}

/// How elements are stored.
#[derive(Clone, Copy)]
enum Kind {
    Plain(DType),
    /// 64-bit integers.
    Wide,
}

impl Kind {
    fn size(self) -> u64 {
        match self {
            Kind::Plain(dtype) => dtype.size() as u64,
            Kind::Wide => 8,
        }
    }
}

struct Header {
    descr: String,
    kind: Kind,
    shape: Vec<usize>,
}

/// Reads up to the first element; also returns how many bytes that was.
fn read_header(source: &mut dyn Read) -> Result<(Header, u64), String> {
    let mut fixed = [0; 8];
    source.read_exact(&mut fixed).map_err(|_| "is too short for an .npy file".to_string())?;
    let (magic, version) = fixed.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err("is not an .npy file: it does not start with \\x93NUMPY".to_string());
    }
    let mut len = [0; 4];
    let len_bytes = match version {
        [1, 0] => 2,
        [2 | 3, 0] => 4,
        _ => return Err(format!("has .npy version {}.{}, expected 1.0, 2.0 or 3.0", version[0], version[1])),
    };
    let cut = |_| "ends inside its header; write or download it again".to_string();
    source.read_exact(&mut len[..len_bytes]).map_err(cut)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > LONGEST_HEADER {
        return Err(format!("has a header of {len} bytes, expected at most {LONGEST_HEADER}"));
    }
    let mut text = vec![0; len];
    source.read_exact(&mut text).map_err(cut)?;
    let header = std::str::from_utf8(&text).ok().and_then(parse_dictionary);
    let (descr, fortran_order, shape) =
        header.ok_or("has a damaged header; expected a dictionary with descr, fortran_order and shape")?;
    if fortran_order {
        return Err("is in Fortran order; save it again with numpy.ascontiguousarray".to_string());
    }
    let kind = match descr.as_str() {
        "<f8" => Kind::Plain(DType::F64),
        "<f4" => Kind::Plain(DType::F32),
        "<f2" => Kind::Plain(DType::F16),
        "<i4" => Kind::Plain(DType::I32),
        "|u1" | "|b1" => Kind::Plain(DType::U8),
        "<i8" => Kind::Wide,
        _ => {
            let known = "<f8, <f4, <f2, <i8, <i4, |u1, |b1";
            return Err(format!("has elements of type {descr:?}; supported are {known}; convert with numpy.astype"));
        }
    };
    Ok((Header { descr, kind, shape }, (fixed.len() + len_bytes + len) as u64))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }` with its keys in any order.
fn parse_dictionary(text: &str) -> Option<(String, bool, Vec<usize>)> {
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    while !rest.is_empty() {
        let (key, value) = rest.split_once(':')?;
        let value = value.trim_start();
        let (end, known) = match key.trim() {
            "'descr'" => {
                let end = value.strip_prefix('\'')?.find('\'')? + 2;
                (end, descr.replace(value[1..end - 1].to_string()).is_none())
            }
            "'fortran_order'" => {
                let is_true = value.starts_with("True");
                let end = if is_true { "True".len() } else { value.strip_prefix("False").map(|_| "False".len())? };
                (end, fortran_order.replace(is_true).is_none())
            }
            "'shape'" => {
                let end = value.find(')')? + 1;
                (end, shape.replace(parse_tuple(&value[..end])?).is_none())
            }
            _ => return None,
        };
        let after = value[end..].trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
        if !known {
            return None;
        }
    }
    Some((descr?, fortran_order?, shape?))
}

/// `()`, `(3,)` or `(2, 3)`.
fn parse_tuple(text: &str) -> Option<Vec<usize>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?.trim();
    let inner = inner.strip_suffix(',').unwrap_or(inner);
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner.split(',').map(|extent| extent.trim().parse().ok()).collect()
}
