//! What kernels are told besides their tensors. Plain data, shared by all backends.

use crate::tensor::random::{normal_pair, unit_f32};
use crate::tensor::{Rng, Shape, Tensor};

/// Functions of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// max(x, 0); the derivative at 0 is 0.
    Relu,
    /// 1 / (1 + e^−x).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// x · Φ(x), exact.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// x · σ(x).
    Silu,
    /// x · min(max(x + 3, 0), 6) / 6.
    Hardswish,
    /// e^x.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// x².
    Square,
    /// |x|; the derivative at 0 is 0.
    Abs,
}

/// Functions of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
}

/// A matrix product `op(a) · op(b)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matmul {
    /// Read `a` transposed.
    pub transpose_a: bool,
    /// Read `b` transposed.
    pub transpose_b: bool,
    /// Apply ReLU to the result.
    pub relu: bool,
    /// The operand that is a loss's gradient, if one is: half precision scales it.
    pub gradient: Option<Side>,
}

/// One of a product's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// The sizes of a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatmulSizes {
    /// Products.
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// Length of the sums.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// One matrix `b` serves the whole batch.
    pub b_is_shared: bool,
    /// The shape of the result.
    pub shape: Shape,
}

impl MatmulSizes {
    /// The sizes of a product of operands whose shapes were checked.
    pub fn new(p: Matmul, a: &Shape, b: &Shape) -> MatmulSizes {
        let extents = |shape: &Shape, transposed: bool| {
            let (rows, columns) = (shape[shape.rank() - 2], shape[shape.rank() - 1]);
            if transposed {
                (columns, rows)
            } else {
                (rows, columns)
            }
        };
        let ((m, k), (_, n)) = (extents(a, p.transpose_a), extents(b, p.transpose_b));
        let shape = a.with_extent(a.rank() - 2, m).with_extent(a.rank() - 1, n);
        let batch = a[..a.rank() - 2].iter().product();
        MatmulSizes { batch, m, k, n, b_is_shared: b.rank() < a.rank(), shape }
    }
}

/// The sizes of a convolution. Vertical before horizontal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dGeometry {
    /// Images.
    pub n: usize,
    /// Input channels.
    pub c_in: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Output channels.
    pub c_out: usize,
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Pixels between neighbouring outputs.
    pub stride: [usize; 2],
    /// Zeros added on each side.
    pub padding: [usize; 2],
    /// Pixels between neighbouring kernel elements.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Conv2dGeometry {
    /// Output height; 0 if the kernel does not fit.
    pub fn out_h(&self) -> usize {
        window_count(self.h, self.kh, self.stride[0], self.padding[0], self.dilation[0])
    }

    /// Output width; 0 if the kernel does not fit.
    pub fn out_w(&self) -> usize {
        window_count(self.w, self.kw, self.stride[1], self.padding[1], self.dilation[1])
    }

    /// Whether it is of so few input channels and taps that it has kernels of its own: images come in like this.
    pub fn is_first_layer(&self) -> bool {
        self.c_in <= 4 && self.groups == 1 && self.kh * self.kw <= 49
    }

    /// Whether every group has one input channel.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.c_in
    }

    /// Multiplications and additions of the forward pass.
    pub fn flops(&self) -> f64 {
        let per_output = 2.0 * (self.c_in / self.groups * self.kh * self.kw) as f64;
        per_output * (self.n * self.c_out * self.out_h() * self.out_w()) as f64
    }
}

/// How many windows fit along one dimension.
fn window_count(len: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> usize {
    let reach = dilation * (kernel - 1) + 1;
    (len + 2 * padding).checked_sub(reach).map_or(0, |room| room / stride + 1)
}

/// The sizes of a pooling op. Windows are square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Pixels between neighbouring windows.
    pub stride: usize,
    /// Pixels added on each side.
    pub padding: usize,
}

impl Pool2d {
    /// Output height; incomplete windows are dropped.
    pub fn out_h(&self) -> usize {
        window_count(self.h, self.kernel, self.stride, self.padding, 1)
    }

    /// Output width; incomplete windows are dropped.
    pub fn out_w(&self) -> usize {
        window_count(self.w, self.kernel, self.stride, self.padding, 1)
    }
}

/// Cross-entropy: `(1 − ε) · −log p_y + ε · mean over classes of −log p`, averaged over the samples that count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// Label smoothing ε, in [0, 1].
    pub label_smoothing: f64,
}

/// Samples with this label do not count, as in PyTorch.
pub const IGNORE_INDEX: i32 = -100;

/// `hard_weight · CE(z_s, y) + soft_weight · T² · KL(softmax(z_t/T) ‖ softmax(z_s/T))`, both averaged over samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HintonKd {
    /// T, above 0.
    pub temperature: f64,
    /// Weight of the cross-entropy with the labels.
    pub hard_weight: f64,
    /// Weight of the T²-scaled Kullback–Leibler divergence from the teacher.
    pub soft_weight: f64,
}

impl From<HintonKd> for Distillation {
    fn from(p: HintonKd) -> Distillation {
        let HintonKd { temperature, hard_weight, soft_weight } = p;
        Distillation { divergence: Divergence::ForwardKl, temperature, hard_weight, soft_weight }
    }
}

/// How far the student's distribution q is from the teacher's p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Divergence {
    /// KL(p ‖ q), times T².
    ForwardKl,
    /// KL(q ‖ p), times T².
    ReverseKl,
    /// β · KL(p ‖ m) + (1 − β) · KL(q ‖ m) with m = β·p + (1 − β)·q, β in [0, 1].
    JensenShannon { beta: f64 },
}

