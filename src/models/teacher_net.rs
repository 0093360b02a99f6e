//! The notebook's teacher: three 3×3 convolutions (64, 128, 256 channels), each with ReLU and 2×2 max-pooling, then two fully
//! connected layers with dropout 0.5 between them. 1,554,954 parameters for 28×28 grey images and 10 classes.

use super::{Architecture, Task};
use crate::error::Result;
use crate::nn::{Conv2d, ConvThen::ReluPool, Dropout, Flatten, Init, Linear, Sequential};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "teacher_net",
    about: "the notebook's teacher: 3 convolutions, 2 linear layers, 1.55 M parameters",
    default_task: Task { input: [1, 28, 28], classes: 10 },
    smallest_input: [8, 8],
    build: &build,
};

fn build(task: Task, init: &mut Init) -> Result<Sequential> {
    let [channels, h, w] = task.input;
    Ok(Sequential::new()
        .then("conv1", Conv2d::same(init, channels, 64, 3, ReluPool)?)
        .tap("block1")
        .then("conv2", Conv2d::same(init, 64, 128, 3, ReluPool)?)
        .tap("block2")
        .then("conv3", Conv2d::same(init, 128, 256, 3, ReluPool)?)
        .tap("block3")
        .then("flatten", Flatten)
        .then("fc1", Linear::new(init, 256 * (h / 8) * (w / 8), 512)?.relu())
        .tap("penultimate")
        .then("dropout", Dropout { p: 0.5 })
        .then("fc2", Linear::new(init, 512, task.classes)?)
        .tap("logits"))
}
