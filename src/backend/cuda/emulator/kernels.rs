//! The table of compiled kernels.

use std::collections::HashMap;
use std::ffi::{c_char, c_void, CStr};
use std::sync::LazyLock;

/// `EmulatedKernel` in `registry.h`.
#[repr(C)]
struct EmulatedKernel {
    name: *const c_char,
    call: unsafe extern "C" fn(*const *const c_void),
    sizes: *const usize,
    arguments: usize,
    most_threads: u32,
    cluster: u32,
}

include!(concat!(env!("OUT_DIR"), "/emulator/emulated.rs"));

/// A kernel that can be called.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// Runs one thread, which finds out where it is from `emulated_place`.
    pub call: unsafe extern "C" fn(*const *const c_void),
    /// Bytes of each argument.
    pub sizes: &'static [usize],
    /// Threads that a block may have.
    pub most_threads: u32,
    /// Blocks of a cluster, 1 for kernels without.
    pub cluster: u32,
}

static KERNELS: LazyLock<HashMap<&'static str, Kernel>> = LazyLock::new(|| {
    let mut kernels = HashMap::new();
    for (table, count) in tables() {
        // SAFETY: the build script made tables of constants with this layout and these counts.
        for kernel in unsafe { std::slice::from_raw_parts(table, count) } {
            let (name, sizes) =
                unsafe { (CStr::from_ptr(kernel.name), std::slice::from_raw_parts(kernel.sizes, kernel.arguments)) };
            let name = name.to_str().expect("kernels have ASCII names");
            let EmulatedKernel { call, most_threads, cluster, .. } = *kernel;
            kernels.insert(name, Kernel { call, sizes, most_threads, cluster });
        }
    }
    kernels
});

/// The kernel with this name.
pub(super) fn kernel(name: &str) -> Option<Kernel> {
    KERNELS.get(name).copied()
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use super::KERNELS;
    use crate::backend::cuda::binaries::{file_of, sources};

    #[test]
    fn the_gpu_finds_every_kernel_that_the_emulator_has() {
        let planted_bugs = sources().iter().all(|source| source.name != "broken.cu");
        assert!(planted_bugs, "the emulator's broken kernels are not shipped");
        let missing: Vec<&str> = KERNELS.keys().copied().filter(|kernel| file_of(kernel).is_none()).collect();
        assert_eq!(missing.len(), 30, "only the planted bugs: {missing:?}");
    }
}
