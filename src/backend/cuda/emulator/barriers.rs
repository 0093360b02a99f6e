//! Barriers in shared memory that wait for bytes (`mbarrier`), and the bulk copies that arrive at them (`cp.async.bulk`). A copy arrives as
//! late as possible, when no thread can go on without it: who does not wait for it reads memory to which it still goes.

use super::access::{Access, Shared};
use std::collections::HashSet;
use std::ops::Range;

/// Addresses and sizes of bulk copies are multiples of this many bytes.
pub(super) const UNIT: usize = 16;

/// A barrier.
struct PhaseBarrier {
    /// Where it lies, in bytes from the start of shared memory.
    at: usize,
    arrivals: u32,
    /// Arrivals that the current phase still lacks, and bytes that were announced and are not there.
    missing: u32,
    bytes: usize,
    phase: u32,
    made_by: u32,
    made_in: u32,
    announced: bool,
}

impl PhaseBarrier {
    fn end_phase_if_complete(&mut self) {
        if self.missing == 0 && self.bytes == 0 {
            self.phase += 1;
            self.missing = self.arrivals;
        }
    }
}

/// A bulk copy under way.
struct BulkCopy {
    to: usize,
    from: usize,
    bytes: usize,
    barrier: usize,
}

/// A bulk copy that has arrived in a phase, and who has waited for the end of that: from the next barrier of the block on all know of it.
struct Arrival {
    place: Range<usize>,
    barrier: usize,
    phase: u32,
    seen_by: HashSet<u32>,
    seen_in: Option<u32>,
}

/// The barriers of a block, and the copies that will arrive or have arrived at them.
#[derive(Default)]
pub(super) struct Barriers {
    all: Vec<PhaseBarrier>,
    copies: Vec<BulkCopy>,
    arrivals: Vec<Arrival>,
}

impl Barriers {
    pub fn has_copies(&self) -> bool {
        !self.copies.is_empty()
    }

    fn at(&mut self, at: usize) -> Result<&mut PhaseBarrier, String> {
        self.all.iter_mut().find(|barrier| barrier.at == at).ok_or("uses a barrier that no thread has made".to_string())
    }

    /// Whether the phase with this parity, which is the current one or the one before, has ended.
    pub fn has_ended(&self, at: usize, parity: u32) -> bool {
        self.all.iter().any(|barrier| barrier.at == at && barrier.phase % 2 != parity)
    }

    /// A thread has waited for the end of a phase of this barrier: it sees what arrived before.
    pub fn see(&mut self, at: usize, thread: u32, epoch: u32) {
        let phase = self.all.iter().find(|barrier| barrier.at == at).map_or(0, |barrier| barrier.phase);
        for arrival in self.arrivals.iter_mut().filter(|arrival| arrival.barrier == at && arrival.phase < phase) {
            arrival.seen_by.insert(thread);
            arrival.seen_in.get_or_insert(epoch);
        }
    }

    /// Whether a thread may read what a bulk copy brought to this place.
    pub fn is_seen(&self, place: usize, thread: u32, epoch: u32) -> bool {
        self.arrivals
            .iter()
            .filter(|arrival| arrival.place.contains(&place))
            .all(|arrival| arrival.seen_by.contains(&thread) || arrival.seen_in.is_some_and(|seen_in| seen_in < epoch))
    }

    /// What a thread lacks that waits at a barrier in vain.
    pub fn lacks(&self, at: usize) -> String {
        let barrier = self.all.iter().find(|barrier| barrier.at == at);
        let (missing, bytes) = barrier.map_or((0, 0), |barrier| (barrier.missing, barrier.bytes));
        format!("waits for the end of a phase that lacks {missing} arrivals and {bytes} bytes for good")
    }
}

impl Shared {
    pub fn make_barrier(&mut self, at: usize, arrivals: u32, thread: u32) -> Result<(), String> {
        self.check(at, size_of::<u64>(), Access::Write, thread)?;
        let made_in = self.epoch();
        let barrier = PhaseBarrier {
            at,
            arrivals,
            missing: arrivals,
            bytes: 0,
            phase: 0,
            made_by: thread,
            made_in,
            announced: false,
        };
        self.barriers.all.retain(|barrier| barrier.at != at);
        self.barriers.all.push(barrier);
        Ok(())
    }

    pub fn announce_barriers(&mut self, thread: u32) {
        let own = self.barriers.all.iter_mut().filter(|barrier| barrier.made_by == thread);
        own.for_each(|barrier| barrier.announced = true);
    }

    /// Whether the thread may use a barrier at all.
    pub fn check_barrier(&mut self, at: usize, thread: u32) -> Result<(), String> {
        let epoch = self.epoch();
        let barrier = self.barriers.at(at)?;
        let maker = barrier.made_by;
        if thread != maker && !(barrier.announced && barrier.made_in < epoch) {
            return Err(format!(
                "uses a barrier that thread {maker} made, without `barriers_are_made` and __syncthreads between"
            ));
        }
        Ok(())
    }

    pub fn arrive_at(&mut self, at: usize, thread: u32) -> Result<(), String> {
        self.check_barrier(at, thread)?;
        let barrier = self.barriers.at(at)?;
        let arrivals = barrier.arrivals;
        let one_less = barrier.missing.checked_sub(1);
        barrier.missing =
            one_less.ok_or(format!("arrives at a phase at which {arrivals} have arrived, which is all"))?;
        barrier.end_phase_if_complete();
        Ok(())
    }

    /// Arrives with a copy, whose source was checked.
    pub fn arrive_with_copy(
        &mut self,
        at: usize,
        to: usize,
        from: usize,
        bytes: usize,
        thread: u32,
    ) -> Result<(), String> {
        self.check_barrier(at, thread)?;
        for place in (to..to + bytes).step_by(UNIT) {
            self.check(place, UNIT, Access::Copy, thread)?;
        }
        self.barriers.at(at)?.bytes += bytes;
        self.barriers.copies.push(BulkCopy { to, from, bytes, barrier: at });
        self.arrive_at(at, thread)
    }

    /// Lets one of the copies under way arrive: number `any` modulo how many there are.
    pub fn let_a_copy_arrive(&mut self, any: u32) {
        let number = any as usize % self.barriers.copies.len();
        let BulkCopy { to, from, bytes, barrier } = self.barriers.copies.swap_remove(number);
        let memory = self.arrive_in_bulk(to, bytes);
        // SAFETY: both places were checked when the copy was asked for; device memory lives as long as the grid.
        unsafe { memory.copy_from_nonoverlapping(from as *const u8, bytes) };
        let place = to..to + bytes;
        let overlaps = |other: &Range<usize>| other.start < place.end && place.start < other.end;
        self.barriers.arrivals.retain(|arrival| !overlaps(&arrival.place));
        let at = barrier;
        let barrier = self.barriers.at(at).expect("it was there when the copy began");
        let phase = barrier.phase;
        barrier.bytes -= bytes;
        barrier.end_phase_if_complete();
        self.barriers.arrivals.push(Arrival { place, barrier: at, phase, seen_by: HashSet::new(), seen_in: None });
    }
}
