//! What a model consists of and costs, layer by layer.

use super::{Model, Task};
use crate::autograd::{no_grad, observe};
use crate::error::Result;
use crate::nn::{Context, Module};
use crate::tensor::{DType, Device, Rng, Shape, Tensor};
use serde::Serialize;
use std::cell::Cell;
use std::rc::Rc;

/// One layer of a [`ModelSummary`].
#[derive(Clone, Debug, Serialize)]
pub struct LayerSummary {
    /// The name in checkpoints.
    pub name: String,
    /// What the layer is.
    pub layer: String,
    /// The output's extents for one image, without the batch.
    pub output: Vec<usize>,
    /// Trainable values.
    pub parameters: usize,
    /// Floating-point operations for one image; a multiplication and an addition are two.
    pub flops: f64,
    /// Bytes of the layer's output for one image.
    pub activation_bytes: usize,
    /// The name under which the output can be tapped.
    pub tap: Option<String>,
    /// Whether the output is a ReLU's, whose input can be tapped, too.
    pub rectified: bool,
}

/// What a model consists of and costs.
#[derive(Clone, Debug, Serialize)]
pub struct ModelSummary {
    /// The architecture's name.
    pub model: String,
    /// Channels, height and width of an input image.
    pub input: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// The layers in order.
    pub layers: Vec<LayerSummary>,
    /// Trainable values.
    pub parameters: usize,
    /// Floating-point operations for one image.
    pub flops: f64,
    /// Bytes of all layers' outputs for one image, as training keeps them.
    pub activation_bytes: usize,
}

/// Runs one image through the model and notes what every layer does.
pub fn summarise(model: &Model) -> Result<ModelSummary> {
    let [c, h, w] = model.task().input;
    let device = model.parameters().first().map_or(Device::default(), |(_, p)| p.get().device());
    let mut x = Tensor::zeros([1, c, h, w], DType::F32, device)?;
    let mut layers = Vec::new();
    for layer in model.layers().layers() {
        let flops = Rc::new(Cell::new(0.0));
        let sum = flops.clone();
        let forward = || no_grad(|| layer.module.forward(&x, &mut Context::eval()));
        let before = *x.shape();
        x = observe(move |event| sum.set(sum.get() + event.cost.flops), forward)?;
        layers.push(LayerSummary {
            name: layer.name.to_string(),
            layer: layer.module.describe(),
            output: x.shape()[1..].to_vec(),
            parameters: layer.module.parameter_count(),
            flops: flops.get(),
            activation_bytes: new_bytes(&before, &x),
            tap: layer.tap.map(str::to_string),
            rectified: layer.module.ends_in_relu(),
        });
    }
    Ok(ModelSummary {
        model: model.name().to_string(),
        input: model.task().input,
        classes: model.task().classes,
        parameters: layers.iter().map(|l| l.parameters).sum(),
        flops: layers.iter().map(|l| l.flops).sum(),
        activation_bytes: layers.iter().map(|l| l.activation_bytes).sum(),
        layers,
    })
}

/// What an architecture for a task consists of and costs: that does not depend on weights.
///
/// # Errors
/// There is no such architecture, or the images are too small for it.
pub fn summarise_architecture(name: &str, task: Task) -> Result<ModelSummary> {
    summarise(&Model::new(name, task, Rng::new(0, 0), Device::Cpu)?)
}

/// Bytes that a layer's output adds: none where it is its input under another shape.
fn new_bytes(before: &Shape, output: &Tensor) -> usize {
    match before.numel() == output.numel() && before.rank() != output.shape().rank() {
        true => 0,
        false => output.numel() * output.dtype().size(),
    }
}
