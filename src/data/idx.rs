//! The IDX format of MNIST and its relatives, plain or gzipped: a magic number with element type and rank, big-endian extents,
//! then the elements. Sizes are checked against the file before anything is allocated for them.

use super::{Dataset, Splits};
use crate::error::{Error, Result};
use crate::tensor::io::write_atomically;
use flate2::read::MultiGzDecoder;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The element type "unsigned byte".
const UNSIGNED_BYTE: u8 = 8;
/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Deflate cannot make a file smaller than about a thousandth.
const LARGEST_GZIP_RATIO: u64 = 1100;

/// Bytes with their extents.
struct Array {
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

/// Reads `train-images…`, `train-labels…`, `t10k-images…` and `t10k-labels…` from a folder.
///
/// # Errors
/// A file is absent, damaged, or does not belong with the others.
pub fn read_splits(folder: &Path, name: &str, classes: Option<Vec<String>>) -> Result<Splits> {
    let read = |prefix: &str| -> Result<(PathBuf, Array, Array)> {
        let images = find(folder, &format!("{prefix}-images"), "idx3")?;
        let labels = find(folder, &format!("{prefix}-labels"), "idx1")?;
        let arrays = (read(&images, &[3, 4])?, read(&labels, &[1])?);
        Ok((images, arrays.0, arrays.1))
    };
    let (train, test) = (read("train")?, read("t10k")?);
    let classes = match classes {
        Some(classes) => classes,
        None => classes_of(&train.2.bytes).map_err(|reason| Error::data(folder, reason))?,
    };
    let dataset = |(path, images, labels): (PathBuf, Array, Array)| {
        let shape = match images.dims[..] {
            [_, h, w] => [1, h, w],
            [_, c, h, w] => [c, h, w],
            _ => unreachable!("the rank was checked"),
        };
        let labels = labels.bytes.into_iter().map(i32::from).collect();
        let dataset = Dataset::new(name, shape, images.bytes, labels, classes.clone());
        dataset.map_err(|error| Error::data(&path, error.to_string()))
    };
    let (train_path, shape) = (train.0.clone(), train.1.dims[1..].to_vec());
    let splits = Splits { train: dataset(train)?, test: dataset(test)? };
    match splits.test.image_shape() == splits.train.image_shape() {
        true => Ok(splits),
        false => Err(Error::data(&train_path, format!("has images of {shape:?}, the test images are of another size"))),
    }
}

/// The classes of a data set that nobody described: 0 to the largest label.
fn classes_of(labels: &[u8]) -> Result<Vec<String>, String> {
    let largest = labels.iter().copied().max().unwrap_or(0);
    let used = (0..=largest).filter(|class| labels.contains(class)).count();
    // A label far above the others is damage, not a class.
    if 2 * used <= usize::from(largest) {
        let at = labels.iter().position(|&label| label == largest).unwrap_or(0);
        let reason =
            format!("label {largest} of training image {at} is out of range: only {used} labels up to it occur");
        return Err(reason);
    }
    Ok((0..=largest).map(|class| class.to_string()).collect())
}

/// The file that holds an array, under any of the names in use.
fn find(folder: &Path, stem: &str, rank: &str) -> Result<PathBuf> {
    let names = [format!("{stem}-{rank}-ubyte"), format!("{stem}.{rank}-ubyte")];
    let candidates = names.iter().flat_map(|name| [folder.join(name), folder.join(format!("{name}.gz"))]);
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::data(folder, format!("there is no {} or {}.gz here", names[0], names[0])))
}

/// Reads one array of unsigned bytes.
fn read(path: &Path, ranks: &[usize]) -> Result<Array> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let contents = if bytes.starts_with(&GZIP) { gunzip(path, &bytes, ranks)? } else { bytes };
    let (dims, header) = parse_header(path, &contents, ranks)?;
    let expected = element_count(path, &dims)?;
    let found = contents.len() - header;
    if found != expected {
        let what = if found < expected { "is truncated" } else { "is too long" };
        let reason =
            format!("{what}: {dims:?} needs {expected} bytes after the header, found {found}; download it again");
        return Err(Error::data(path, reason));
    }
    Ok(Array { dims, bytes: contents[header..].to_vec() })
}

