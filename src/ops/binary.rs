//! Arithmetic on two tensors with broadcasting.

use super::case::{sample_away_from_zero, sample_normal, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::backend::params::Binary;
use crate::error::Result;
use crate::tensor::{Shape, Tensor};

impl Tensor {
    fn binary(&self, f: Binary, other: &Tensor) -> Result<Tensor> {
        check::alike(f.name(), self, "b", other)?;
        Shape::broadcast(f.name(), self.shape(), other.shape())?;
        let (a, b) = (self.detach(), other.detach());
        let y = a.backend().binary(f, &a, &b)?;
        let cost = Cost::new(y.numel() as f64, &[&a, &b, &y]);
        // Sums and differences need only the shapes of their operands.
        let kept = matches!(f, Binary::Mul | Binary::Div).then(|| (a.clone(), b.clone()));
        let (a_shape, b_shape) = (*a.shape(), *b.shape());
        record(f.name(), cost, y, &[self, other], move |dy, needed| {
            let (da, db) = gradients(f, kept.as_ref(), dy, needed)?;
            let fit = |g: Option<Tensor>, shape: &Shape| g.map(|g| g.sum_to(shape)).transpose();
            Ok(vec![fit(da, &a_shape)?, fit(db, &b_shape)?])
        })
    }

    /// The elementwise sum, with broadcasting.
    pub fn add(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(Binary::Add, other)
    }

    /// The elementwise difference, with broadcasting.
    pub fn sub(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(Binary::Sub, other)
    }

    /// The elementwise product, with broadcasting.
    pub fn mul(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(Binary::Mul, other)
    }

    /// The elementwise quotient, with broadcasting.
    pub fn div(&self, other: &Tensor) -> Result<Tensor> {
        self.binary(Binary::Div, other)
    }
}

/// Gradients of both operands at the output's shape. `kept` holds the operands of products and quotients.
fn gradients(
    f: Binary,
    kept: Option<&(Tensor, Tensor)>,
    dy: &Tensor,
    needed: &[bool],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let when = |i: usize, g: &dyn Fn() -> Result<Tensor>| needed[i].then(g).transpose();
    match (f, kept) {
        (Binary::Mul, Some((a, b))) => Ok((when(0, &|| dy.mul(b))?, when(1, &|| dy.mul(a))?)),
        (Binary::Div, Some((a, b))) => {
            Ok((when(0, &|| dy.div(b))?, when(1, &|| dy.mul(a)?.div(&b.square()?)?.affine(-1.0, 0.0))?))
        }
        (Binary::Sub, _) => Ok((when(0, &|| Ok(dy.clone()))?, when(1, &|| dy.affine(-1.0, 0.0))?)),
        _ => Ok((when(0, &|| Ok(dy.clone()))?, when(1, &|| Ok(dy.clone()))?)),
    }
}

impl Binary {
    /// The op's name.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
        }
    }
}

macro_rules! spec {
    ($method:ident) => {
        OpSpec {
            name: stringify!($method),
            run: |case| Ok(vec![("y", case.tensor("a")?.$method(&case.tensor("b")?)?)]),
            sample: Some(|random| {
                let shapes: [[&[usize]; 2]; 4] =
                    [[&[3, 4], &[3, 4]], [&[2, 3, 4], &[4]], [&[3, 1], &[1, 4]], [&[2], &[]]];
                let [a, b] = shapes[random.below(4) as usize];
                Case::new().input("a", sample_normal(random, a)).input("b", sample_away_from_zero(random, b, 0.3))
            }),
        }
    };
}

pub(super) const SPECS: &[OpSpec] = &[spec!(add), spec!(sub), spec!(mul), spec!(div)];
