//! 2-D convolution (cross-correlation, as in PyTorch), alone and fused with ReLU and max-pooling.

use super::case::{sample_extent, sample_normal, Case, OpSpec};
use super::check;
use crate::autograd::{record, will_record, Cost};
use crate::backend::params::{Conv2dGeometry, Unary};
use crate::error::{Error, Result};
use crate::tensor::history::InputGradients;
use crate::tensor::random::Sequence;
use crate::tensor::{Shape, Tensor};

/// How a convolution's window moves. Vertical before horizontal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Pixels between neighbouring outputs.
    pub stride: [usize; 2],
    /// Zeros added on each side.
    pub padding: [usize; 2],
    /// Pixels between neighbouring kernel elements.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Conv2dOptions { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

impl Conv2dOptions {
    /// Stride 1 and this many zeros on every side.
    pub fn padded(padding: usize) -> Self {
        Conv2dOptions { padding: [padding; 2], ..Conv2dOptions::default() }
    }
}

impl Tensor {
    /// Convolution of images `[n, c_in, h, w]` with `weight: [c_out, c_in/groups, kh, kw]`, plus `bias: [c_out]`. The result is
    /// `[n, c_out, h', w']` with `h' = ⌊(h + 2·padding − dilation·(kh − 1) − 1) / stride⌋ + 1`.
    ///
    /// # Errors
    /// Shapes or options that do not fit.
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, options: Conv2dOptions) -> Result<Tensor> {
        self.convolution("conv2d", weight, bias, options, false)
    }

    /// [`Tensor::conv2d`] and ReLU in one pass.
    ///
    /// # Errors
    /// Shapes or options that do not fit.
    pub fn conv2d_relu(&self, weight: &Tensor, bias: Option<&Tensor>, options: Conv2dOptions) -> Result<Tensor> {
        self.convolution("conv2d_relu", weight, bias, options, true)
    }

    fn convolution(
        &self,
        op: &'static str,
        weight: &Tensor,
        bias: Option<&Tensor>,
        options: Conv2dOptions,
        relu: bool,
    ) -> Result<Tensor> {
        let g = geometry(op, self, weight, bias, options)?;
        let (x, w) = (self.detach(), weight.detach());
        let y = x.backend().conv2d(&g, &x, &w, bias.map(Tensor::detach).as_ref(), relu)?;
        let kept = relu.then(|| y.clone());
        let cost = Cost::new(g.flops(), &[&x, &w, &y]);
        let inputs: Vec<&Tensor> = [self, weight].into_iter().chain(bias).collect();
        record(op, cost, y, &inputs, move |dy, needed| match kept {
            Some(y) => dense_gradients(&g, &x, &w, &dy.backend().unary_grad(Unary::Relu, &y, &y, dy)?, needed),
            None => dense_gradients(&g, &x, &w, dy, needed),
        })
    }

    /// [`Tensor::conv2d`], ReLU and 2×2 max-pooling (stride 2, incomplete windows dropped) in one pass. It keeps one byte per
    /// output instead of the convolution's result.
    ///
    /// # Errors
    /// Shapes or options that do not fit.
    pub fn conv2d_relu_pool(&self, weight: &Tensor, bias: &Tensor, options: Conv2dOptions) -> Result<Tensor> {
        let op = "conv2d_relu_pool";
        let g = geometry(op, self, weight, Some(bias), options)?;
        if g.out_h() < 2 || g.out_w() < 2 {
            let found = format!("a convolution output of {}×{}", g.out_h(), g.out_w());
            return Err(Error::Shape { op, arg: "self", expected: "at least 2×2 pixels to pool".to_string(), found });
        }
        let (x, w) = (self.detach(), weight.detach());
        let (inputs, backend) = ([self, weight, bias], x.backend());
        let (y, winner) = match will_record(&inputs) {
            true => {
                let (y, winner) = backend.conv2d_relu_pool(&g, &x, &w, &bias.detach())?;
                (y, Some(winner))
            }
            false => (backend.conv2d_relu_pool_only(&g, &x, &w, &bias.detach())?, None),
        };
        let cost = Cost::new(g.flops(), &[&x, &w, &y]);
        record(op, cost, y, &inputs, move |dy, needed| {
            let winner = winner.expect("the winners of an op that is recorded");
            let backend = dy.backend();
            let grad_input = || backend.conv2d_pooled_grad_input(&g, dy, &winner, &w);
            gradients(needed, grad_input, |_| {
                let (dw, db) = backend.conv2d_pooled_grad_weight(&g, &x, dy, &winner)?;
                Ok((dw, Some(db)))
            })
        })
    }
}

fn dense_gradients(g: &Conv2dGeometry, x: &Tensor, w: &Tensor, dy: &Tensor, needed: &[bool]) -> Result<InputGradients> {
    let backend = dy.backend();
    gradients(needed, || backend.conv2d_grad_input(g, dy, w), |bias| backend.conv2d_grad_weight(g, x, dy, bias))
}

