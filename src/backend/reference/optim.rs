//! Optimiser steps, PyTorch's semantics.

use crate::backend::params::{Adam, OptimizerSlot, RmsProp, Rule, Sgd};
use crate::tensor::{Real, Tensor};

pub(super) fn step<T: Real>(rule: Rule, gradient_scale: f64, slot: &mut OptimizerSlot) {
    let OptimizerSlot { value, gradient, first, second } = slot;
    let scale = T::of(gradient_scale);
    let gradient: Vec<T> = gradient.slice::<T>().iter().map(|&g| scale * g).collect();
    let (first, second) = (first.as_deref_mut(), second.as_deref_mut());
    match (rule, first, second) {
        (Rule::Sgd(p), momentum, _) => sgd::<T>(p, value, &gradient, momentum),
        (Rule::Adam(p), Some(m), Some(v)) => adam::<T>(p, value, &gradient, m, v),
        (Rule::RmsProp(p), momentum, Some(v)) => rmsprop::<T>(p, value, &gradient, v, momentum),
        _ => unreachable!("a slot holds the moments of its rule"),
    }
}

fn sgd<T: Real>(p: Sgd, param: &mut Tensor, grad: &[T], momentum: Option<&mut Tensor>) {
    let (lr, mu) = (T::of(p.lr), T::of(p.momentum));
    let param = param.storage_mut().as_mut_slice::<T>();
    let decayed = |param: T, grad: T| grad + T::of(p.weight_decay) * param;
    let Some(momentum) = momentum else {
        for (param, &grad) in param.iter_mut().zip(grad) {
            *param -= lr * decayed(*param, grad);
        }
        return;
    };
    for ((param, &grad), buffer) in param.iter_mut().zip(grad).zip(momentum.storage_mut().as_mut_slice::<T>()) {
        let grad = decayed(*param, grad);
        *buffer = if p.first_step { grad } else { mu * *buffer + grad };
        *param -= lr * if p.nesterov { grad + mu * *buffer } else { *buffer };
    }
}

fn adam<T: Real>(p: Adam, param: &mut Tensor, grad: &[T], m: &mut Tensor, v: &mut Tensor) {
    let bias1 = 1.0 - p.beta1.powf(p.step as f64);
    let bias2 = 1.0 - p.beta2.powf(p.step as f64);
    let (step_size, root_bias2) = (T::of(p.lr / bias1), T::of(bias2.sqrt()));
    let (beta1, beta2, eps) = (T::of(p.beta1), T::of(p.beta2), T::of(p.eps));
    // Subtracted in f64: 1 − 0.999 in f32 would be off by 5e-5 of itself.
    let (rest1, rest2) = (T::of(1.0 - p.beta1), T::of(1.0 - p.beta2));
    let param = param.storage_mut().as_mut_slice::<T>().iter_mut().zip(grad);
    let moments = m.storage_mut().as_mut_slice::<T>().iter_mut().zip(v.storage_mut().as_mut_slice::<T>());
    for ((param, &grad), (m, v)) in param.zip(moments) {
        let mut grad = grad;
        if p.decoupled {
            *param *= T::of(1.0 - p.lr * p.weight_decay);
        } else {
            grad += T::of(p.weight_decay) * *param;
        }
        *m = beta1 * *m + rest1 * grad;
        *v = beta2 * *v + rest2 * grad * grad;
        *param -= step_size * *m / (v.sqrt() / root_bias2 + eps);
    }
}

fn rmsprop<T: Real>(p: RmsProp, param: &mut Tensor, grad: &[T], v: &mut Tensor, momentum: Option<&mut Tensor>) {
    let (alpha, rest, eps, lr) = (T::of(p.alpha), T::of(1.0 - p.alpha), T::of(p.eps), T::of(p.lr));
    let mut momentum = momentum.map(|buffer| buffer.storage_mut().as_mut_slice::<T>());
    let param = param.storage_mut().as_mut_slice::<T>().iter_mut().zip(grad);
    for (i, ((param, &grad), v)) in param.zip(v.storage_mut().as_mut_slice::<T>()).enumerate() {
        let grad = grad + T::of(p.weight_decay) * *param;
        *v = alpha * *v + rest * grad * grad;
        let step = grad / (v.sqrt() + eps);
        match &mut momentum {
            Some(buffer) => {
                buffer[i] = T::of(p.momentum) * buffer[i] + step;
                *param -= lr * buffer[i];
            }
            None => *param -= lr * step,
        }
    }
}

pub(super) fn lerp<T: Real>(acc: &mut Tensor, x: &Tensor, keep: f64) {
    for (acc, &x) in acc.storage_mut().as_mut_slice::<T>().iter_mut().zip(x.slice::<T>()) {
        *acc = T::of(keep) * *acc + T::of(1.0 - keep) * x;
    }
}

pub(super) fn sum_of_squares<T: Real>(x: &Tensor) -> f64 {
    x.slice::<T>().iter().map(|x| x.wide() * x.wide()).sum()
}
