//! What tensor cores would round, rounded: with `--precision tf32`, `bf16` or `f16` the processor computes what a GPU would, and says how accurate a
//! training would be there. It is not faster for it.

use crate::backend::params::Conv2dGeometry;
use crate::backend::precision::{self, Precision};
use crate::error::Result;
use crate::tensor::Tensor;
use half::{bf16, f16};

/// What an operand of a product is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// An activation or a weight.
    Value,
    /// A gradient, which half precision rounds at a scale.
    Gradient,
}

/// An operand of a matrix product as the active precision sees it.
pub(super) fn operand(x: &Tensor, is: Operand) -> Tensor {
    match precision::active() {
        Precision::F32 => x.detach(),
        Precision::Tf32 => rounded(x, to_tf32),
        Precision::Bf16 => rounded(x, |value| bf16::from_f32(value).to_f32()),
        Precision::F16 => {
            let scale = if is == Operand::Gradient { Precision::F16.gradient_scale() } else { 1.0 };
            rounded(x, |value| to_f16(value, scale))
        }
    }
}

/// An operand of a convolution, which stays as it is where tensor cores do not serve it.
pub(super) fn of_convolution(g: &Conv2dGeometry, x: &Tensor, is: Operand) -> Tensor {
    if rounds(g) {
        operand(x, is)
    } else {
        x.detach()
    }
}

/// Whether operands of this convolution are rounded at the active precision.
pub(super) fn rounds(g: &Conv2dGeometry) -> bool {
    precision::active() != Precision::F32 && !g.is_first_layer() && !g.is_depthwise()
}

/// The gradients of a weight, of operands as the active precision sees them, and of a bias, which is a sum and no product: of what was not
/// rounded.
pub(super) fn weight_of_rounded<Bias>(
    x: &Tensor,
    dy: &Tensor,
    gradients: impl Fn(&Tensor, &Tensor) -> Result<(Tensor, Bias)>,
) -> Result<(Tensor, Bias)> {
    let (x_rounded, dy_rounded) = (operand(x, Operand::Value), operand(dy, Operand::Gradient));
    precision::with(Precision::F32, || Ok((gradients(&x_rounded, &dy_rounded)?.0, gradients(x, dy)?.1)))
}

fn rounded(x: &Tensor, round: impl Fn(f32) -> f32) -> Tensor {
    super::build(*x.shape(), |y| y.iter_mut().zip(x.slice::<f32>()).for_each(|(y, &x)| *y = round(x)))
}

/// To 10 bits behind the point, ties away from zero, as `cvt.rna.tf32` does it.
fn to_tf32(value: f32) -> f32 {
    match value.is_finite() {
        true => f32::from_bits((value.to_bits() + 0x1000) & !0x1fff),
        false => value,
    }
}

/// To half precision, multiplied by a power of two while it is that.
fn to_f16(value: f32, scale: f32) -> f32 {
    f16::from_f32(value * scale).to_f32() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_moves_the_range_of_half_precision() {
        let cases = [
            (1.0 + 2f32.powi(-11), 1.0, 1.0),
            (1.0 + 2f32.powi(-10), 1.0, 1.0 + 2f32.powi(-10)),
            (2f32.powi(-26), 1.0, 0.0),
            (2f32.powi(-26), 1024.0, 2f32.powi(-26)),
            (2f32.powi(-34), 1024.0, 2f32.powi(-34)),
            (63.9, 1024.0, 63.90625),
            (64.0, 1024.0, f32::INFINITY),
            (-70_000.0, 1.0, f32::NEG_INFINITY),
        ];
        cases
            .iter()
            .for_each(|&(value, scale, expected)| assert_eq!(to_f16(value, scale), expected, "{value} {scale}"));
        assert!(to_f16(f32::NAN, 1.0).is_nan());
    }

    #[test]
    fn tf32_keeps_ten_bits_behind_the_point() {
        let cases = [
            (1.0, 1.0),
            (1.0 + 2f32.powi(-10), 1.0 + 2f32.powi(-10)),
            (1.0 + 2f32.powi(-11), 1.0 + 2f32.powi(-10)),
            (-1.0 - 2f32.powi(-11), -1.0 - 2f32.powi(-10)),
            (1.0 + 2f32.powi(-12), 1.0),
            (0.0, 0.0),
            (f32::INFINITY, f32::INFINITY),
        ];
        cases.iter().for_each(|&(value, expected)| assert_eq!(to_tf32(value), expected, "{value}"));
        assert!(to_tf32(f32::NAN).is_nan());
    }
}
