//! After the first step of a training, a step takes no memory from the system. Alone in its file: the pool is the process's.

use kdengine::models::{architecture, Model};
use kdengine::nn::{Context, Module};
use kdengine::optim::{Optimizer, OptimizerConfig};
use kdengine::tensor::{pool, Rng};
use kdengine::{DType, Device, Tensor};

#[test]
fn a_training_step_allocates_nothing_once_every_size_was_seen() {
    let task = architecture("student_net").unwrap().default_task;
    let model = Model::new("student_net", task, Rng::new(0, 0), Device::Cpu).unwrap();
    let mut optimizer = Optimizer::new(OptimizerConfig::named("adam", 0.9, 0.0).unwrap());
    let images = Tensor::normal([32, 1, 28, 28], 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(1, 0)).unwrap();
    let labels = Tensor::from_slice(&(0..32).map(|i| i % 10).collect::<Vec<i32>>(), [32], Device::Cpu).unwrap();
    let mut step = || {
        let logits = model.forward(&images, &mut Context::train(Rng::new(2, 0))).unwrap();
        let gradients = logits.cross_entropy(&labels, 0.0).unwrap().backward().unwrap();
        optimizer.step(&model.parameters(), &gradients, 1e-3).unwrap();
    };
    step();
    step();
    let before = pool::stats();
    (0..5).for_each(|_| step());
    let after = pool::stats();
    assert_eq!(after.system_allocations, before.system_allocations);
    assert!(after.reused > before.reused, "the pool was in use");
}
