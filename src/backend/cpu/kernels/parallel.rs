//! The one place that decides between serial and parallel.
//!
//! Tasks are numbered by the shape of the problem alone; threads only choose who runs which. A task's arithmetic never
//! depends on its neighbours, so the result has the same bits for any number of threads.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Below this much estimated work, waking other threads costs more than it saves.
const WORTH_SHARING_NS: usize = 20_000;

/// Elements in one task of an elementwise kernel: 64 KiB, a few microseconds.
pub(crate) const CHUNK: usize = 1 << 14;

/// Estimated time of `flops` floating-point operations in a matrix kernel on one core.
pub(crate) fn flops_ns(flops: usize) -> usize {
    flops / 64
}

/// Estimated time of touching `elements` f32 values in a streaming kernel on one core.
pub(crate) fn elements_ns(elements: usize) -> usize {
    elements / 4
}

/// Runs `task(0) … task(tasks - 1)`, in parallel if `estimated_ns` of work in all is worth it.
pub(crate) fn for_each(tasks: usize, estimated_ns: usize, task: impl Fn(usize) + Sync) {
    let threads = rayon::current_num_threads().min(tasks);
    if threads <= 1 || estimated_ns < WORTH_SHARING_NS {
        return (0..tasks).for_each(task);
    }
    // The calling thread takes tasks too, so that it neither sleeps nor has to be woken: a step is dozens of such calls.
    let next = AtomicUsize::new(0);
    let work = || loop {
        match next.fetch_add(1, Ordering::Relaxed) {
            i if i < tasks => task(i),
            _ => break,
        }
    };
    rayon::in_place_scope(|scope| {
        (1..threads).for_each(|_| scope.spawn(|_| work()));
        work();
    });
}

/// Ranges of at most [`CHUNK`] covering `0..len`, run as tasks of an elementwise kernel.
pub(crate) fn for_each_chunk(len: usize, task: impl Fn(std::ops::Range<usize>) + Sync) {
    for_each(len.div_ceil(CHUNK), elements_ns(len), |i| task(i * CHUNK..len.min((i + 1) * CHUNK)));
}

/// A mutable slice whose disjoint parts are written by different tasks.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: `range` hands out parts that its callers promise to keep disjoint.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Disjoint { start: slice.as_mut_ptr(), len: slice.len(), owner: PhantomData }
    }

    /// The part `range` of the slice.
    ///
    /// # Safety
    /// No two live parts may overlap.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn range(&self, range: std::ops::Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} outside 0..{}", self.len);
        std::slice::from_raw_parts_mut(self.start.add(range.start), range.len())
    }
}
