//! Where files that belong to the user, and not to a run, are kept.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder named by an environment variable.
pub(crate) fn from_environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

/// kdengine's folder among the user's caches, if there is such a place.
pub(crate) fn cache() -> Option<PathBuf> {
    let caches = from_environment("XDG_CACHE_HOME").or_else(|| from_environment("LOCALAPPDATA"));
    caches.or_else(|| Some(from_environment("HOME")?.join(".cache"))).map(|caches| caches.join("kdengine"))
}

/// A folder of temporary files that is gone when this is.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new folder whose name begins with `name`.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn new(name: &str) -> Result<Scratch> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).map_err(|e| Error::io("create the folder", &path, e))?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
