//! Families of architectures whose names give sizes: `mlp-20-20`, `cnn-16-32-fc64`.

use super::{cnn, mlp, Architecture, Build, Task};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Architectures with the same beginning of their names, and sizes behind it.
pub struct Family {
    /// How the names begin, with the dash.
    pub(super) prefix: &'static str,
    /// A name, for listings.
    pub example: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// What stands behind the prefix, for the error about a name that makes no sense.
    pub(super) sizes: &'static str,
    /// Reads what stands behind the prefix.
    pub(super) parse: fn(&str) -> Option<Blueprint>,
}

/// What the sizes in a name amount to.
pub(super) struct Blueprint {
    /// The smallest image, height and width.
    pub(super) smallest_input: [usize; 2],
    /// Makes the layers.
    pub(super) build: Box<Build>,
}

/// All families.
pub const FAMILIES: &[Family] = &[cnn::FAMILY, mlp::FAMILY];

/// Every architecture of a family that was asked for so far.
static KNOWN: Mutex<BTreeMap<String, &'static Architecture>> = Mutex::new(BTreeMap::new());

/// The architecture with this name; `None` if no family's names begin so.
///
/// # Errors
/// The sizes make no sense.
pub(super) fn named(name: &str) -> Option<Result<&'static Architecture>> {
    let (family, sizes) = FAMILIES.iter().find_map(|family| Some((family, name.strip_prefix(family.prefix)?)))?;
    let Some(blueprint) = (family.parse)(sizes) else {
        let Family { about, sizes, example, .. } = family;
        return Some(Err(Error::argument(
            "model",
            format!("`{name}` names no {about}: it takes {sizes}, such as {example}"),
        )));
    };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Ok(known.entry(name.to_string()).or_insert_with(|| architecture(name, family, blueprint))))
}

/// Lives as long as the program does, as the architectures with fixed sizes do.
fn architecture(name: &str, family: &Family, Blueprint { smallest_input, build }: Blueprint) -> &'static Architecture {
    Box::leak(Box::new(Architecture {
        name: name.to_string().leak(),
        about: family.about,
        default_task: Task { input: [1, 28, 28], classes: 10 },
        smallest_input,
        build: Box::leak(build),
    }))
}

/// A size of 1 to `largest`, written in the one way that a name may have it: no sign, no zero in front.
pub(super) fn size(text: &str, largest: usize) -> Option<usize> {
    text.parse().ok().filter(|size| (1..=largest).contains(size) && size.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_architecture_however_often_it_is_asked_for() {
        for Family { example, .. } in FAMILIES {
            let [once, again] = [(); 2].map(|()| named(example).unwrap().unwrap());
            assert!(std::ptr::eq(once, again));
            assert_eq!(once.name, *example);
        }
        assert!(named("teacher_net").is_none());
    }

    #[test]
    fn a_size_is_written_in_one_way() {
        assert_eq!(["1", "16", "20"].map(|text| size(text, 20)), [Some(1), Some(16), Some(20)]);
        assert!(["", "0", "21", "07", "+7", "-7", "7.0", "x"].iter().all(|text| size(text, 20).is_none()));
    }
}
