//! NumPy's `.npz`: a zip archive of `.npy` files, stored or deflated.

use super::{npy, write_atomically, NamedTensors};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Cursor, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Reads all arrays (onto the CPU) by their names without `.npy`.
///
/// # Errors
/// The file cannot be read, is damaged, or holds anything but arrays that have a counterpart here.
pub fn load_npz(path: &Path) -> Result<NamedTensors> {
    let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    let damaged = |e| Error::data(path, format!("is not a whole .npz file ({e}); write or download it again"));
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut arrays = NamedTensors::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(damaged)?;
        let entry_name = entry.name().map_err(damaged)?.to_string();
        let Some(name) = entry_name.strip_suffix(".npy") else {
            return Err(Error::data(path, format!("contains `{entry_name}`, expected .npy files only")));
        };
        let len = entry.size();
        let array = npy::read(&mut entry, len);
        let array = array.map_err(|reason| Error::data(path, format!("array `{name}` {reason}")))?;
        if arrays.insert(name.to_string(), array).is_some() {
            return Err(Error::data(path, format!("contains array `{name}` twice")));
        }
    }
    Ok(arrays)
}

/// Writes arrays by name, deflated, atomically.
///
/// # Errors
/// The file cannot be written, or a dtype is `BF16`, which NumPy does not know.
pub fn save_npz(path: &Path, arrays: &NamedTensors) -> Result<()> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let failed = |e: &dyn std::fmt::Display| Error::argument("npz", format!("cannot write the archive: {e}"));
    for (name, array) in arrays {
        let bytes = npy::to_bytes(array)?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .large_file(u32::try_from(bytes.len()).is_err());
        archive.start_file(format!("{name}.npy"), options).map_err(|e| failed(&e))?;
        archive.write_all(&bytes).map_err(|e| failed(&e))?;
    }
    let bytes = archive.finish().map_err(|e| failed(&e))?.into_inner();
    write_atomically(path, &bytes)
}
