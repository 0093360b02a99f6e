//! The formats of operands on tensor cores.

use crate::backend::precision::{self, Precision};

/// What the operands of a product on tensor cores are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Tf32,
    Bf16,
    F16,
}

impl Format {
    pub const ALL: [Format; 3] = [Format::Tf32, Format::Bf16, Format::F16];

    /// That of the precision which was asked for; `f32` has none.
    pub fn active() -> Option<Format> {
        match precision::active() {
            Precision::F32 => None,
            Precision::Tf32 => Some(Format::Tf32),
            Precision::Bf16 => Some(Format::Bf16),
            Precision::F16 => Some(Format::F16),
        }
    }

    /// Numbers in a word of 32 bits.
    pub fn in_a_word(self) -> usize {
        match self {
            Format::Tf32 => 1,
            Format::Bf16 | Format::F16 => 2,
        }
    }
}

/// `Scale` in `kernels/tile_product.cuh`: what an operand is multiplied by before it is rounded, and the inverse.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Scale {
    by: f32,
    back: f32,
}

impl Scale {
    /// Of all but gradients.
    pub(super) const ONE: Scale = Scale { by: 1.0, back: 1.0 };

    /// Of a gradient in a format; in `f32` nothing is scaled.
    pub(super) fn of_gradient(format: Option<Format>) -> Scale {
        let by = match format {
            Some(Format::F16) => Precision::F16.gradient_scale(),
            Some(Format::Tf32 | Format::Bf16) | None => return Scale::ONE,
        };
        Scale { by, back: 1.0 / by }
    }
}
