//! The teacher of the methods demo for 3×32×32 images: two 3×3 convolutions (64, 128 channels) with ReLU, global average
//! pooling, one fully connected layer.

use super::{Architecture, Task};
use crate::error::Result;
use crate::nn::{AdaptiveAvgPool2d, Conv2d, ConvThen::Relu, Flatten, Init, Linear, Sequential};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "demo_teacher",
    about: "the methods demo's teacher: 2 convolutions, global average pooling, 77 k parameters",
    default_task: Task { input: [3, 32, 32], classes: 10 },
    smallest_input: [1, 1],
    build: &build,
};

fn build(task: Task, init: &mut Init) -> Result<Sequential> {
    Ok(Sequential::new()
        .then("conv.0", Conv2d::same(init, task.input[0], 64, 3, Relu)?)
        .tap("block1")
        .then("conv.2", Conv2d::same(init, 64, 128, 3, Relu)?)
        .tap("block2")
        .then("conv.4", AdaptiveAvgPool2d { output: [1, 1] })
        .then("flatten", Flatten)
        .tap("penultimate")
        .then("fc", Linear::new(init, 128, task.classes)?)
        .tap("logits"))
}