impl Divergence {
    /// What the loss multiplies the divergence by at temperature T: T² keeps a Kullback–Leibler divergence's gradient at one scale.
    pub fn scale(self, temperature: f64) -> f64 {
        match self {
            Divergence::ForwardKl | Divergence::ReverseKl => temperature * temperature,
            Divergence::JensenShannon { .. } => 1.0,
        }
    }
}

/// `hard_weight · CE(z_s, y) + soft_weight · scale · D(softmax(z_t/T), softmax(z_s/T))`, both averaged over samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distillation {
    /// D, and with it the scale.
    pub divergence: Divergence,
    /// T, above 0.
    pub temperature: f64,
    /// Weight of the cross-entropy with the labels.
    pub hard_weight: f64,
    /// Weight of the scaled divergence.
    pub soft_weight: f64,
}

impl Distillation {
    /// The divergence alone.
    pub fn soft_only(divergence: Divergence, temperature: f64) -> Distillation {
        Distillation { divergence, temperature, hard_weight: 0.0, soft_weight: 1.0 }
    }
}

/// What the distillation loss is computed of.
#[derive(Clone, Copy)]
pub struct DistillationInputs<'a> {
    /// `[n, classes]`.
    pub student: &'a Tensor,
    /// `[n, classes]`.
    pub teacher: &'a Tensor,
    /// `[n]`; without them there is no hard term.
    pub labels: Option<&'a Tensor>,
    /// `[n]`; without them every sample counts 1.
    pub sample_weights: Option<&'a Tensor>,
}

/// What `distillation` returns. The losses are scalars.
pub struct DistillationOutput {
    /// The weighted sum.
    pub total: Tensor,
    /// Cross-entropy, unweighted.
    pub hard: Tensor,
    /// The scaled divergence, unweighted.
    pub soft: Tensor,
    /// d total / d student logits.
    pub grad: Tensor,
}

/// Noise-contrastive estimation: the cross-entropy of telling a row's own column from others, drawn as noise, where a score's odds of being
/// own are `e = exp(score / τ − shift)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseContrast {
    /// τ, above 0.
    pub tau: f64,
    /// The logarithm of what `exp(score / τ)` is divided by: of the normaliser times the noise.
    pub shift: f64,
    /// What is added to the odds in `log(floor + e)`: 1, or a little more as a guard.
    pub floor: f64,
}

/// What `batch_norm` returns. The statistics have one number per channel.
pub struct BatchNormOutput {
    /// The normalised tensor.
    pub y: Tensor,
    /// Batch means.
    pub mean: Tensor,
    /// Biased batch variances.
    pub var: Tensor,
    /// 1 / sqrt(var + eps).
    pub rstd: Tensor,
}

/// What happens to an image on its way from the data set into a batch: it is moved by (dy, dx) pixels and rotated about its centre,
/// mirrored if `mirrored` is not 0; then the square of `side` pixels round (`cut_y`, `cut_x`) is set to 0. The layout is the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct ImagePlan {
    pub dy: f32,
    pub dx: f32,
    pub sine: f32,
    pub cosine: f32,
    pub mirrored: f32,
    pub cut_y: f32,
    pub cut_x: f32,
    pub side: f32,
}

/// Stochastic gradient descent, PyTorch's semantics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    pub lr: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    /// In the first step the momentum, if any, is set to the gradient.
    pub first_step: bool,
}

/// Adam (Kingma & Ba 2015) with the weight decay in the gradient, or AdamW (Loshchilov & Hutter 2019) with it decoupled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub decoupled: bool,
    /// This step's number, from 1.
    pub step: u64,
}

/// RMSprop, PyTorch's semantics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    pub lr: f64,
    pub alpha: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub momentum: f64,
}

/// How an optimiser changes parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    Sgd(Sgd),
    Adam(Adam),
    RmsProp(RmsProp),
}

/// A parameter, its gradient, and what its optimiser keeps for it.
pub struct OptimizerSlot<'a> {
    /// What is optimised.
    pub value: &'a mut Tensor,
    /// Its gradient.
    pub gradient: &'a Tensor,
    /// Momentum or first moment; absent where the rule has none.
    pub first: Option<&'a mut Tensor>,
    /// Second moment; absent where the rule has none.
    pub second: Option<&'a mut Tensor>,
}

/// Dropout with probability `p` zeroes the elements whose upper 24 random bits are below this.
pub fn drop_limit(p: f64) -> u32 {
    // A number k / 2²⁴ is below p where the integer k is below ⌈p · 2²⁴⌉.
    (p * f64::from(1 << 24)).ceil() as u32
}

/// Whether dropout with probability `p` zeroes the element with these random bits.
pub fn drops(bits: u32, p: f64) -> bool {
    f64::from(unit_f32(bits)) < p
}

/// The element with these random bits of a tensor that is uniform in [low, high).
#[inline(always)]
pub fn uniform_of(bits: u32, low: f64, high: f64) -> f64 {
    low + (high - low) * f64::from(unit_f32(bits))
}

/// The four elements with these random bits of a normal tensor: each pair makes a pair of numbers.
pub fn normal_of([a, b, c, d]: [u32; 4], mean: f64, sd: f64) -> [f64; 4] {
    let ([w, x], [y, z]) = (normal_pair(a, b), normal_pair(c, d));
    [w, x, y, z].map(|z| mean + sd * z)
}

/// The elements `4 · block` to `4 · block + 3` of a tensor that is uniform in [low, high).
pub fn uniform_block(rng: Rng, block: u64, low: f64, high: f64) -> [f64; 4] {
    rng.block(block).map(|bits| uniform_of(bits, low, high))
}

/// The elements `4 · block` to `4 · block + 3` of a normal tensor.
pub fn normal_block(rng: Rng, block: u64, mean: f64, sd: f64) -> [f64; 4] {
    normal_of(rng.block(block), mean, sd)
}
