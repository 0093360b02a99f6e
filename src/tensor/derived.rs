//! What a backend made of a tensor's elements and wants to find again: packed weights, transformed filters.

use std::any::Any;
use std::sync::{Arc, Mutex};

/// Names one way of deriving something from elements; each caller chooses its own.
pub type DerivedKey = [usize; 8];

/// One derived value, kept from its second use on. Weights under training are written between any two uses, so nothing is kept
/// for them; those of a frozen network are derived twice at most.
#[derive(Default)]
pub struct Derived(Mutex<Option<Entry>>);

struct Entry {
    key: DerivedKey,
    value: Option<Arc<dyn Any + Send + Sync>>,
}

impl Derived {
    /// What `make` returns, or what it returned before for the same key and elements.
    pub fn get<T: Any + Send + Sync>(&self, key: DerivedKey, make: impl FnOnce() -> T) -> Arc<T> {
        let lock = || self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let kept = lock().as_ref().filter(|entry| entry.key == key).map(|entry| entry.value.clone());
        if let Some(value) = kept.as_ref().and_then(|value| value.clone()?.downcast::<T>().ok()) {
            return value;
        }
        let value = Arc::new(make());
        let keep: Option<Arc<dyn Any + Send + Sync>> = match kept {
            Some(_) => Some(value.clone()),
            None => None,
        };
        *lock() = Some(Entry { key, value: keep });
        value
    }

    /// Forgets everything: the elements are about to be written.
    pub fn clear(&mut self) {
        *self.0.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_from_its_second_use_until_the_elements_are_written() {
        let mut derived = Derived::default();
        let mut made = 0;
        let mut get = |derived: &Derived, key: usize| {
            let value = derived.get([key; 8], || {
                made += 1;
                made
            });
            *value
        };
        assert_eq!([get(&derived, 1), get(&derived, 1), get(&derived, 1)], [1, 2, 2]);
        assert_eq!([get(&derived, 2), get(&derived, 1)], [3, 4], "another use of the same elements");
        derived.clear();
        assert_eq!([get(&derived, 1), get(&derived, 1), get(&derived, 1)], [5, 6, 6]);
    }
}
