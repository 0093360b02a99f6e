//! Which of several kernels is the fastest on this GPU: measured at the first use of a size, and kept on disk.
//!
//! Only kernels that give the same bits are chosen between, so that a choice changes how long a training takes and nothing else; one that
//! does not, on this very GPU, is not taken. A size is measured when it is met for the first time, a few launches of each kernel, and then
//! never again: steps that are timed come after a warm-up. `KDENGINE_TUNE=off` leaves the choice to the size alone, as on the emulator; `on`
//! measures there too, for tests.

use super::driver::DeviceInfo;
use super::launch::Config;
use crate::error::Result;
use crate::folders;
use crate::tensor::io::write_atomically;
use crate::tensor::{Device, Shape};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

const VARIABLE: &str = "KDENGINE_TUNE";

/// A kernel and its grid.
pub(super) type Candidate = (&'static str, Config);

/// The choices for one device.
pub(super) struct Tuner {
    /// By what was launched, for this process.
    by_launch: HashMap<u64, usize>,
    /// The kernel's name by what was launched, as it is kept.
    kept: BTreeMap<String, String>,
    file: Option<PathBuf>,
}

/// Refuses a value of `KDENGINE_TUNE` that means nothing, and says whether to measure on this device.
pub(super) fn is_on(device: Device) -> Result<bool, String> {
    Ok(on_or_off(VARIABLE)?.unwrap_or(matches!(device, Device::Cuda(_))))
}

/// Whether a variable is `on` or `off`, if it is set.
pub(super) fn on_or_off(variable: &str) -> Result<Option<bool>, String> {
    match std::env::var(variable).as_deref() {
        Ok("on") => Ok(Some(true)),
        Ok("off") => Ok(Some(false)),
        Ok(other) => Err(format!("{variable} is `{other}`; it may be `on` or `off`")),
        Err(_) => Ok(None),
    }
}

impl Tuner {
    /// With what was found out about this device before, if the user has a cache folder.
    pub(super) fn new(info: &DeviceInfo) -> Tuner {
        Tuner::with_file(folders::cache().map(|folder| file(&folder, info)))
    }

    fn with_file(file: Option<PathBuf>) -> Tuner {
        let kept = file.as_deref().map(read).unwrap_or_default();
        Tuner { by_launch: HashMap::new(), kept, file }
    }

    /// The number of the candidate to launch for these shapes; `seconds` measures one by its number. One that cannot be measured, for lack
    /// of memory for example, is not taken, unless it is the first: then it is.
    pub(super) fn choose(
        &mut self,
        candidates: &[Candidate],
        shapes: &[Shape],
        seconds: impl FnMut(usize) -> Result<f64>,
    ) -> usize {
        let mut hasher = DefaultHasher::new();
        (candidates[0].0, candidates[0].1.grid, shapes).hash(&mut hasher);
        let key = hasher.finish();
        if let Some(&chosen) = self.by_launch.get(&key) {
            return chosen;
        }
        let chosen = self.look_up_or_measure(candidates, shapes, seconds).unwrap_or(0);
        self.by_launch.insert(key, chosen);
        chosen
    }

    fn look_up_or_measure(
        &mut self,
        candidates: &[Candidate],
        shapes: &[Shape],
        mut seconds: impl FnMut(usize) -> Result<f64>,
    ) -> Result<usize> {
        let (kernel, config) = &candidates[0];
        let name = format!("{kernel} {shapes:?} in {:?}, of {}", config.grid, candidates.len());
        let known = self.kept.get(&name).and_then(|best| candidates.iter().position(|(kernel, _)| kernel == best));
        if let Some(known) = known {
            return Ok(known);
        }
        let mut best = (0, seconds(0)?);
        let mut all_measured = true;
        for number in 1..candidates.len() {
            match seconds(number) {
                Ok(seconds) if seconds < best.1 => best = (number, seconds),
                Ok(_) => {}
                Err(_) => all_measured = false,
            }
        }
        let best = best.0;
        if !all_measured {
            return Ok(best);
        }
        self.kept.insert(name, candidates[best].0.to_string());
        if let Some(file) = &self.file {
            // Other processes may have written meanwhile. Where nothing can be written, the next process measures again.
            for (name, kernel) in read(file) {
                self.kept.entry(name).or_insert(kernel);
            }
            let text = serde_json::to_string_pretty(&self.kept).expect("strings are plain values");
            let _ = file.parent().map(std::fs::create_dir_all);
            let _ = write_atomically(file, text.as_bytes());
        }
        Ok(best)
    }
}

/// What is kept in a file. One that cannot be read is written anew: all that is lost is a second of measuring.
fn read(file: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file).ok();
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Where choices are kept: for one model of GPU and one version of the kernels.
fn file(folder: &Path, info: &DeviceInfo) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = info.name.chars().map(plain).collect();
    let (major, minor) = info.capability;
    #[cfg(feature = "cuda")]
    let version = super::binaries::version();
    #[cfg(not(feature = "cuda"))]
    let version = env!("CARGO_PKG_VERSION");
    folder.join("tiles").join(format!("{name}-sm{major}{minor}-{version}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::launch::one_block;
    use std::cell::RefCell;

    #[test]
    fn the_fastest_is_measured_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tiles").join("a.json");
        let candidates = [("wide", one_block(128)), ("narrow", one_block(64))];
        let shapes = [Shape::from([2, 3])];
        let measured = RefCell::new(Vec::new());
        let mut seconds = |number: usize| {
            measured.borrow_mut().push(candidates[number].0);
            Ok(if number == 1 { 1e-6 } else { 2e-6 })
        };
        let mut tuner = Tuner::with_file(Some(file.clone()));
        assert_eq!(tuner.choose(&candidates, &shapes, &mut seconds), 1);
        assert_eq!(tuner.choose(&candidates, &shapes, &mut seconds), 1);
        // Another process.
        assert_eq!(Tuner::with_file(Some(file.clone())).choose(&candidates, &shapes, &mut seconds), 1);
        // Another size.
        assert_eq!(tuner.choose(&candidates, &[Shape::from([2, 4])], &mut seconds), 1);
        assert_eq!(*measured.borrow(), ["wide", "narrow", "wide", "narrow"]);
        std::fs::write(&file, "{ half of").unwrap();
        assert_eq!(Tuner::with_file(Some(file)).choose(&candidates, &shapes, &mut seconds), 1);
        assert_eq!(measured.borrow().len(), 6);
    }

    #[test]
    fn what_cannot_be_measured_is_not_kept_and_two_processes_keep_both_their_choices() {
        let folder = tempfile::tempdir().unwrap();
        let file = Some(folder.path().join("a.json"));
        let candidates = [("wide", one_block(128)), ("narrow", one_block(64))];
        let (one, two) = ([Shape::from([1])], [Shape::from([2])]);
        let full = |_: usize| Err(crate::error::Error::out_of_memory(1, 1, 0));
        let narrow = |number: usize| Ok(-(number as f64));
        let (mut a, mut b) = (Tuner::with_file(file.clone()), Tuner::with_file(file.clone()));
        assert_eq!(a.choose(&candidates, &one, full), 0);
        assert_eq!(Tuner::with_file(file.clone()).choose(&candidates, &one, narrow), 1, "nothing was kept");
        assert_eq!(b.choose(&candidates, &two, narrow), 1);
        let mut later = Tuner::with_file(file);
        assert_eq!([&one, &two].map(|shapes| later.choose(&candidates, shapes, full)), [1, 1]);
    }

    #[test]
    fn one_that_cannot_be_measured_does_not_keep_the_others_from_being_chosen_between() {
        let folder = tempfile::tempdir().unwrap();
        let file = Some(folder.path().join("a.json"));
        let candidates = [("wide", one_block(128)), ("narrow", one_block(64)), ("other", one_block(32))];
        let broken = |number: usize| match number {
            2 => Err(crate::error::Error::out_of_memory(1, 1, 0)),
            _ => Ok(-(number as f64)),
        };
        assert_eq!(Tuner::with_file(file.clone()).choose(&candidates, &[], broken), 1);
        assert_eq!(
            Tuner::with_file(file).choose(&candidates, &[], |number| Ok(-(number as f64))),
            2,
            "nothing was kept"
        );
    }

    #[test]
    fn where_nothing_can_be_kept_choices_are_still_made() {
        let mut tuner = Tuner::with_file(Some(PathBuf::from("/proc/no/such/folder/a.json")));
        let candidates = [("wide", one_block(128)), ("narrow", one_block(64))];
        assert_eq!(tuner.choose(&candidates, &[], |_| Ok(1.0)), 0);
    }
}
