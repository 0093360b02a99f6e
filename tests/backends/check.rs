//! Comparing a kernel's outputs among backends.

use super::kernels::Kernel;
use kdengine::backend::cpu::kernels::isa::{self, Isa};
#[cfg(feature = "emulator")]
use kdengine::backend::cuda::{emulator::with_schedule, gpu_count};
use kdengine::{backend, DType, Device, Tensor};
use rayon::ThreadPool;
use std::sync::LazyLock;

/// Pools of one, two and three threads.
pub static POOLS: LazyLock<[ThreadPool; 3]> =
    LazyLock::new(|| [1, 2, 3].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()));

/// The CPU with every instruction set that it has, with one, two and three threads.
pub fn cpu(name: &str, inputs: &[Tensor], kernel: Kernel) {
    let expected = run(Device::Reference, inputs, kernel);
    for set in Isa::available() {
        let run_with = |pool: &ThreadPool| pool.install(|| isa::with(set, || run(Device::Cpu, inputs, kernel)));
        compare(&format!("{name} with {set}"), Device::Cpu, &POOLS.each_ref().map(run_with), &expected);
    }
}

/// The CUDA kernels on the emulator, under eight schedules, and on a GPU where there is one.
#[cfg(feature = "emulator")]
pub fn cuda(name: &str, inputs: &[Tensor], kernel: Kernel) {
    cuda_schedules(name, inputs, kernel, 8);
}

/// As [`cuda`], under one schedule, for work that takes long.
#[cfg(feature = "emulator")]
pub fn cuda_once(name: &str, inputs: &[Tensor], kernel: Kernel) {
    cuda_schedules(name, inputs, kernel, 1);
}

/// The CUDA kernels on a GPU alone, where there is one, for what the emulator would take too long for.
#[cfg(feature = "emulator")]
pub fn gpu(name: &str, inputs: &[Tensor], kernel: Kernel) {
    if gpu_count() > 0 {
        let expected = run(Device::Reference, inputs, kernel);
        compare(name, Device::Cuda(0), &[run(Device::Cuda(0), inputs, kernel)], &expected);
    }
}

#[cfg(feature = "emulator")]
fn cuda_schedules(name: &str, inputs: &[Tensor], kernel: Kernel, schedules: u64) {
    let expected = run(Device::Reference, inputs, kernel);
    let runs: Vec<Vec<Tensor>> =
        (0..schedules).map(|seed| with_schedule(seed, || run(Device::Emulator, inputs, kernel))).collect();
    compare(name, Device::Emulator, &runs, &expected);
    gpu(name, inputs, kernel);
}

/// A kernel's outputs on a device.
pub fn run(device: Device, inputs: &[Tensor], kernel: Kernel) -> Vec<Tensor> {
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_device(device).unwrap()).collect();
    kernel(backend::of(device), &inputs)
}

/// All runs have the same bits, and agree with what is expected; errors are relative to the largest value, which is what sums are
/// rounded to. What is rounded to `bf16` may be a unit of that off.
fn compare(name: &str, device: Device, runs: &[Vec<Tensor>], expected: &[Tensor]) {
    for (i, expected) in expected.iter().enumerate() {
        let found = &runs[0][i];
        assert_eq!((found.shape(), found.dtype(), found.device()), (expected.shape(), expected.dtype(), device));
        let bytes = |t: &Tensor| t.to_host().unwrap().storage().bytes().to_vec();
        let first = bytes(found);
        assert!(
            runs.iter().all(|run| bytes(&run[i]) == first),
            "{name} on {device}: output {i} depends on the order in which threads run"
        );
        let (found, expected) = (found.to_f64_vec().unwrap(), expected.to_f64_vec().unwrap());
        let (least, tolerance) = if runs[0][i].dtype() == DType::BF16 { (1e-3, 2f64.powi(-7)) } else { (1.0, 2e-5) };
        let scale = expected.iter().fold(least, |max: f64, x| max.max(x.abs()));
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / scale).fold(0.0f64, nan_wins);
        assert!(
            worst <= tolerance,
            "{name} on {device}: output {i} is off by {worst:.1e} of the largest value {scale:.1e}"
        );
    }
}

fn nan_wins(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}
