//! The one error type. Every message says what was expected, what was found, and what to do next where that is known.

use std::path::{Path, PathBuf};

/// Everything that can go wrong in kdengine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has the wrong shape for an op.
    #[error("{op}: `{arg}` has shape {found}, expected {expected}")]
    Shape { op: &'static str, arg: &'static str, expected: String, found: String },

    /// A tensor has an element type that an op cannot take.
    #[error("{op}: `{arg}` is {found}, expected {expected}")]
    DType { op: &'static str, arg: &'static str, expected: String, found: String },

    /// Two tensors of one op live on different devices, or a device does not exist here.
    #[error("{op}: {reason}")]
    Device { op: &'static str, reason: String },

    /// A kernel did what it must not do, or could not be launched.
    #[error("kernel `{kernel}` (grid {grid:?}, block {block}, shapes {shapes}): {reason}")]
    Kernel { kernel: String, grid: [u32; 3], block: u32, shapes: String, reason: String },

    /// A device has not enough memory.
    #[error("{asked} bytes of device memory asked, {in_use} in use, {free} free; {hint}")]
    OutOfMemory { asked: u64, in_use: u64, free: u64, hint: String },

    /// A number or option is out of its range.
    #[error("{what}: {reason}")]
    Argument { what: String, reason: String },

    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}{hint}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error, hint: &'static str },

    /// A data file is damaged or is not what it claims to be.
    #[error("{}: {reason}", path.display())]
    Data { path: PathBuf, reason: String },

    /// A configuration file or option that cannot be used.
    #[error("configuration: {0}")]
    Config(String),

    /// A checkpoint that does not fit the model.
    #[error("{}: {reason}", path.display())]
    Checkpoint { path: PathBuf, reason: String },

    /// A loss, gradient or weight stopped being a finite number.
    #[error("{0}")]
    NonFinite(String),

    /// Results differ from what they are checked against.
    #[error("conformance: {0}")]
    Conformance(String),

    /// Something is slower than it was.
    #[error("bench: {0}")]
    Regression(String),

    /// The user pressed Ctrl-C; everything was saved.
    #[error("interrupted: {0}")]
    Interrupted(String),

    /// A download failed from every mirror.
    #[error("download: {0}")]
    Download(String),
}

/// `Result` with kdengine's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An argument out of range.
    pub fn argument(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Argument { what: what.into(), reason: reason.into() }
    }

    /// A request for device memory that cannot be met.
    pub fn out_of_memory(asked: u64, in_use: u64, free: u64) -> Self {
        let hint = "try a smaller --batch-size (or --eval-batch-size), or --device cpu".to_string();
        Error::OutOfMemory { asked, in_use, free, hint }
    }

    /// A failed file operation, with the next step for the two failures that users meet most.
    pub fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        let hint = match source.kind() {
            std::io::ErrorKind::StorageFull => "; free some space, or choose another folder with --out",
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                "; choose a folder that you can write to with --out"
            }
            _ => "",
        };
        Error::Io { action, path: path.to_path_buf(), source, hint }
    }

    /// A damaged data file.
    pub fn data(path: &Path, reason: impl Into<String>) -> Self {
        Error::Data { path: path.to_path_buf(), reason: reason.into() }
    }

    /// A checkpoint that cannot be used.
    pub fn checkpoint(path: &Path, reason: impl Into<String>) -> Self {
        Error::Checkpoint { path: path.to_path_buf(), reason: reason.into() }
    }
}
