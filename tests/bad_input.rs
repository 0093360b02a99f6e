//! Bad input ends in one line that says what is wrong and what to do next, with the right exit code.

mod common;

use common::{error_of, expect, kdengine, small_digits};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A short training on `data`, into `out`.
fn train(data: &Path, out: &Path) -> Command {
    let mut command = kdengine();
    command.args(["train", "--quiet", "--epochs", "1", "--teacher-model", "student_net"]);
    command.arg("--data").arg(data).arg("--out").arg(out);
    command
}

#[test]
fn options_out_of_range_are_usage_errors() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (vec!["--temperature", "0"], "temperature: must be 0.001 to 10000, or FROM..TO, found 0"),
        (vec!["--temperature", "-2"], "temperature: must be 0.001 to 10000, or FROM..TO, found -2"),
        (vec!["--temperature", "1e30"], "temperature: must be 0.001 to 10000"),
        (vec!["--temperature", "1e-30"], "temperature: must be 0.001 to 10000"),
        (vec!["--temperature", "nan"], "invalid value 'nan' for '--temperature <T>'"),
        (vec!["--sweep-temperatures", "1,0"], "temperature: must be 0.001 to 10000"),
        (vec!["--hard-weight", "0", "--soft-weight", "0"], "nothing would be learned"),
        (vec!["--epochs", "0"], "epochs: must be at least 1"),
        (vec!["--lr", "-1"], "lr: must be above 0"),
        (vec!["--student-model", "studentnet"], "did you mean `student_net`?"),
        (vec!["--schedule", "cosin"], "did you mean `cosine`?"),
        (vec!["--device", "gpu"], "unknown device `gpu`"),
        (vec!["--precision", "fp16"], "unknown precision `fp16`; did you mean `f16`?"),
        (vec!["--precision", "tf32", "--device", "reference"], "tf32 is for tensor cores; reference does not round"),
        (vec!["--threads", "100000"], "threads: must be at most 1024, found 100000"),
        (vec!["--method", "crd", "--set", "width=1000000000"], "crd: width: must be a whole number, 1 to 4096"),
        (vec!["--method", "dml", "--set", "students=1000000"], "dml: students: must be a whole number, 2 to 64"),
        (vec!["--data", "mnits"], "did you mean `mnist`?"),
    ];
    for (flags, expected) in cases {
        let error = error_of(kdengine().arg("run").args(&flags).arg("--out").arg(folder.path().join("out")), 2);
        assert!(error.contains(expected), "{flags:?}: {error}");
    }
    assert!(!folder.path().join("out").exists(), "nothing is created before the options are known to be right");
}

#[test]
fn a_precision_that_the_device_does_not_have_is_refused_by_whatever_computes() {
    for command in ["eval model.safetensors", "predict model.safetensors", "bench methods", "bench step"] {
        let reference = ["--precision", "tf32", "--device", "reference"];
        let error = error_of(kdengine().args(command.split(' ')).args(reference), 2);
        assert!(error.contains("tf32 is for tensor cores; reference does not round"), "{command}: {error}");
    }
}

#[test]
fn an_instruction_set_that_does_not_exist_is_refused_before_any_work() {
    let error = error_of(kdengine().arg("doctor").env("KDENGINE_ISA", "avx1024"), 2);
    assert!(error.contains("avx1024") && error.contains("portable"), "{error}");
}

#[test]
fn configuration_files_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("epoch = 3", 2, "unknown key `epoch`; did you mean `epochs`?"),
        ("epochs = \"three\"", 2, "epochs"),
        ("epochs = 3\nlr = = 2", 2, "line 2"),
        ("temperature = -1", 2, "temperature: must be 0.001 to 10000"),
    ];
    for (text, code, expected) in cases {
        let file = folder.path().join("config.toml");
        fs::write(&file, text).unwrap();
        let error = error_of(
            kdengine().arg("run").arg("--config").arg(&file).arg("--out").arg(folder.path().join("out")),
            code,
        );
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = error_of(kdengine().args(["run", "--config", "absent.toml"]), 1);
    assert!(error.contains("cannot read absent.toml"), "{error}");
}

