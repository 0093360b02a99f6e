//! How precisely convolutions and matrix products multiply on devices with tensor cores. Everything else is computed in `f32`: weights,
//! optimisers, normalisation, losses, and the sums of these products. The CPU rounds the same operands, so that what a precision costs in
//! accuracy can be seen without a GPU; it gets no faster.

use crate::error::{Error, Result};
use crate::suggest::nearest;
use crate::tensor::Device;
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the operands of a product are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// Not at all.
    #[default]
    F32,
    /// TF32: 10 bits behind the point, the exponents of `f32`.
    Tf32,
    /// bfloat16: 7 bits behind the point, the exponents of `f32`.
    Bf16,
    /// IEEE's half precision: 10 bits behind the point, but only numbers from 2⁻²⁴ to 65,504. Gradients are scaled
    /// ([`Precision::gradient_scale`]).
    F16,
}

impl Precision {
    const ALL: [Precision; 4] = [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16];

    /// The precision with this name: `f32`, `tf32`, `bf16` or `f16`.
    ///
    /// # Errors
    /// An unknown name.
    pub fn named(name: &str) -> Result<Precision> {
        let found = Precision::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| {
            let names = Precision::ALL.map(Precision::name);
            let hint = nearest(name, &names).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
            Error::argument("precision", format!("unknown precision `{name}`; {hint}use {}", names.join(", ")))
        })
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    /// What a product's gradient is multiplied by before it is rounded; the result is divided by it. Losses are averages over a batch, so
    /// gradients are small, and half precision has too few exponents for them: unscaled, what is below 2⁻²⁵ becomes 0. Scaled they
    /// may lie between 2⁻³⁴ and 64. This is loss scaling (Micikevicius et al., ICLR 2018, section 3.2) where it is needed and nowhere else:
    /// gradients in memory are `f32` and as they are, so clipping and optimisers know nothing of it, and no step has to be
    /// skipped to find a scale.
    pub fn gradient_scale(self) -> f32 {
        match self {
            Precision::F16 => 1024.0,
            Precision::F32 | Precision::Tf32 | Precision::Bf16 => 1.0,
        }
    }

    /// Refuses what a device cannot do.
    ///
    /// # Errors
    /// Anything but `f32` on the reference, which defines what is exact.
    pub fn check(self, device: Device) -> Result<()> {
        if self == Precision::F32 || device != Device::Reference {
            return Ok(());
        }
        let reason = format!(
            "{self} is for tensor cores; {device} does not round: choose --device cuda:0, or cpu, which rounds like one and is no faster"
        );
        Err(Error::argument("precision", reason))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The process's choice, as its place in [`Precision::ALL`].
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OVERRIDE: Cell<Option<Precision>> = const { Cell::new(None) };
}

/// Chooses the precision of all products from now on, in this process.
///
/// # Errors
/// As [`Precision::check`].
pub fn choose(precision: Precision, device: Device) -> Result<()> {
    precision.check(device)?;
    CHOSEN.store(precision as usize, Ordering::Relaxed);
    Ok(())
}

/// The precision of products that this thread asks for.
pub fn active() -> Precision {
    OVERRIDE.get().unwrap_or_else(|| Precision::ALL[CHOSEN.load(Ordering::Relaxed)])
}

/// Runs `body` with this precision for every product that it asks for from this thread.
pub fn with<R>(precision: Precision, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Precision>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let _restore = Restore(OVERRIDE.replace(Some(precision)));
    body()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_or_refused_with_the_choices() {
        for precision in Precision::ALL {
            assert_eq!(Precision::named(precision.name()).unwrap(), precision);
        }
        let error = Precision::named("fp16").unwrap_err().to_string();
        assert!(error.contains("fp16") && error.contains("bf16"), "{error}");
    }

    #[test]
    fn the_reference_refuses_all_but_f32_and_says_what_to_do() {
        assert!(Precision::F32.check(Device::Reference).is_ok());
        assert!(Precision::Bf16.check(Device::Cuda(0)).is_ok() && Precision::Bf16.check(Device::Cpu).is_ok());
        let error = Precision::Tf32.check(Device::Reference).unwrap_err().to_string();
        assert!(error.contains("tf32") && error.contains("--device cuda:0"), "{error}");
    }

    #[test]
    fn a_thread_can_have_a_precision_of_its_own() {
        let inner = with(Precision::Bf16, || (active(), with(Precision::Tf32, active), active()));
        assert_eq!(inner, (Precision::Bf16, Precision::Tf32, Precision::Bf16));
        assert_eq!(OVERRIDE.get(), None);
    }
}
