//! Functions applied to every element.

use super::case::{sample_away_from_zero, sample_normal, sample_positive, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::backend::params::Unary;
use crate::error::Result;
use crate::tensor::Tensor;

impl Tensor {
    /// One of the functions of [`Unary`], which the methods below name.
    pub fn unary(&self, f: Unary) -> Result<Tensor> {
        check::float(f.name(), "self", self)?;
        let x = self.detach();
        let y = self.backend().unary(f, &x)?;
        let kept = y.clone();
        let cost = Cost::new(self.numel() as f64, &[self, &y]);
        record(f.name(), cost, y, &[self], move |dy, _| Ok(vec![Some(x.backend().unary_grad(f, &x, &kept, dy)?)]))
    }

    /// max(x, 0). The derivative at 0 is 0.
    pub fn relu(&self) -> Result<Tensor> {
        self.unary(Unary::Relu)
    }

    /// 1 / (1 + e^−x).
    pub fn sigmoid(&self) -> Result<Tensor> {
        self.unary(Unary::Sigmoid)
    }

    /// Hyperbolic tangent.
    pub fn tanh(&self) -> Result<Tensor> {
        self.unary(Unary::Tanh)
    }

    /// x · Φ(x) with the exact error function (Hendrycks & Gimpel 2016).
    pub fn gelu(&self) -> Result<Tensor> {
        self.unary(Unary::Gelu)
    }

    /// GELU's tanh approximation: ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
    pub fn gelu_tanh(&self) -> Result<Tensor> {
        self.unary(Unary::GeluTanh)
    }

    /// x · σ(x), also called swish (Ramachandran et al. 2017).
    pub fn silu(&self) -> Result<Tensor> {
        self.unary(Unary::Silu)
    }

    /// x · relu6(x + 3) / 6 (Howard et al. 2019).
    pub fn hardswish(&self) -> Result<Tensor> {
        self.unary(Unary::Hardswish)
    }

    /// e^x.
    pub fn exp(&self) -> Result<Tensor> {
        self.unary(Unary::Exp)
    }

    /// Natural logarithm.
    pub fn log(&self) -> Result<Tensor> {
        self.unary(Unary::Log)
    }

    /// Square root.
    pub fn sqrt(&self) -> Result<Tensor> {
        self.unary(Unary::Sqrt)
    }

    /// x².
    pub fn square(&self) -> Result<Tensor> {
        self.unary(Unary::Square)
    }

    /// |x|. The derivative at 0 is 0.
    pub fn abs(&self) -> Result<Tensor> {
        self.unary(Unary::Abs)
    }

    /// `scale · x + shift` with constants.
    pub fn affine(&self, scale: f64, shift: f64) -> Result<Tensor> {
        check::float("affine", "self", self)?;
        let y = self.backend().affine(&self.detach(), scale, shift)?;
        let cost = Cost::new(2.0 * self.numel() as f64, &[self, &y]);
        record("affine", cost, y, &[self], move |dy, _| Ok(vec![Some(dy.backend().affine(dy, scale, 0.0)?)]))
    }
}

impl Unary {
    /// The op's name.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Relu => "relu",
            Unary::Sigmoid => "sigmoid",
            Unary::Tanh => "tanh",
            Unary::Gelu => "gelu",
            Unary::GeluTanh => "gelu_tanh",
            Unary::Silu => "silu",
            Unary::Hardswish => "hardswish",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Sqrt => "sqrt",
            Unary::Square => "square",
            Unary::Abs => "abs",
        }
    }
}

macro_rules! spec {
    ($method:ident, $sample:expr) => {
        OpSpec {
            name: stringify!($method),
            run: |case| Ok(vec![("y", case.tensor("x")?.$method()?)]),
            sample: Some(|random| Case::new().input("x", $sample(random))),
        }
    };
}

pub(super) const SPECS: &[OpSpec] = &[
    spec!(relu, |r| sample_away_from_zero(r, &[3, 5], 0.01)),
    spec!(abs, |r| sample_away_from_zero(r, &[3, 5], 0.01)),
    spec!(sigmoid, |r| sample_normal(r, &[3, 5])),
    spec!(tanh, |r| sample_normal(r, &[3, 5])),
    spec!(gelu, |r| sample_normal(r, &[3, 5])),
    spec!(gelu_tanh, |r| sample_normal(r, &[3, 5])),
    spec!(silu, |r| sample_normal(r, &[3, 5])),
    spec!(hardswish, |r| sample_normal(r, &[3, 5])),
    spec!(exp, |r| sample_normal(r, &[3, 5])),
    spec!(square, |r| sample_normal(r, &[3, 5])),
    spec!(log, |r| sample_positive(r, &[3, 5])),
    spec!(sqrt, |r| sample_positive(r, &[3, 5])),
];