#[test]
fn damaged_data_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let images = "train-images-idx3-ubyte";
    let labels = "train-labels-idx1-ubyte";
    type Damage = fn(&Path, &Path);
    let damage: [(&str, Damage, &str); 5] = [
        ("truncated", |images, _| fs::write(images, &fs::read(images).unwrap()[..5000]).unwrap(), "train-images"),
        ("magic", |images, _| fs::write(images, b"not an idx file at all").unwrap(), "magic"),
        (
            "absurd size",
            |images, _| fs::write(images, [&[0, 0, 8, 3][..], &[0x7f; 12], &[0; 100]].concat()).unwrap(),
            "train-images",
        ),
        (
            "label out of range",
            |_, labels| {
                let mut bytes = fs::read(labels).unwrap();
                bytes[8 + 7] = 200;
                fs::write(labels, bytes).unwrap();
            },
            "200",
        ),
        (
            "fewer labels",
            |_, labels| {
                let mut bytes = fs::read(labels).unwrap();
                bytes.truncate(8 + 20);
                bytes[7] = 20;
                bytes[6] = 0;
                fs::write(labels, bytes).unwrap();
            },
            "20",
        ),
    ];
    for (what, break_it, expected) in damage {
        let data = small_digits(&folder.path().join(what), 30, 10);
        break_it(&data.join(images), &data.join(labels));
        let error = error_of(&mut train(&data, &folder.path().join("out")), 1);
        assert!(error.contains(expected), "{what}: {error}");
    }
}

#[test]
fn absent_data_says_how_to_get_it() {
    let empty = tempfile::tempdir().unwrap();
    let error = error_of(kdengine().args(["run", "--data", "mnist", "--data-dir"]).arg(empty.path()), 1);
    assert!(error.contains("kdengine data get mnist"), "{error}");
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_job_and_names_the_op() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 400, 50);
    let out = folder.path().join("out");
    let mut command = train(&data, &out);
    let error =
        error_of(command.args(["--optimizer", "sgd", "--lr", "1e30", "--epochs", "3", "--batch-size", "50"]), 1);
    for part in ["teacher: the loss is", "at step", "(epoch 1)", "--lr"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(error.contains("the first op to produce it was") || error.contains("weights"), "{error}");
}

#[test]
fn a_checkpoint_of_another_architecture_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 60, 20);
    let out = folder.path().join("student");
    expect(&mut train(&data, &out), 0);
    let model = out.join("jobs/teacher/model.safetensors");
    let mut distil = kdengine();
    distil.args(["distill", "--quiet"]).arg("--data").arg(&data).arg("--teacher").arg(&model);
    let error = error_of(distil.args(["--teacher-model", "teacher_net"]).arg("--out").arg(folder.path().join("d")), 1);
    for part in ["does not fit teacher_net", "missing", "conv3.weight", "misshaped", "conv1.weight"] {
        assert!(error.contains(part), "{error}");
    }
    fs::write(&model, &fs::read(&model).unwrap()[..1000]).unwrap();
    let error = error_of(kdengine().arg("eval").arg(&model).arg("--data").arg(&data), 1);
    assert!(error.contains("model.safetensors"), "{error}");
}

#[test]
fn a_run_is_never_overwritten_or_resumed_with_other_settings() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 60, 20);
    let out = folder.path().join("out");
    expect(&mut train(&data, &out), 0);
    let error = error_of(&mut train(&data, &out), 2);
    assert!(error.contains("already holds a run") && error.contains("--resume"), "{error}");
    let error = error_of(train(&data, &out).args(["--resume", "--lr", "0.5"]), 2);
    assert!(error.contains("lr"), "{error}");
    let error = error_of(train(&data, &folder.path().join("absent")).arg("--resume"), 2);
    assert!(error.contains("no run to resume"), "{error}");
    let error = error_of(kdengine().args(["compare", "--resume"]).arg(&out), 2);
    assert!(error.contains("is a run of `train`: go on with kdengine train --resume"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 60, 20);
    let error = error_of(&mut train(&data, Path::new("/proc/kdengine")), 1);
    assert!(error.contains("/proc/kdengine"), "{error}");
}

/// A file system of 300 kB, in a mount namespace of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_with_a_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_digits(&folder.path().join("data"), 600, 20);
    let small = folder.path().join("small");
    fs::create_dir(&small).unwrap();
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).env("NO_COLOR", "1");
        command
    };
    let mount = format!("mount -t tmpfs -o size=300k none {}", small.display());
    if !in_namespace(&mount).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: mount namespaces are not available here");
        return;
    }
    let (binary, data, out) = (env!("CARGO_BIN_EXE_kdengine"), data.display(), small.join("run"));
    let flags = "train --quiet --epochs 1 --teacher-model student_net";
    let error =
        error_of(&mut in_namespace(&format!("{mount} && {binary} {flags} --data {data} --out {}", out.display())), 1);
    assert!(error.contains("free some space"), "{error}");
}
