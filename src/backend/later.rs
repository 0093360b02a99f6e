//! Results that a device may still be computing.

use crate::error::Result;

/// A result that is waited for when somebody wants it.
pub struct Later<T>(Box<dyn FnOnce() -> Result<T> + Send>);

impl<T: Send + 'static> Later<T> {
    /// What `wait` returns, which is called at most once.
    pub fn new(wait: impl FnOnce() -> Result<T> + Send + 'static) -> Later<T> {
        Later(Box::new(wait))
    }

    /// A result that is there.
    pub fn now(value: T) -> Later<T> {
        Later::new(|| Ok(value))
    }

    /// Waits for it.
    ///
    /// # Errors
    /// Those of the device.
    pub fn get(self) -> Result<T> {
        self.0()
    }
}
