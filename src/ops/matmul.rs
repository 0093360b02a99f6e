//! Batched matrix product.

use super::case::{sample_extent, sample_normal, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::backend::params::{Binary, Matmul, Side};
use crate::error::Result;
use crate::tensor::{Shape, Tensor};

const PLAIN: Matmul = Matmul { transpose_a: false, transpose_b: false, relu: false, gradient: None };
const A_TRANSPOSED: Matmul = Matmul { transpose_a: true, ..PLAIN };
const B_TRANSPOSED: Matmul = Matmul { transpose_b: true, ..PLAIN };

impl Tensor {
    /// The product of matrices `[…, m, k]` and `[…, k, n]`, over the last two dimensions. Batch dimensions are equal; if `other`
    /// has none, it serves the whole batch.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        self.product("matmul", other, false)
    }

    /// As [`Tensor::matmul`], with `other` read transposed: `[…, m, k] · […, n, k]ᵀ`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn matmul_transposed(&self, other: &Tensor) -> Result<Tensor> {
        self.product("matmul_transposed", other, true)
    }

    /// `x·xᵀ`, `[n, n]`: the inner products of all pairs of rows of this matrix `[n, features]`.
    ///
    /// # Errors
    /// It is no matrix.
    pub fn gram(&self) -> Result<Tensor> {
        const OP: &str = "gram";
        check::float(OP, "x", self)?;
        let [n, features] = **self.shape() else {
            return Err(check::shape_error(OP, "x", self, "[n, features]".to_string()));
        };
        let x = self.detach();
        let y = x.backend().gram(&x)?;
        let cost = Cost::new((n * (n + 1) * features) as f64, &[&x, &y]);
        record(OP, cost, y, &[self], move |dy, _| {
            let backend = dy.backend();
            let both = backend.binary(Binary::Add, dy, &backend.permute(dy, &[1, 0])?)?;
            Ok(vec![Some(backend.matmul(of_gradient(Side::A, PLAIN), &both, &x, None)?)])
        })
    }

    fn product(&self, op: &'static str, other: &Tensor, transposed: bool) -> Result<Tensor> {
        check::alike(op, self, "b", other)?;
        check_shapes(op, self, other, transposed)?;
        let (a, b) = (self.detach(), other.detach());
        let y = a.backend().matmul(if transposed { B_TRANSPOSED } else { PLAIN }, &a, &b, None)?;
        let inner = a.shape()[a.shape().rank() - 1];
        let cost = Cost::new(2.0 * (y.numel() * inner) as f64, &[&a, &b, &y]);
        record(op, cost, y, &[self, other], move |dy, needed| {
            let backend = dy.backend();
            let da = || {
                let p = if transposed { PLAIN } else { B_TRANSPOSED };
                backend.matmul(of_gradient(Side::A, p), dy, &b, None)
            };
            let db = || {
                // A matrix that served the whole batch sees the batch as more rows.
                let shared = b.shape().rank() < a.shape().rank();
                let (a, dy) = if shared { (as_rows(&a)?, as_rows(dy)?) } else { (a.clone(), dy.clone()) };
                match transposed {
                    true => backend.matmul(of_gradient(Side::A, A_TRANSPOSED), &dy, &a, None),
                    false => backend.matmul(of_gradient(Side::B, A_TRANSPOSED), &a, &dy, None),
                }
            };
            Ok(vec![needed[0].then(da).transpose()?, needed[1].then(db).transpose()?])
        })
    }
}

/// The product, of an operand that is a gradient.
fn of_gradient(side: Side, p: Matmul) -> Matmul {
    Matmul { gradient: Some(side), ..p }
}

/// The tensor as a matrix of its last dimension's rows.
pub(super) fn as_rows(x: &Tensor) -> Result<Tensor> {
    let (columns, lead) = x.shape().split_last().expect("a tensor with at least one dimension");
    Ok(x.with_shape(Shape::new(&[lead.iter().product(), *columns])?))
}

fn check_shapes(op: &'static str, a: &Tensor, b: &Tensor, transposed: bool) -> Result<()> {
    let [.., _, k] = **a.shape() else {
        return Err(check::shape_error(op, "a", a, "[…, m, k]".to_string()));
    };
    let batch = &a.shape()[..a.shape().rank() - 2];
    let fits = match (b.shape().dims(), transposed) {
        ([.., rows, _], false) => *rows == k,
        ([.., _, columns], true) => *columns == k,
        _ => false,
    };
    let b_batch = &b.shape()[..b.shape().rank().saturating_sub(2)];
    if fits && (b_batch.is_empty() || b_batch == batch) {
        return Ok(());
    }
    let matrix = if transposed { format!("n, {k}]") } else { format!("{k}, n]") };
    let batch: String = batch.iter().map(|extent| format!("{extent}, ")).collect();
    let expected = if batch.is_empty() { format!("[{matrix}") } else { format!("[{batch}{matrix} or [{matrix}") };
    Err(check::shape_error(op, "b", b, format!("{expected} to multiply {:?}", a.shape())))
}

macro_rules! spec {
    ($method:ident, $transposed:expr) => {
        OpSpec {
            name: stringify!($method),
            run: |case| Ok(vec![("y", case.tensor("a")?.$method(&case.tensor("b")?)?)]),
            sample: Some(|random| {
                let [m, k, n] = [(); 3].map(|()| sample_extent(random, 1, 4));
                let matrix = if $transposed { [n, k] } else { [k, n] };
                let batches: [[&[usize]; 2]; 4] = [[&[], &[]], [&[3], &[3]], [&[2, 2], &[2, 2]], [&[2, 3], &[]]];
                let [a_batch, b_batch] = batches[random.below(4) as usize];
                Case::new()
                    .input("a", sample_normal(random, &[a_batch, &[m, k]].concat()))
                    .input("b", sample_normal(random, &[b_batch, &matrix].concat()))
            }),
        }
    };
}

const GRAM: OpSpec = OpSpec {
    name: "gram",
    run: |case| Ok(vec![("y", case.tensor("x")?.gram()?)]),
    sample: Some(|random| {
        let [n, features] = [(); 2].map(|()| sample_extent(random, 1, 4));
        Case::new().input("x", sample_normal(random, &[n, features]))
    }),
};

pub(super) const SPECS: &[OpSpec] = &[spec!(matmul, false), spec!(matmul_transposed, true), GRAM];
