//! Where files that belong to the user, and not to a run, are kept.

use std::ffi::OsString;
use std::path::PathBuf;

/// A folder named by an environment variable.
pub(crate) fn from_environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

/// kdengine's folder among the user's caches, if there is such a place.
pub(crate) fn cache() -> Option<PathBuf> {
    let caches = from_environment("XDG_CACHE_HOME").or_else(|| from_environment("LOCALAPPDATA"));
    caches.or_else(|| Some(from_environment("HOME")?.join(".cache"))).map(|caches| caches.join("kdengine"))
}
