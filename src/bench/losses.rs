//! The fused distillation loss, forward and backward, from the notebook's ten classes to a language model's vocabulary.

use super::cases::Case;
use super::kernels::{labels, random};
use crate::backend::params::HintonKd;
use crate::error::Result;
use crate::tensor::{DType, Device};

const SIZES: [(usize, usize); 5] = [(128, 10), (4096, 100), (1024, 1000), (512, 32_000), (256, 128_256)];
/// The emulator and the reference would take minutes for more elements.
const SLOW_DEVICE_ELEMENTS: usize = 100_000;

pub(super) fn cases(device: Device) -> Result<Vec<Case>> {
    let slow = matches!(device, Device::Emulator | Device::Reference);
    let fits = |&(n, classes): &(usize, usize)| !slow || n * classes <= SLOW_DEVICE_ELEMENTS;
    // The processor has no kernel of its own for logits of 16 bits.
    let dtypes: &[DType] = if matches!(device, Device::Cuda(_)) { &[DType::F32, DType::BF16] } else { &[DType::F32] };
    let sizes = || SIZES.into_iter().filter(fits);
    Ok(dtypes.iter().flat_map(|&dtype| sizes().map(move |(n, classes)| case(device, n, classes, dtype))).collect())
}

fn case(device: Device, n: usize, classes: usize, dtype: DType) -> Case {
    let elements = (n * classes) as f64;
    let prepare = move || {
        let logits = |seed| random(&[n, classes], seed, device)?.to_dtype(dtype);
        let (student, teacher) = (logits(1)?.variable(), logits(2)?);
        let labels = labels(n, classes, device)?;
        let p = HintonKd { temperature: 3.0, hard_weight: 0.5, soft_weight: 0.5 };
        Ok(Box::new(move || student.hinton_kd(&teacher, &labels, p)?.total.backward().map(drop)) as _)
    };
    let of_dtype = if dtype == DType::F32 { String::new() } else { format!("{dtype}_") };
    // Two reads and a write for each class.
    let bytes = 3.0 * dtype.size() as f64 * elements;
    Case::new(format!("kd_loss_fwd_bwd_{of_dtype}{n}x{classes}"), prepare).costing(14.0 * elements, bytes)
}
