//! The notebook's student: two 3×3 convolutions (16, 32 channels), each with ReLU and 2×2 max-pooling, then two fully connected
//! layers. 105,866 parameters for 28×28 grey images and 10 classes: 14.7 times fewer than the teacher. Its multiples in width lie between
//! the two.

use super::{Architecture, Task};
use crate::error::Result;
use crate::nn::{Conv2d, ConvThen::ReluPool, Flatten, Init, Linear, Sequential};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "student_net",
    about: "the notebook's student: 2 convolutions, 2 linear layers, 106 k parameters",
    default_task: Task { input: [1, 28, 28], classes: 10 },
    smallest_input: [4, 4],
    build: &build::<1>,
};

pub(super) const TWICE: Architecture = Architecture {
    name: "student_net-x2",
    about: "student_net twice as wide, 422 k parameters: an assistant between teacher_net and student_net",
    build: &build::<2>,
    ..ARCHITECTURE
};

pub(super) const THRICE: Architecture = Architecture {
    name: "student_net-x3",
    about: "student_net three times as wide, 947 k parameters",
    build: &build::<3>,
    ..ARCHITECTURE
};

/// The network with every layer but the last `WIDTH` times as wide.
fn build<const WIDTH: usize>(task: Task, init: &mut Init) -> Result<Sequential> {
    let [channels, h, w] = task.input;
    let [first, second, features] = [16, 32, 64].map(|width| width * WIDTH);
    Ok(Sequential::new()
        .then("conv1", Conv2d::same(init, channels, first, 3, ReluPool)?)
        .tap("block1")
        .then("conv2", Conv2d::same(init, first, second, 3, ReluPool)?)
        .tap("block2")
        .then("flatten", Flatten)
        .then("fc1", Linear::new(init, second * (h / 4) * (w / 4), features)?.relu())
        .tap("penultimate")
        .then("fc2", Linear::new(init, features, task.classes)?)
        .tap("logits"))
}
