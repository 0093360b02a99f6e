//! Results are the same bits for any number of threads.

mod common;

use common::{expect, kdengine, small_digits};
use std::fs;

#[test]
fn one_thread_and_three_threads_train_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 300, 50);
    let weights = |threads: &str| {
        let out = folder.path().join(threads);
        let mut command = kdengine();
        command.args([
            "compare",
            "--quiet",
            "--epochs",
            "1",
            "--seeds",
            "1",
            "--threads",
            threads,
            "--shift",
            "2",
            "--mixup",
            "0.2",
        ]);
        expect(command.arg("--data").arg(&data).arg("--out").arg(&out), 0);
        ["teacher", "distilled-1", "baseline-1"]
            .map(|job| fs::read(out.join("jobs").join(job).join("model.safetensors")).unwrap())
    };
    let (one, three) = (weights("1"), weights("3"));
    assert!(one == three, "weights depend on the number of threads");
}
