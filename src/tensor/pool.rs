//! The caching memory pool of the host: freed blocks are kept by size and handed out again, so that a training step allocates
//! nothing once every size it needs has been seen.

use std::alloc::{alloc_zeroed, dealloc, handle_alloc_error, Layout};
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::{LazyLock, Mutex};

/// Blocks start on a cache line, which is also what the widest vector load wants.
const ALIGNMENT: usize = 64;

/// What the pool has done since the program started (or since [`reset_peak`] for the peak).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Blocks asked of the operating system.
    pub system_allocations: u64,
    /// Requests served from a kept block.
    pub reused: u64,
    /// Bytes in tensors now.
    pub bytes_in_use: usize,
    /// The most bytes that were in tensors at one time.
    pub peak_bytes: usize,
    /// Bytes kept for reuse.
    pub bytes_cached: usize,
}

#[derive(Default)]
struct Pool {
    free: HashMap<usize, Vec<Block>>,
    stats: PoolStats,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

fn with_pool<R>(f: impl FnOnce(&mut Pool) -> R) -> R {
    f(&mut POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// The pool's counters.
pub fn stats() -> PoolStats {
    with_pool(|pool| pool.stats)
}

/// Starts a new measurement of [`PoolStats::peak_bytes`].
pub fn reset_peak() {
    with_pool(|pool| pool.stats.peak_bytes = pool.stats.bytes_in_use);
}

/// Gives every kept block back to the operating system.
pub fn release_cached() {
    let kept = with_pool(|pool| {
        pool.stats.bytes_cached = 0;
        std::mem::take(&mut pool.free)
    });
    for block in kept.into_values().flatten() {
        block.release();
    }
}

/// Requests are rounded up to the next of 4, 5, 6, 7 × 2^k bytes, so that at most a fifth of a block is wasted.
fn size_class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(ALIGNMENT);
    bytes.max(1).div_ceil(step) * step
}

#[derive(Clone, Copy)]
struct Block {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: a block is plain memory with one owner: the pool or one `HostBuffer`.
unsafe impl Send for Block {}
unsafe impl Sync for Block {}

impl Block {
    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, ALIGNMENT).expect("a size that was checked when the shape was made")
    }

    /// Zeroed memory: fresh pages are zero anyway, and reading them is then always defined.
    fn allocate(capacity: usize) -> Block {
        let layout = Block::layout(capacity);
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc_zeroed(layout) };
        Block { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), capacity }
    }

    fn release(self) {
        // SAFETY: allocated with this layout, and owned.
        unsafe { dealloc(self.start.as_ptr(), Block::layout(self.capacity)) }
    }
}

/// Bytes of host memory, aligned to 64, returned to the pool when dropped. The contents of a new buffer are unspecified (all
/// ones in debug builds, which is NaN for every float type).
pub struct HostBuffer {
    block: Block,
    bytes: usize,
}

impl HostBuffer {
    /// A buffer of `bytes` bytes.
    pub fn new(bytes: usize) -> HostBuffer {
        let capacity = size_class(bytes);
        let kept = with_pool(|pool| {
            let kept = pool.free.get_mut(&capacity).and_then(Vec::pop);
            match kept {
                Some(_) => {
                    pool.stats.reused += 1;
                    pool.stats.bytes_cached -= capacity;
                }
                None => pool.stats.system_allocations += 1,
            }
            pool.stats.bytes_in_use += capacity;
            pool.stats.peak_bytes = pool.stats.peak_bytes.max(pool.stats.bytes_in_use);
            kept
        });
        let mut buffer = HostBuffer { block: kept.unwrap_or_else(|| Block::allocate(capacity)), bytes };
        if cfg!(debug_assertions) {
            buffer.as_mut_bytes().fill(0xff);
        }
        buffer
    }

    /// The contents.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the block holds at least `bytes` initialised bytes and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.block.start.as_ptr(), self.bytes) }
    }

    /// The contents, to write.
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.block.start.as_ptr(), self.bytes) }
    }
}

impl Drop for HostBuffer {
    fn drop(&mut self) {
        let block = self.block;
        with_pool(|pool| {
            pool.stats.bytes_in_use -= block.capacity;
            pool.stats.bytes_cached += block.capacity;
            pool.free.entry(block.capacity).or_default().push(block);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_waste_at_most_a_fifth() {
        for bytes in (1..100_000).step_by(7).chain([1 << 20, (1 << 20) + 1, 123_456_789]) {
            let class = size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(ALIGNMENT), "{bytes} → {class}");
            assert!(class - bytes <= (bytes / 4).max(ALIGNMENT), "{bytes} → {class}");
        }
    }

    #[test]
    fn buffers_are_aligned_and_sized() {
        for bytes in [0, 1, 63, 64, 65, 10_000] {
            let buffer = HostBuffer::new(bytes);
            assert_eq!(buffer.as_bytes().len(), bytes);
            assert_eq!(buffer.as_bytes().as_ptr() as usize % ALIGNMENT, 0);
        }
    }
}
