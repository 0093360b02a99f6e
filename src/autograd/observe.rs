//! Watching ops as they run: `summary` counts their cost, the search for the first NaN looks at their outputs, and a profile times
//! them and what follows them.

use crate::tensor::{Shape, Tensor};
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

/// A part of a training step that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What it belongs to.
    pub phase: Phase,
    /// The op's name, or the optimiser's.
    pub op: &'static str,
    /// The shape of the op's output; a scalar's where there is none.
    pub shape: Shape,
}

/// The phases of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// An op computes its output.
    Forward,
    /// An op computes and hands on the gradients of its inputs.
    Backward,
    /// The parameters change.
    Optimizer,
}

type Observer = Box<dyn FnMut(&OpEvent)>;
type Timekeeper = Box<dyn FnMut(Segment)>;

thread_local! {
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
    static TIMEKEEPER: RefCell<Option<Timekeeper>> = const { RefCell::new(None) };
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

/// Runs `f` and tells `timekeeper` of every segment that ends on this thread, at its end.
pub fn keep_time<R>(timekeeper: impl FnMut(Segment) + 'static, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Timekeeper>);
    impl Drop for Restore {
        fn drop(&mut self) {
            TIMEKEEPER.set(self.0.take());
        }
    }
    let _restore = Restore(TIMEKEEPER.replace(Some(Box::new(timekeeper))));
    f()
}

/// Tells the timekeeper, if there is one, that a segment has ended.
pub(crate) fn segment_ends(phase: Phase, op: &'static str, shape: Shape) {
    TIMEKEEPER.with_borrow_mut(|timekeeper| {
        if let Some(timekeeper) = timekeeper {
            timekeeper(Segment { phase, op, shape });
        }
    });
}

/// Shows the observer, if there is one, an op that has run.
pub(super) fn notify(op: &'static str, cost: Cost, output: &Tensor, inputs: &[&Tensor]) {
    segment_ends(Phase::Forward, op, *output.shape());
    OBSERVER.with_borrow_mut(|observer| {
        if let Some(observer) = observer {
            observer(&OpEvent { op, cost, output, inputs });
        }
    });
}
