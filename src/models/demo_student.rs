//! The student of the methods demo for 3×32×32 images: one 3×3 convolution (32 channels) with ReLU, global average pooling, one
//! fully connected layer.

use super::{Architecture, Task};
use crate::error::Result;
use crate::nn::{AdaptiveAvgPool2d, Conv2d, ConvThen::Relu, Flatten, Init, Linear, Sequential};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "demo_student",
    about: "the methods demo's student: 1 convolution, global average pooling, 1.2 k parameters",
    default_task: Task { input: [3, 32, 32], classes: 10 },
    smallest_input: [1, 1],
    build: &build,
};

fn build(task: Task, init: &mut Init) -> Result<Sequential> {
    Ok(Sequential::new()
        .then("conv.0", Conv2d::same(init, task.input[0], 32, 3, Relu)?)
        .tap("block1")
        .then("conv.2", AdaptiveAvgPool2d { output: [1, 1] })
        .then("flatten", Flatten)
        .tap("penultimate")
        .then("fc", Linear::new(init, 32, task.classes)?)
        .tap("logits"))
}
