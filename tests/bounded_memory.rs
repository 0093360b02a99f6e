//! Losses of all triplets of a large batch stay within bounds. Alone in its file: the pool is the process's.

use kdengine::distill::rkd;
use kdengine::tensor::{pool, Rng};
use kdengine::{DType, Device, Tensor};

#[test]
fn the_angles_of_512_samples_take_less_memory_than_one_number_a_triplet() {
    let features = |stream| Tensor::normal([512, 64], 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(5, stream)).unwrap();
    let (student, teacher) = (features(1).variable(), features(2));
    pool::reset_peak();
    let before = pool::stats().bytes_in_use;
    let loss = rkd::angle(&student, &teacher).unwrap();
    let gradients = loss.backward().unwrap();
    let peak = pool::stats().peak_bytes - before;
    assert!(gradients.get(&student).unwrap().is_finite().unwrap());
    let triplets = 512usize.pow(3) * size_of::<f32>();
    assert!(peak < triplets / 4, "{} MB at the peak; the {} MB of one tensor of triplets", peak >> 20, triplets >> 20);
    drop((loss, gradients));
    assert!(pool::stats().bytes_in_use <= before, "nothing is kept");
}
