//! Watching ops as they run: `summary` counts their cost, and the search for the first NaN looks at their outputs.

use crate::tensor::Tensor;
use std::cell::RefCell;

/// What an op has to do at least: for comparing a measured time with the machine's limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written if every operand moves once.
    pub bytes: f64,
}

impl Cost {
    /// Of an op that does `flops` operations and moves each of these tensors once.
    pub fn new(flops: f64, moved: &[&Tensor]) -> Cost {
        let bytes = moved.iter().map(|t| (t.numel() * t.dtype().size()) as f64).sum();
        Cost { flops, bytes }
    }
}

/// One op that has just run.
pub struct OpEvent<'a> {
    /// The op's name.
    pub op: &'static str,
    /// What it had to do.
    pub cost: Cost,
    /// What it computed.
    pub output: &'a Tensor,
    /// What it was given (the differentiable inputs).
    pub inputs: &'a [&'a Tensor],
}

type Observer = Box<dyn FnMut(&OpEvent)>;

thread_local! {
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
}

/// Runs `f` and shows `observer` every op that it executes on this thread.
pub fn observe<R>(observer: impl FnMut(&OpEvent) + 'static, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Observer>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OBSERVER.set(self.0.take());
        }
    }
    let _restore = Restore(OBSERVER.replace(Some(Box::new(observer))));
    f()
}

/// Shows the observer, if there is one, an op that has run.
pub(super) fn notify(op: &'static str, cost: Cost, output: &Tensor, inputs: &[&Tensor]) {
    OBSERVER.with_borrow_mut(|observer| {
        if let Some(observer) = observer {
            observer(&OpEvent { op, cost, output, inputs });
        }
    });
}
