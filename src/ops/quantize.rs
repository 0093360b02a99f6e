//! Rounding with straight-through gradients (Bengio et al. 2013): what quantisation-aware training computes with. And the indicator
//! from which masks are made.

use super::case::OpSpec;
use super::check;
use crate::autograd::{no_grad, record, Cost};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Far below every number that matters and far above the smallest normal `f32`.
const TINY: f64 = 1e-30;

impl Tensor {
    /// 1 where the element is above 0 (by more than 1e-23), else 0. Not differentiable.
    pub fn is_positive(&self) -> Result<Tensor> {
        no_grad(|| {
            let positive = self.detach().relu()?;
            positive.div(&positive.affine(1.0, TINY)?)
        })
    }

    /// `clamp(round(x / scale), −limit, limit) · scale`, rounding half to even: what an integer grid makes of `x`. The gradient passes
    /// unchanged inside the range and is 0 outside.
    ///
    /// # Errors
    /// The scale is not above 0, or the limit is 0 or beyond 2²⁰.
    pub fn fake_quantize(&self, scale: f64, limit: u32) -> Result<Tensor> {
        const OP: &str = "fake_quantize";
        check::float(OP, "x", self)?;
        if !(scale > 0.0 && scale.is_finite()) || limit == 0 || limit > 1 << 20 {
            let reason = format!("scale {scale} and limit {limit}; expected a scale above 0 and a limit of 1 to 2^20");
            return Err(Error::argument(OP, reason));
        }
        let limit = f64::from(limit);
        let (y, inside) = no_grad(|| {
            // Adding and subtracting 1.5 · 2^(mantissa bits) rounds to a whole number, half to even, as the hardware rounds.
            let shift = if self.dtype() == DType::F64 { 6_755_399_441_055_744.0 } else { 12_582_912.0 };
            let rounded = self.detach().affine(1.0 / scale, 0.0)?.affine(1.0, shift)?.affine(1.0, -shift)?;
            let from_low = rounded.affine(1.0, limit)?.relu()?;
            let above = rounded.affine(1.0, -limit)?.relu()?;
            let clamped = from_low.sub(&above)?.affine(1.0, -limit)?;
            let inside = rounded.abs()?.affine(-1.0, limit + 1.0)?.is_positive()?;
            Ok::<_, Error>((clamped.affine(scale, 0.0)?, inside))
        })?;
        let cost = Cost::new(8.0 * self.numel() as f64, &[self, &y]);
        record(OP, cost, y, &[self], move |dy, _| Ok(vec![Some(dy.mul(&inside)?)]))
    }

    /// `α · sign(x)` where |x| > 0.7 · mean |x|, else 0, with α the mean |x| of those elements (Li, Zhang & Liu 2016, eqs. 5 and 6). The
    /// gradient passes unchanged.
    pub fn ternarize(&self) -> Result<Tensor> {
        const OP: &str = "ternarize";
        check::float(OP, "x", self)?;
        let y = no_grad(|| {
            let size = self.detach().abs()?;
            let large = size.sub(&size.mean_all()?.affine(0.7, 0.0)?)?.is_positive()?;
            let positive = self.detach().is_positive()?;
            let scale = size.mul(&large)?.sum_all()?.div(&large.sum_all()?.affine(1.0, TINY)?)?;
            positive.affine(2.0, -1.0)?.mul(&large)?.mul(&scale)
        })?;
        let cost = Cost::new(8.0 * self.numel() as f64, &[self, &y]);
        record(OP, cost, y, &[self], move |dy, _| Ok(vec![Some(dy.clone())]))
    }

    /// `mean |x| · sign(x)` with sign(0) = 1 (Rastegari et al. 2016, XNOR-Net): the best approximation of `x` by one scale and signs.
    /// The gradient passes where |x| ≤ 1 and is 0 elsewhere (Courbariaux et al. 2016); the scale counts as a constant.
    pub fn binarize(&self) -> Result<Tensor> {
        const OP: &str = "binarize";
        check::float(OP, "x", self)?;
        let (y, inside) = no_grad(|| {
            let x = self.detach();
            let sign = x.affine(-1.0, 0.0)?.is_positive()?.affine(-2.0, 1.0)?;
            let outside = x.abs()?.affine(1.0, -1.0)?.is_positive()?;
            Ok::<_, Error>((sign.mul(&x.abs()?.mean_all()?)?, outside.affine(-1.0, 1.0)?))
        })?;
        let cost = Cost::new(6.0 * self.numel() as f64, &[self, &y]);
        record(OP, cost, y, &[self], move |dy, _| Ok(vec![Some(dy.mul(&inside)?)]))
    }
}

/// The limit of signed 8-bit numbers that are symmetric round 0.
const INT8_LIMIT: u32 = 127;

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "fake_quant_int8",
        run: |case| {
            case.require("qmax", 127)?;
            case.require("qmin", -127)?;
            case.require("rounding", "half to even")?;
            case.require("gradient", "straight-through inside the range, 0 outside")?;
            Ok(vec![("y", case.tensor("x")?.fake_quantize(case.number("scale")?, INT8_LIMIT)?)])
        },
        sample: None, // A step function: its finite differences are not the straight-through gradient.
    },
    OpSpec {
        name: "binarize_ste",
        run: |case| {
            case.require("scale", "mean |x|, treated as a constant")?;
            case.require("sign(0)", 1)?;
            case.require("gradient", "g where |x| <= 1, else 0")?;
            Ok(vec![("y", case.tensor("x")?.binarize()?)])
        },
        sample: None,
    },
];
