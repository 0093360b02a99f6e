//! What several tests need: the binary, a small data set on disk, a run's weights.
#![allow(dead_code)] // each test file uses some of it

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The `kdengine` binary, without colours.
pub fn kdengine() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kdengine"));
    command.env("NO_COLOR", "1").env_remove("KDENGINE_DATA");
    command
}

/// Runs to the end and returns the output; panics with it if the exit code is another one.
pub fn expect(command: &mut Command, code: i32) -> Output {
    let output = command.output().expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{text}");
    output
}

/// The one-line error of a command that must fail with this exit code.
pub fn error_of(command: &mut Command, code: i32) -> String {
    let output = expect(command, code);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one error line in: {text}");
    errors[0].to_string()
}

/// A file beside the checkout, or `None` with a visible reason.
pub fn beside_checkout(path: &str) -> Option<PathBuf> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if !full.exists() {
        eprintln!("skipped: {} is not there", full.display());
        return None;
    }
    Some(full)
}

/// A folder of IDX files with `train` and `test` images of the embedded digits.
pub fn small_digits(folder: &Path, train: usize, test: usize) -> PathBuf {
    use kdengine::data::{digits, idx};
    let splits = digits::generate(&digits::DigitsConfig { train, test, ..Default::default() });
    idx::write_splits(folder, &splits).expect("writable");
    folder.to_path_buf()
}
