//! Which instruction set the kernels use: found once per process, or forced with `KDENGINE_ISA`.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

use super::simd::{Portable, Simd};

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "KDENGINE_ISA";

/// A family of vector instructions the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ and VL: 16 lanes, 32 registers.
    Avx512,
    /// x86-64 with AVX2 and FMA: 8 lanes, 16 registers.
    Avx2,
    /// AArch64: 4 lanes, 32 registers.
    Neon,
    /// Plain Rust, for any processor.
    Portable,
}

impl Isa {
    const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// The name accepted by `KDENGINE_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        }
    }

    /// Every instruction set this machine can run, the fastest first. `Portable` is always among them.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
            Isa::Portable => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Runs a kernel compiled for this instruction set. Callers get `self` from [`active`], which only hands out
    /// instruction sets the machine has.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` is available on this machine, so the target features of the callee are present.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => run_avx512(kernel),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => run_avx2(kernel),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => run_neon(kernel),
                _ => kernel.run::<Portable>(),
            }
        }
    }

    /// Runs a plain loop with this instruction set enabled, for the compiler to vectorise.
    pub(crate) fn vectorise<R>(self, body: impl FnOnce() -> R) -> R {
        self.run(Plain(body))
    }

    /// The number of f32 lanes in one vector register.
    pub(crate) fn lanes(self) -> usize {
        struct Lanes;
        impl Kernel for Lanes {
            type Output = usize;
            #[inline(always)]
            unsafe fn run<S: Simd>(self) -> usize {
                S::LANES
            }
        }
        self.run(Lanes)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Code written once over [`Simd`] and compiled for every instruction set.
///
/// `run` and all it calls must be `#[inline(always)]`, so that it is compiled inside a function that has the target
/// features; a closure over vectors is not, and costs a call per instruction.
pub(crate) trait Kernel {
    type Output;

    /// # Safety
    /// The machine must have the instruction set of `S`.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

struct Plain<F>(F);

impl<R, F: FnOnce() -> R> Kernel for Plain<F> {
    type Output = R;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> R {
        (self.0)()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<super::simd::Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<super::simd::Avx2>()
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn run_neon<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<super::simd::Neon>()
}

/// The instruction set asked for by `KDENGINE_ISA`, or the fastest one when the variable is unset.
///
/// # Errors
/// One line naming the choices when the variable holds an unknown name or one this machine lacks. Check it once at start.
pub fn from_environment() -> Result<Isa, String> {
    match std::env::var_os(ISA_VARIABLE) {
        None => Ok(fastest()),
        Some(name) => parse(&name.to_string_lossy()),
    }
}

fn parse(name: &str) -> Result<Isa, String> {
    let choices = || Isa::available().map(Isa::name).collect::<Vec<_>>().join(", ");
    match Isa::ALL.into_iter().find(|isa| isa.name() == name) {
        Some(isa) if isa.is_available() => Ok(isa),
        Some(_) => Err(format!("{ISA_VARIABLE}={name}: this machine does not have it; use one of {}", choices())),
        None => Err(format!("{ISA_VARIABLE}={name}: unknown instruction set; use one of {}", choices())),
    }
}

fn fastest() -> Isa {
    Isa::available().next().unwrap_or(Isa::Portable)
}

thread_local! {
    static OVERRIDE: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// The instruction set of kernels called from this thread. Kernels read it once, before they go parallel.
pub fn active() -> Isa {
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    OVERRIDE.get().unwrap_or_else(|| *CHOSEN.get_or_init(|| from_environment().unwrap_or_else(|_| fastest())))
}

/// Runs `body` with `isa` for every kernel it calls from this thread. Tests use it to visit all that the machine has.
///
/// # Panics
/// When this machine does not have `isa`.
pub fn with<R>(isa: Isa, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    assert!(isa.is_available(), "this machine does not have {isa}");
    let _restore = Restore(OVERRIDE.replace(Some(isa)));
    body()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_instruction_set_is_known_and_present_or_refused_with_the_choices() {
        assert_eq!(parse("portable"), Ok(Isa::Portable));
        let unknown = parse("sse9").unwrap_err();
        assert!(unknown.contains("unknown") && unknown.contains("portable"), "{unknown}");
        for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
            assert!(parse(isa.name()).unwrap_err().contains("does not have it"));
        }
    }
}
