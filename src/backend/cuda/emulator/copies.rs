//! Asynchronous copies (`cp.async`): what they bring is in shared memory once the thread has waited for their group, and no sooner.

use super::access::Shared;
use std::collections::VecDeque;

/// A copy from device memory, or of zeros.
#[derive(Clone, Copy)]
pub(super) struct Copy {
    /// Where it goes to, counted from the start of shared memory.
    pub to: usize,
    /// Where it comes from; zeros if from nowhere.
    pub from: Option<usize>,
    pub bytes: usize,
}

/// The copies of one thread that are under way, by groups.
#[derive(Default)]
pub(super) struct Copies {
    groups: VecDeque<Vec<Copy>>,
    open: Vec<Copy>,
}

impl Copies {
    /// Adds a copy to the group that is not complete yet.
    pub fn add(&mut self, copy: Copy) {
        self.open.push(copy);
    }

    /// Completes a group.
    pub fn commit(&mut self) {
        self.groups.push_back(std::mem::take(&mut self.open));
    }

    /// Takes the copies of all groups but the last `pending`, in the order in which they were asked for.
    pub fn waited_for(&mut self, pending: usize) -> Vec<Copy> {
        let done = self.groups.len().saturating_sub(pending);
        self.groups.drain(..done).flatten().collect()
    }
}

impl Shared {
    /// Carries out copies of a thread that waits for all its groups but the last `pending`.
    pub fn wait_for_copies(&mut self, thread: u32, pending: usize) {
        for Copy { to, from, bytes } in self.copies_of(thread).waited_for(pending) {
            let memory = self.arrive(to, bytes, thread);
            match from {
                // SAFETY: both places were checked when the copy was asked for; device memory lives as long as the grid.
                Some(from) => unsafe { memory.copy_from_nonoverlapping(from as *const u8, bytes) },
                // SAFETY: as above.
                None => unsafe { memory.write_bytes(0, bytes) },
            }
        }
    }
}
