//! Files of tensors: what is written is read back, NumPy's own files are understood, and no damage does worse than a one-line error.

use kdengine::tensor::io::{self, NamedTensors};
use kdengine::tensor::Rng;
use kdengine::{DType, Device, Result, Shape, Tensor};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const DTYPES: [DType; 5] = [DType::F32, DType::F64, DType::F16, DType::I32, DType::U8];

fn tensor(dims: &[usize], dtype: DType, seed: u64) -> Tensor {
    let shape = Shape::new(dims).unwrap();
    let values = Tensor::normal(shape, 100.0, 40.0, DType::F32, Device::Cpu, Rng::new(seed, 0));
    values.unwrap().to_dtype(dtype).unwrap()
}

fn assert_equal(a: &Tensor, b: &Tensor) {
    assert_eq!((a.shape(), a.dtype()), (b.shape(), b.dtype()));
    assert!(a.storage().bytes() == b.storage().bytes());
}

/// A file that NumPy 2.2 wrote, from the text of its header and its data.
fn npy(folder: &Path, header: &str, data: &[u8]) -> PathBuf {
    let path = folder.join("a.npy");
    let len = (header.len() as u16).to_le_bytes();
    fs::write(&path, [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes(), data].concat()).unwrap();
    path
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn every_format_gives_back_what_it_was_given(dims in prop::collection::vec(0usize..7, 0..5), seed: u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let tensors: NamedTensors = DTYPES.into_iter().map(|d| (d.to_string(), tensor(&dims, d, seed))).collect();
        for tensor in tensors.values() {
            io::save_npy(&path, tensor).unwrap();
            assert_equal(&io::load_npy(&path).unwrap(), tensor);
        }
        io::save_npz(&path, &tensors).unwrap();
        let from_npz = io::load_npz(&path).unwrap();
        let metadata = BTreeMap::from([("epoch".to_string(), seed.to_string())]);
        io::save_safetensors(&path, &tensors, &metadata).unwrap();
        let (from_safetensors, found) = io::load_safetensors(&path).unwrap();
        prop_assert_eq!(found, metadata);
        for (name, tensor) in &tensors {
            assert_equal(&from_npz[name], tensor);
            assert_equal(&from_safetensors[name], tensor);
        }
    }

    #[test]
    fn damage_is_read_as_something_or_refused_in_one_line(
        cut in 0.0f64..1.0,
        damage in prop::collection::vec((0.0f64..1.0, any::<u8>()), 0..4),
    ) {
        type Load = fn(&Path) -> Result<()>;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let tensors = NamedTensors::from([("weight".to_string(), tensor(&[3, 4], DType::F32, 1))]);
        let formats: [(&dyn Fn(), Load); 3] = [
            (&|| io::save_npy(&path, &tensors["weight"]).unwrap(), |p| io::load_npy(p).map(drop)),
            (&|| io::save_npz(&path, &tensors).unwrap(), |p| io::load_npz(p).map(drop)),
            (&|| io::save_safetensors(&path, &tensors, &BTreeMap::new()).unwrap(), |p| io::load_safetensors(p).map(drop)),
        ];
        for (save, load) in formats {
            save();
            let mut bytes = fs::read(&path).unwrap();
            for &(at, byte) in &damage {
                let at = (at * bytes.len() as f64) as usize;
                bytes[at] = byte;
            }
            let is_cut = damage.is_empty();
            if is_cut {
                bytes.truncate((cut * bytes.len() as f64) as usize);
            }
            fs::write(&path, &bytes).unwrap();
            match load(&path) {
                Ok(()) => prop_assert!(!is_cut, "a truncated file was accepted"),
                Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
            }
        }
    }
}

#[test]
fn headers_as_numpy_writes_them_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let header = "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }            \n";
    let data: Vec<u8> = [-1i64, 7, 1 << 20].iter().flat_map(|x| x.to_le_bytes()).collect();
    let labels = io::load_npy(&npy(folder.path(), header, &data)).unwrap();
    assert_eq!(labels.to_vec::<i32>().unwrap(), [-1, 7, 1 << 20]);
    let scalar = "{'shape': (), 'fortran_order': False, 'descr': '|b1'}\n";
    assert_eq!(io::load_npy(&npy(folder.path(), scalar, &[1])).unwrap().item().unwrap(), 1.0);
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let wide = (1i64 << 40).to_le_bytes();
    let cases: [(&str, &[u8], &str); 8] = [
        ("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", &[0; 4], "Fortran order"),
        ("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", &[0; 4], "\">f4\""),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", &[0; 4], "shape [2]"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 9), }", &[0; 4], "does not fit"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }", &[0; 4], "too large"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1, -1), }", &[0; 4], "damaged header"),
        ("{'descr': '<f4', 'fortran_order': False}", &[0; 4], "damaged header"),
        ("{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }", &wide, "1099511627776 at position 0"),
    ];
    for (header, data, expected) in cases {
        let error = io::load_npy(&npy(folder.path(), header, data)).unwrap_err().to_string();
        assert!(error.contains("a.npy: ") && error.contains(expected), "{error}");
    }
    let missing = io::load_npz(&folder.path().join("absent.npz")).unwrap_err().to_string();
    assert!(missing.contains("cannot read") && missing.contains("absent.npz"), "{missing}");
    let bf16 = tensor(&[2], DType::BF16, 1);
    assert!(io::save_npy(&folder.path().join("b.npy"), &bf16).unwrap_err().to_string().contains("bf16"));
}

#[test]
fn an_archive_that_promises_more_than_it_holds_is_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.npz");
    io::save_npz(&path, &NamedTensors::from([("x".to_string(), tensor(&[4], DType::U8, 1))])).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    // The uncompressed sizes in the local header and in the central directory, made 3 GiB.
    let central = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    for at in [22, central + 24] {
        bytes[at..at + 4].copy_from_slice(&(3u32 << 30).to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    let error = io::load_npz(&path).unwrap_err().to_string();
    assert!(error.contains("bomb.npz: ") && !error.contains('\n'), "{error}");
}
