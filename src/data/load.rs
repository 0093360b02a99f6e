//! From what the user calls a data set to its images.

use super::digits::{generate, DigitsConfig};
use super::idx::read_splits;
use super::sources::{default_folder, source, Source, SOURCES};
use super::Splits;
use crate::error::{Error, Result};
use crate::suggest::nearest;
use std::path::{Path, PathBuf};

/// The embedded data set.
const DIGITS: &str = "digits";

/// Loads `digits`, a known data set that was downloaded or put into `data_dir`, or a folder of IDX files.
///
/// # Errors
/// The name is unknown (names the nearest), the data set is not here (says how to get it), or a file is damaged.
pub fn load(spec: &str, data_dir: Option<&Path>) -> Result<Splits> {
    if spec == DIGITS {
        return Ok(generate(&DigitsConfig::default()));
    }
    if let Some(source) = source(spec) {
        let root = data_dir.map_or_else(default_folder, Path::to_path_buf);
        let classes = source.classes.iter().map(|class| class.to_string()).collect();
        return match find_source(source, &root) {
            Some(folder) => read_splits(&folder, spec, Some(classes)),
            None => {
                let next = format!(
                    "run `kdengine data get {spec}`, or say where its files are with --data-dir or KDENGINE_DATA"
                );
                Err(Error::data(&root.join(spec), format!("{spec} is not here; {next}")))
            }
        };
    }
    let folder = Path::new(spec);
    if folder.is_dir() {
        let name = folder.file_name().map_or(spec.to_string(), |name| name.to_string_lossy().into_owned());
        return read_splits(folder, &name, None);
    }
    let known: Vec<&str> = [DIGITS].into_iter().chain(SOURCES.iter().map(|s| s.name)).collect();
    let hint = nearest(spec, &known).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
    let reason = format!("`{spec}` is neither a folder nor a known data set; {hint}known: {}", known.join(", "));
    Err(Error::argument("data", reason))
}

/// The folder that holds a known data set: `root/NAME`, or `root` itself.
pub fn find_source(source: &Source, root: &Path) -> Option<PathBuf> {
    let holds = |folder: &PathBuf| {
        source.files.iter().any(|f| folder.join(f.name).exists() || folder.join(f.unzipped()).exists())
    };
    [root.join(source.name), root.to_path_buf()].into_iter().find(holds)
}
