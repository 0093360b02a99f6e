//! Whether ops are recorded on this thread.

use std::cell::Cell;

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
}

/// Whether ops on tracked tensors are recorded here and now.
pub fn is_recording() -> bool {
    RECORDING.get()
}

/// Runs `f` without recording: its ops keep nothing and no gradient flows through their results.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0);
        }
    }
    let _restore = Restore(RECORDING.replace(false));
    f()
}
