use super::*;
use crate::data::digits::{generate, DigitsConfig};
use flate2::write::GzEncoder;
use flate2::Compression;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::io::Write;

const IMAGES: &str = "train-images-idx3-ubyte";

fn folder() -> (tempfile::TempDir, Splits) {
    let folder = tempfile::tempdir().unwrap();
    let splits = generate(&DigitsConfig { train: 20, test: 10, ..Default::default() });
    write_splits(folder.path(), &splits).unwrap();
    (folder, splits)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn read_back(folder: &Path) -> Result<Splits> {
    read_splits(folder, "digits", None)
}

#[test]
fn plain_and_gzipped_files_give_the_images_back() {
    let (folder, splits) = folder();
    assert_eq!(read_back(folder.path()).unwrap().train, splits.train);
    let plain = folder.path().join(IMAGES);
    fs::write(folder.path().join(format!("{IMAGES}.gz")), gzip(&fs::read(&plain).unwrap())).unwrap();
    fs::remove_file(plain).unwrap();
    let read = read_back(folder.path()).unwrap();
    assert_eq!((read.train, read.test), (splits.train, splits.test));
}

#[test]
fn damage_is_named() {
    let (folder, _) = folder();
    let path = folder.path().join(IMAGES);
    let whole = fs::read(&path).unwrap();
    let zeros = gzip(&[&[0, 0, 8, 3][..], &[0xff; 12]].concat());
    let cases: [(Vec<u8>, &str); 8] = [
        (whole[..whole.len() - 1].to_vec(), "is truncated"),
        ([&whole[..], &[0]].concat(), "is too long"),
        (whole[..10].to_vec(), "truncated within its header"),
        (vec![0], "truncated"),
        (b"<html>not found</html>".to_vec(), "magic number 3c 68 74 6d"),
        ([&[0, 0, 8, 3][..], &[0xff; 12], &[0; 10]].concat(), "impossible size"),
        (zeros, "impossible size"),
        (gzip(&whole)[..500].to_vec(), "damaged gzip"),
    ];
    for (bytes, expected) in cases {
        fs::write(&path, bytes).unwrap();
        let error = read_back(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(IMAGES) && !error.contains('\n'), "{error}");
    }
    fs::remove_file(&path).unwrap();
    assert!(read_back(folder.path()).unwrap_err().to_string().contains("there is no train-images-idx3-ubyte"));
}

#[test]
fn a_gzip_bomb_is_refused_before_it_is_unpacked() {
    let (folder, _) = folder();
    let header =
        [&[0u8, 0, 8, 3][..], &60_000u32.to_be_bytes(), &28_000u32.to_be_bytes(), &28u32.to_be_bytes()].concat();
    fs::write(folder.path().join(IMAGES), gzip(&header)).unwrap();
    let error = read_back(folder.path()).unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");
}

#[test]
fn real_mnist_is_read_bit_exactly() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/mnist"));
    if !folder.exists() {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    }
    let Splits { train, test } = read_splits(folder, "mnist", None).unwrap();
    assert_eq!((train.len(), test.len(), train.image_shape()), (60_000, 10_000, [1, 28, 28]));
    // The checksums of the uncompressed files.
    let digest = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let images = digest(&encode(&[60_000, 28, 28], train.pixels()));
    assert_eq!(images, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db");
    let labels: Vec<u8> = test.labels.iter().map(|&label| label as u8).collect();
    let labels = digest(&encode(&[10_000], &labels));
    assert_eq!(labels, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), keep_magic in any::<bool>()) {
        let (folder, _) = folder();
        let bytes = if keep_magic { [&[0, 0, 8, 3][..], &bytes].concat() } else { bytes };
        fs::write(folder.path().join(IMAGES), &bytes).unwrap();
        prop_assert!(read_back(folder.path()).is_err());
    }
}