/// Decompresses, reading no more than the header promises.
fn gunzip(path: &Path, compressed: &[u8], ranks: &[usize]) -> Result<Vec<u8>> {
    let damaged = |e: std::io::Error| Error::data(path, format!("is a damaged gzip file ({e}); download it again"));
    let mut decoder = MultiGzDecoder::new(compressed);
    let longest_header = 4 + 4 * ranks.iter().max().copied().unwrap_or(1) as u64;
    let mut contents = Vec::new();
    decoder.by_ref().take(longest_header).read_to_end(&mut contents).map_err(damaged)?;
    let (dims, header) = parse_header(path, &contents, ranks)?;
    let expected = header as u64 + element_count(path, &dims)? as u64;
    if expected > compressed.len() as u64 * LARGEST_GZIP_RATIO {
        let reason = format!("promises {expected} bytes, more than {} compressed bytes can hold", compressed.len());
        return Err(Error::data(path, reason));
    }
    // One byte more than promised, to notice files that are too long.
    let rest = (expected + 1).saturating_sub(contents.len() as u64);
    decoder.take(rest).read_to_end(&mut contents).map_err(damaged)?;
    Ok(contents)
}

/// The extents, and the header's length.
fn parse_header(path: &Path, contents: &[u8], ranks: &[usize]) -> Result<(Vec<usize>, usize)> {
    let refuse = |reason: String| Err(Error::data(path, reason));
    let Some(&[zero0, zero1, dtype, rank]) = contents.first_chunk::<4>() else {
        return refuse(format!("is truncated: {} bytes are no IDX header", contents.len()));
    };
    if [zero0, zero1, dtype] != [0, 0, UNSIGNED_BYTE] || !ranks.contains(&usize::from(rank)) {
        let expected = ranks.iter().map(|r| format!("00 00 08 {r:02x}")).collect::<Vec<_>>().join(" or ");
        let found = contents[..4].iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
        return refuse(format!(
            "has the magic number {found}, expected {expected}: it is not the IDX file it should be"
        ));
    }
    let header = 4 + 4 * usize::from(rank);
    let Some(extents) = contents.get(4..header) else {
        return refuse("is truncated within its header; download it again".to_string());
    };
    let extent = |b: &[u8]| u32::from_be_bytes(b.try_into().expect("four bytes")) as usize;
    Ok((extents.chunks_exact(4).map(extent).collect(), header))
}

fn element_count(path: &Path, dims: &[usize]) -> Result<usize> {
    let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    count.ok_or_else(|| Error::data(path, format!("claims the impossible size {dims:?}")))
}

/// Writes both splits to a folder under MNIST's names, uncompressed.
///
/// # Errors
/// The folder cannot be written.
pub fn write_splits(folder: &Path, splits: &Splits) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::io("create the folder", folder, e))?;
    for (prefix, data) in [("train", &splits.train), ("t10k", &splits.test)] {
        let [c, h, w] = data.image_shape();
        let dims = if c == 1 { vec![data.len(), h, w] } else { vec![data.len(), c, h, w] };
        let labels: Vec<u8> = data.labels.iter().map(|&label| label as u8).collect();
        write_atomically(&folder.join(format!("{prefix}-images-idx3-ubyte")), &encode(&dims, data.pixels()))?;
        write_atomically(&folder.join(format!("{prefix}-labels-idx1-ubyte")), &encode(&[data.len()], &labels))?;
    }
    Ok(())
}

fn encode(dims: &[usize], bytes: &[u8]) -> Vec<u8> {
    let extents = dims.iter().flat_map(|&d| (d as u32).to_be_bytes());
    let header = [0, 0, UNSIGNED_BYTE, dims.len() as u8].into_iter().chain(extents);
    header.chain(bytes.iter().copied()).collect()
}

#[cfg(test)]
mod tests;
