//! Optimiser updates over one parameter, with PyTorch's semantics. One pass, parallel in fixed chunks; plain loops that
//! the compiler vectorises. `grad` is read only; state starts as zeros and belongs to the caller.

use super::isa::{self, Kernel};
use super::parallel::{for_each_chunk, Disjoint};
use super::simd::Simd;

/// What one step reads of a parameter.
#[derive(Clone, Copy)]
pub struct Gradient<'a> {
    /// One element for each of the parameter.
    pub values: &'a [f32],
    /// Multiplied in on the way.
    pub scale: f32,
}

/// Stochastic gradient descent (`torch.optim.SGD`, no dampening).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the velocity; 0 for none.
    pub momentum: f32,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f32,
    /// Look ahead along the velocity.
    pub nesterov: bool,
}

/// Adam (Kingma & Ba 2015) or, with `decoupled` decay, AdamW (Loshchilov & Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// L2 penalty, or with `decoupled` the share of the weight taken off each step, times the learning rate.
    pub weight_decay: f32,
    /// AdamW.
    pub decoupled: bool,
    /// Number of this step, from 1.
    pub step: u32,
}

/// RMSprop (`torch.optim.RMSprop`, not centred).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the mean square.
    pub alpha: f32,
    /// Added to the root of the mean square.
    pub epsilon: f32,
    /// Decay of the velocity; 0 for none.
    pub momentum: f32,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f32,
}

impl Sgd {
    /// One step. `velocity` may be empty when `momentum` is 0.
    ///
    /// PyTorch starts the velocity at the first gradient, which equals starting at zero without dampening.
    ///
    /// # Panics
    /// When lengths differ.
    pub fn update(&self, parameter: &mut [f32], grad: Gradient, velocity: &mut [f32]) {
        let Sgd { learning_rate, momentum, weight_decay, nesterov } = *self;
        if momentum == 0.0 {
            return chunks([parameter], grad, |[p], g| *p -= learning_rate * (g + weight_decay * *p));
        }
        chunks([parameter, velocity], grad, |[p, v], g| {
            let g = g + weight_decay * *p;
            *v = momentum * *v + g;
            *p -= learning_rate * if nesterov { g + momentum * *v } else { *v };
        });
    }
}

impl Adam {
    /// One step with the first and second moments.
    ///
    /// # Panics
    /// When lengths differ.
    pub fn update(&self, parameter: &mut [f32], grad: Gradient, first: &mut [f32], second: &mut [f32]) {
        let Adam { learning_rate, beta1, beta2, epsilon, weight_decay, decoupled, step } = *self;
        let power = |beta: f32| f64::from(beta).powf(f64::from(step));
        let step_size = (f64::from(learning_rate) / (1.0 - power(beta1))) as f32;
        let root_scale = (1.0 / (1.0 - power(beta2)).sqrt()) as f32;
        let (penalty, keep) = if decoupled { (0.0, 1.0 - learning_rate * weight_decay) } else { (weight_decay, 1.0) };
        chunks([parameter, first, second], grad, |[p, m, v], g| {
            let g = g + penalty * *p;
            *m += (1.0 - beta1) * (g - *m);
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            *p = keep * *p - step_size * *m / (v.sqrt() * root_scale + epsilon);
        });
    }
}

impl RmsProp {
    /// One step. `velocity` may be empty when `momentum` is 0.
    ///
    /// # Panics
    /// When lengths differ.
    pub fn update(&self, parameter: &mut [f32], grad: Gradient, square: &mut [f32], velocity: &mut [f32]) {
        let RmsProp { learning_rate, alpha, epsilon, momentum, weight_decay } = *self;
        if momentum == 0.0 {
            return chunks([parameter, square], grad, |[p, s], g| {
                let g = g + weight_decay * *p;
                *s = alpha * *s + (1.0 - alpha) * g * g;
                *p -= learning_rate * g / (s.sqrt() + epsilon);
            });
        }
        chunks([parameter, square, velocity], grad, |[p, s, v], g| {
            let g = g + weight_decay * *p;
            *s = alpha * *s + (1.0 - alpha) * g * g;
            *v = momentum * *v + g / (s.sqrt() + epsilon);
            *p -= learning_rate * *v;
        });
    }
}

/// `average = decay·average + (1 − decay)·x`: the weights of an EMA teacher.
///
/// # Panics
/// When lengths differ.
pub fn ema(average: &mut [f32], x: &[f32], decay: f32) {
    chunks([average], Gradient { values: x, scale: 1.0 }, |[average], x| *average += (1.0 - decay) * (x - *average));
}

/// Calls `update` on corresponding elements of `N` written slices and one read slice.
fn chunks<const N: usize>(written: [&mut [f32]; N], read: Gradient, update: impl Fn([&mut f32; N], f32) + Sync) {
    assert!(
        written.iter().all(|slice| slice.len() == read.values.len()),
        "optimiser: parameter, gradient, state of one length"
    );
    let isa = isa::active();
    let written = written.map(Disjoint::new);
    for_each_chunk(read.values.len(), |range| {
        // SAFETY: each task has its own range.
        let written = written.each_ref().map(|slice| unsafe { slice.range(range.clone()) });
        isa.run(Update { written, read: &read.values[range], scale: read.scale, update: &update });
    });
}

struct Update<'a, const N: usize, F> {
    written: [&'a mut [f32]; N],
    read: &'a [f32],
    scale: f32,
    update: &'a F,
}

impl<const N: usize, F: Fn([&mut f32; N], f32)> Kernel for Update<'_, N, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let starts = self.written.map(<[f32]>::as_mut_ptr);
        for (i, &read) in self.read.iter().enumerate() {
            // Every slice is as long as `read`, and they do not overlap.
            (self.update)(starts.map(|start| &mut *start.add(i)), self.scale * read);
        }
    }
}
