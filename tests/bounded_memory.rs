//! Losses of all triplets of a large batch stay within bounds. Alone in its file: the pool is the process's.

use kdengine::tensor::{pool, Rng};
use kdengine::{DType, Device, Tensor};

#[test]
fn the_angles_of_512_samples_take_a_few_numbers_a_pair() {
    let features = |stream| Tensor::normal([512, 64], 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(5, stream)).unwrap();
    let (student, teacher) = (features(1).variable(), features(2));
    pool::reset_peak();
    let before = pool::stats().bytes_in_use;
    let [of_student, of_teacher] = [&student, &teacher].map(|x| x.pairwise_squared_distances().unwrap());
    let loss = of_student.angle_loss(&of_teacher).unwrap();
    drop((of_student, of_teacher));
    let gradients = loss.backward().unwrap();
    let peak = pool::stats().peak_bytes - before;
    assert!(gradients.get(&student).unwrap().is_finite().unwrap());
    let pairs = 512usize.pow(2) * size_of::<f32>();
    assert!(peak < 10 * pairs, "{} kB at the peak; one number a pair is {} kB", peak >> 10, pairs >> 10);
    drop((loss, gradients));
    assert!(pool::stats().bytes_in_use <= before, "nothing is kept");
}
