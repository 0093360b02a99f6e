//! Optimisers over many parameters in one launch (`kernels/optim.cu`).

use super::device::{args, CudaDevice};
use super::driver::{Arg, DevicePtr};
use super::launch::{self, Config};
use super::memory::{address, unique_address};
use crate::backend::params::{Adam, OptimizerSlot, RmsProp, Rule, Sgd};
use crate::error::Result;
use crate::tensor::Tensor;

/// Parameters that one launch takes; as in the kernel.
const SLOTS: usize = 24;

/// `Slot` in the kernel: a parameter, its gradient, and what the optimiser keeps for it (null where it keeps nothing).
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Slot {
    value: DevicePtr,
    gradient: DevicePtr,
    first: DevicePtr,
    second: DevicePtr,
    n: u32,
    unused: u32,
}

impl Slot {
    fn new(slot: &mut OptimizerSlot) -> Result<Slot> {
        let moment =
            |moment: &mut Option<&mut Tensor>| moment.as_deref_mut().map_or(Ok(DevicePtr::NULL), unique_address);
        Ok(Slot {
            value: unique_address(slot.value)?,
            gradient: address(slot.gradient),
            first: moment(&mut slot.first)?,
            second: moment(&mut slot.second)?,
            n: slot.gradient.numel() as u32,
            unused: 0,
        })
    }
}

/// `Sgd` in the kernel.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct SgdArgs {
    lr: f32,
    momentum: f32,
    weight_decay: f32,
    nesterov: i32,
    first_step: i32,
}

/// The kernel of a rule and its settings as the kernel wants them, rounded once from `f64`.
fn kernel(rule: Rule) -> (&'static str, Arg) {
    match rule {
        Rule::Sgd(Sgd { lr, momentum, nesterov, weight_decay, first_step }) => {
            let args = SgdArgs {
                lr: lr as f32,
                momentum: momentum as f32,
                weight_decay: weight_decay as f32,
                nesterov: nesterov.into(),
                first_step: first_step.into(),
            };
            ("sgd", Arg::from(args))
        }
        Rule::Adam(Adam { lr, beta1, beta2, eps, weight_decay, decoupled, step }) => {
            let bias = |beta: f64| 1.0 - beta.powf(step as f64);
            let (in_gradient, shrink) = if decoupled { (0.0, 1.0 - lr * weight_decay) } else { (weight_decay, 1.0) };
            let rates = [lr / bias(beta1), bias(beta2).sqrt(), beta1, 1.0 - beta1, beta2, 1.0 - beta2];
            let all = [rates.as_slice(), &[eps, in_gradient, shrink]].concat();
            ("adam", Arg::from(rounded::<9>(&all)))
        }
        Rule::RmsProp(RmsProp { lr, alpha, eps, weight_decay, momentum }) => {
            ("rmsprop", Arg::from(rounded::<6>(&[lr, alpha, 1.0 - alpha, eps, weight_decay, momentum])))
        }
    }
}

fn rounded<const N: usize>(values: &[f64]) -> [f32; N] {
    std::array::from_fn(|i| values[i] as f32)
}

pub(super) fn optimize(
    device: &CudaDevice,
    rule: Rule,
    gradient_scale: f64,
    slots: &mut [OptimizerSlot],
) -> Result<()> {
    let (kernel, settings) = kernel(rule);
    for group in slots.chunks_mut(SLOTS) {
        let mut all = [Slot::default(); SLOTS];
        for (slot, given) in all.iter_mut().zip(group.iter_mut()) {
            *slot = Slot::new(given)?;
        }
        let largest = group.iter().map(|slot| slot.gradient.numel()).max().unwrap_or(0);
        let config = launch::elements(largest).with_y(group.len());
        let gradients: Vec<&Tensor> = group.iter().map(|slot| slot.gradient).collect();
        device.launch(
            kernel,
            config,
            vec![Arg::from(all), settings.clone(), Arg::from(gradient_scale as f32)],
            &gradients,
        )?;
    }
    Ok(())
}

pub(super) fn sum_of_squares(device: &CudaDevice, tensors: &[&Tensor]) -> Result<f64> {
    /// Partial sums of each tensor.
    const PARTS: usize = 64;
    let (sums, result) = (device.scratch(8 * PARTS * tensors.len())?, device.scratch(8)?);
    for (i, x) in tensors.iter().enumerate() {
        let part = DevicePtr(sums.start().0 + (8 * PARTS * i) as u64);
        let config = Config { grid: [PARTS as u32, 1, 1], block: launch::THREADS };
        device.launch("sum_of_squares", config, args![address(x), part, x.numel() as u32], &[x])?;
    }
    let args = args![sums.start(), result.start(), (PARTS * tensors.len()) as u32];
    device.launch("sum_doubles", launch::one_block(launch::THREADS), args, &[])?;
    let mut bytes = [0; 8];
    device.driver()?.download(result.start(), &mut bytes)?;
    Ok(f64::from_ne_bytes(bytes))
}
