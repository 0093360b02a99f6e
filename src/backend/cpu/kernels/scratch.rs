//! Scratch memory that is allocated once: each thread keeps the buffers it has used and lends them out again.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// One cache line, so that every buffer is aligned for the widest vector.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _bytes: [u8; 64],
}

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Numbers of at most 64 bits for which every bit pattern is a value.
///
/// # Safety
/// Implementors must be valid for any bytes and aligned to at most 64.
pub(crate) unsafe trait Plain: Copy {}
unsafe impl Plain for f32 {}
unsafe impl Plain for f64 {}
unsafe impl Plain for u8 {}
unsafe impl Plain for u32 {}
unsafe impl Plain for usize {}

/// A borrowed buffer of `T`, given back to the thread that drops it.
pub(crate) struct Scratch<T: Plain> {
    lines: Vec<Line>,
    len: usize,
    kind: PhantomData<T>,
}

/// A buffer of `len` elements with arbitrary contents (whatever its last user left).
pub(crate) fn take<T: Plain>(len: usize) -> Scratch<T> {
    let needed = (len * size_of::<T>()).div_ceil(size_of::<Line>());
    let mut lines = FREE.with_borrow_mut(|free| pick(free, needed));
    if lines.len() < needed {
        lines.resize(needed, Line { _bytes: [0; 64] });
    }
    Scratch { lines, len, kind: PhantomData }
}

/// A buffer of `len` zeros.
pub(crate) fn zeroed(len: usize) -> Scratch<f32> {
    let mut buffer = take(len);
    buffer.fill(0.0);
    buffer
}

/// The smallest free buffer that is large enough, else the largest one (which then grows).
fn pick(free: &mut Vec<Vec<Line>>, needed: usize) -> Vec<Line> {
    let fits = (0..free.len()).filter(|&i| free[i].len() >= needed).min_by_key(|&i| free[i].len());
    let best = fits.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()));
    best.map(|i| free.swap_remove(i)).unwrap_or_default()
}

impl<T: Plain> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that is shutting down has no pool any more; its buffers are simply freed.
        let _ = FREE.try_with(|free| free.borrow_mut().push(lines));
    }
}

impl<T: Plain> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `len` elements, are aligned to 64 and initialised.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_lent_again_and_aligned() {
        let first = take::<f32>(1000);
        let address = first.as_ptr();
        drop(first);
        let again = take::<f32>(900);
        assert_eq!(again.as_ptr(), address);
        assert_eq!(address as usize % 64, 0);
        assert_ne!(take::<usize>(900).as_ptr().cast(), address);
    }
}