/// Gradients of input, weight and, if there is one, bias; only those that are needed are computed. `grad_weight` is told whether that
/// of the bias is.
fn gradients(
    needed: &[bool],
    grad_input: impl FnOnce() -> Result<Tensor>,
    grad_weight: impl FnOnce(bool) -> Result<(Tensor, Option<Tensor>)>,
) -> Result<InputGradients> {
    let mut gradients = vec![None; needed.len()];
    if needed[0] {
        gradients[0] = Some(grad_input()?);
    }
    if needed[1..].contains(&true) {
        let (dw, db) = grad_weight(needed.get(2) == Some(&true))?;
        for ((gradient, value), needed) in gradients[1..].iter_mut().zip([Some(dw), db]).zip(&needed[1..]) {
            *gradient = value.filter(|_| *needed);
        }
    }
    Ok(gradients)
}

/// The sizes of a convolution, checked.
fn geometry(
    op: &'static str,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: Conv2dOptions,
) -> Result<Conv2dGeometry> {
    check::alike(op, x, "weight", weight)?;
    check::rank(op, "self", x, 4, "[n, c, h, w]")?;
    check::rank(op, "weight", weight, 4, "[c_out, c_in/groups, kh, kw]")?;
    let Conv2dOptions { stride, padding, dilation, groups } = options;
    if stride.contains(&0) || dilation.contains(&0) || groups == 0 {
        let reason = format!("stride {stride:?}, dilation {dilation:?}, groups {groups}; all must be at least 1");
        return Err(Error::argument(op, reason));
    }
    let ([n, c_in, h, w], [c_out, per_group, kh, kw]) = (extents(x), extents(weight));
    if !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
        let reason = format!("{c_in} input and {c_out} output channels do not divide into {groups} groups");
        return Err(Error::argument(op, reason));
    }
    if per_group != c_in / groups || kh == 0 || kw == 0 {
        let expected = format!("[{c_out}, {}, kh ≥ 1, kw ≥ 1] for {c_in} channels in {groups} groups", c_in / groups);
        return Err(check::shape_error(op, "weight", weight, expected));
    }
    if let Some(bias) = bias {
        check::alike(op, x, "bias", bias)?;
        check::shape(op, "bias", bias, &Shape::from([c_out]))?;
    }
    let g = Conv2dGeometry { n, c_in, h, w, c_out, kh, kw, stride, padding, dilation, groups };
    if g.out_h() == 0 || g.out_w() == 0 {
        let expected =
            format!("an image that the {kh}×{kw} kernel fits into (padding {padding:?}, dilation {dilation:?})");
        return Err(check::shape_error(op, "self", x, expected));
    }
    Ok(g)
}

fn extents(x: &Tensor) -> [usize; 4] {
    x.shape().dims().try_into().expect("a tensor of rank 4")
}

fn options(case: &Case) -> Result<Conv2dOptions> {
    let (stride, padding) = (case.pair("stride")?, case.pair("padding")?);
    Ok(Conv2dOptions { stride, padding, dilation: case.pair("dilation")?, groups: case.count("groups")? })
}

fn sample(random: &mut Sequence) -> Case {
    let groups = sample_extent(random, 1, 3);
    let [n, c_in, c_out] = [(); 3].map(|()| sample_extent(random, 1, 2));
    let (h, w) = (sample_extent(random, 5, 8), sample_extent(random, 5, 8));
    let (kh, kw) = (sample_extent(random, 1, 3), sample_extent(random, 1, 3));
    let mut pair = |low, high| vec![sample_extent(random, low, high), sample_extent(random, low, high)];
    let case = Case::new().attr("stride", pair(1, 2)).attr("padding", pair(0, 2)).attr("dilation", pair(1, 2));
    case.attr("groups", groups)
        .input("x", sample_normal(random, &[n, c_in * groups, h, w]))
        .input("weight", sample_normal(random, &[c_out * groups, c_in, kh, kw]))
        .input("bias", sample_normal(random, &[c_out * groups]))
}

macro_rules! spec {
    ($method:ident) => {
        OpSpec {
            name: stringify!($method),
            run: |case| {
                let bias = case.optional("bias");
                Ok(vec![("y", case.tensor("x")?.$method(&case.tensor("weight")?, bias.as_ref(), options(case)?)?)])
            },
            sample: Some(sample),
        }
    };
}

pub(super) const SPECS: &[OpSpec] = &[
    spec!(conv2d),
    spec!(conv2d_relu),
    OpSpec {
        name: "conv2d_relu_pool",
        run: |case| {
            let (x, weight, bias) = (case.tensor("x")?, case.tensor("weight")?, case.tensor("bias")?);
            Ok(vec![("y", x.conv2d_relu_pool(&weight, &bias, options(case)?)?)])
        },
        sample: Some(|random| sample(random).attr("stride", [1, 1]).attr("dilation", [1, 1])),
    },
];
