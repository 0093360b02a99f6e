//! The fused distillation loss, forward and backward, from the notebook's ten classes to a language model's vocabulary.

use super::cases::Case;
use super::kernels::{labels, random};
use crate::backend::params::HintonKd;
use crate::error::Result;
use crate::tensor::Device;

const SIZES: [(usize, usize); 5] = [(128, 10), (4096, 100), (1024, 1000), (512, 32_000), (256, 128_256)];
/// The emulator and the reference would take minutes for more elements.
const SLOW_DEVICE_ELEMENTS: usize = 100_000;

pub(super) fn cases(device: Device) -> Result<Vec<Case>> {
    let slow = matches!(device, Device::Emulator | Device::Reference);
    let fits = |&(n, classes): &(usize, usize)| !slow || n * classes <= SLOW_DEVICE_ELEMENTS;
    Ok(SIZES.into_iter().filter(fits).map(|(n, classes)| case(device, n, classes)).collect())
}

fn case(device: Device, n: usize, classes: usize) -> Case {
    let elements = (n * classes) as f64;
    let prepare = move || {
        let (student, teacher) = (random(&[n, classes], 1, device)?.variable(), random(&[n, classes], 2, device)?);
        let labels = labels(n, classes, device)?;
        let p = HintonKd { temperature: 3.0, hard_weight: 0.5, soft_weight: 0.5 };
        Ok(Box::new(move || student.hinton_kd(&teacher, &labels, p)?.total.backward().map(drop)) as _)
    };
    // Two reads and a write for each class.
    Case::new(format!("kd_loss_fwd_bwd_{n}x{classes}"), prepare).costing(14.0 * elements, 12.0 * elements)
}
