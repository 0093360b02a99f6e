//! What a thread may do with memory, checked before it does it.
//!
//! Device memory: an access lies in one live block, aligned to its size, and no word is touched by two blocks of a grid if one writes
//! it: the result would depend on their order. Shared memory: an access lies in one variable; what is read was written before; no
//! byte is touched by two threads between two barriers if one writes it; and none at all while an asynchronous copy goes there, or another
//! block's number, or while a product that was not waited for reads it and one would write. Registers of such products are not touched either.

use super::barriers::{Barriers, UNIT};
use super::block::{emulated_place_of_this_thread, Grid, Place, Wait};
use super::copies::{Copies, Copy};
use super::memory::{region_of, Region};
use super::products::Products;
use corosensei::Yielder;
use std::cell::Cell;
use std::ptr::null;

/// Bytes of a word.
pub(super) const WORD: usize = 4;
/// Bytes of shared memory that a block has without asking for more.
const SHARED: usize = 48 << 10;
/// The device's memory begins above this; below lie null pointers with an offset.
const FIRST_ADDRESS: usize = 1 << 16;

/// The thread that runs on this thread of the operating system.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub grid: *const Grid<'static>,
    pub shared: *mut Shared,
    /// The shared memory of all blocks of its cluster.
    pub cluster: *mut [Shared],
    pub block: u32,
    pub thread: u32,
    pub stack: [usize; 2],
    pub yielder: *const Yielder<u64, Wait>,
}

thread_local! {
    pub(super) static RUNNING: Cell<Running> = const {
        Cell::new(Running {
            grid: null(),
            shared: std::ptr::null_mut(),
            cluster: std::ptr::slice_from_raw_parts_mut(std::ptr::null_mut(), 0),
            block: 0,
            thread: 0,
            stack: [0; 2],
            yielder: null(),
        })
    };
}

/// What is done with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// Reads and writes at once, in any order with other threads.
    Atomic,
    /// Is about to be written by an asynchronous copy.
    Copy,
}

/// Lets the scheduler run other threads until this one's wait is over.
pub(super) fn suspend(wait: Wait) -> u64 {
    let before = RUNNING.get();
    // SAFETY: kernels call this, and they run in coroutines whose yielder was noted when they started.
    let brought = unsafe { (*before.yielder).suspend(wait) };
    RUNNING.set(Running { yielder: before.yielder, ..RUNNING.get() });
    brought
}

/// Ends the running thread, and its grid, with an error.
pub(super) fn fail(running: &Running, reason: String) {
    // SAFETY: the grid outlives its threads.
    unsafe { (*running.grid).fail(running.block, Some(running.thread), reason) };
    suspend(Wait::Failed);
}

/// Checks an access of the running thread. Where it is forbidden, the thread ends here.
#[inline]
pub(super) fn check(address: usize, bytes: usize, access: Access) {
    let running = RUNNING.get();
    // SAFETY: a thread is running, so its block's shared memory is there, and nobody else uses it meanwhile.
    let shared = unsafe { &mut *running.shared };
    if (running.stack[0]..running.stack[1]).contains(&address) {
        if shared.products.hold(address, running.thread) {
            fail(&running, "touches sums of products that were not waited for".to_string());
        }
        return;
    }
    let result = match shared.offset_of(address) {
        Some(offset) => shared.check(offset, bytes, access, running.thread),
        None => check_device(&running, address, bytes, access),
    };
    if let Err(reason) = result {
        fail(&running, reason);
    }
}

/// Starts an asynchronous copy from device to shared memory, of zeros if `from` is nowhere.
pub(super) fn copy_async(to: usize, from: Option<usize>, bytes: usize) {
    let running = RUNNING.get();
    // SAFETY: as above.
    let shared = unsafe { &mut *running.shared };
    let source = from.map_or(Ok(()), |from| check_device(&running, from, bytes, Access::Read));
    let started = source.and_then(|()| {
        let to = shared.offset_of(to).ok_or("an asynchronous copy goes to an address outside of shared memory")?;
        shared.check(to, bytes, Access::Copy, running.thread)?;
        shared.copies_of(running.thread).add(Copy { to, from, bytes });
        Ok(())
    });
    if let Err(reason) = started {
        fail(&running, reason);
    }
}

/// What the running thread does with the block's shared memory; where it is forbidden, the thread ends here.
pub(super) fn with_shared<R: Default>(body: impl FnOnce(&mut Shared, u32) -> Result<R, String>) -> R {
    let running = RUNNING.get();
    // SAFETY: as above.
    body(unsafe { &mut *running.shared }, running.thread).unwrap_or_else(|reason| {
        fail(&running, reason);
        R::default()
    })
}

/// Arrives at a barrier with a copy from device to shared memory.
pub(super) fn copy_in_bulk(barrier: usize, to: usize, from: usize, bytes: usize) {
    let running = RUNNING.get();
    with_shared(|shared, thread| {
        if !bytes.is_multiple_of(UNIT) {
            return Err(format!("copies {bytes} bytes, which is not a multiple of {UNIT}"));
        }
        check_units(&running, from, bytes)?;
        let (barrier, to) = (shared.place(barrier)?, shared.place(to)?);
        shared.arrive_with_copy(barrier, to, from, bytes, thread)
    });
}

/// Puts a word where block `rank` of the running thread's cluster has what its own block has at an address.
pub(super) fn put_in_block(address: usize, rank: usize, value: u32) {
    let running = RUNNING.get();
    // SAFETY: as above.
    let offset = unsafe { (*running.shared).place(address) };
    // SAFETY: as above, of every block of the cluster: one thread of all runs at a time.
    let cluster = unsafe { &mut *running.cluster };
    let put = offset.and_then(|offset| match cluster.get_mut(rank) {
        Some(shared) => shared.put(offset, value),
        None => Err(format!("puts a number into block {rank} of a cluster that has not so many")),
    });
    if let Err(reason) = put {
        fail(&running, reason);
    }
}

/// Checks reading whole units of device memory.
fn check_units(running: &Running, from: usize, bytes: usize) -> Result<(), String> {
    (from..from + bytes).step_by(UNIT).try_for_each(|at| check_device(running, at, UNIT, Access::Read))
}

/// Checks that the running thread may read all of a stretch of device memory.
pub(super) fn check_stretch(from: usize, bytes: usize) {
    let running = RUNNING.get();
    let readable = match from.is_multiple_of(UNIT) && bytes.is_multiple_of(UNIT) {
        true => check_units(&running, from, bytes),
        false => Err(format!("{bytes} bytes at {from:#x}, where multiples of {UNIT} are wanted")),
    };
    if let Err(reason) = readable {
        fail(&running, reason);
    }
}

fn check_device(running: &Running, address: usize, bytes: usize, access: Access) -> Result<(), String> {
    // SAFETY: the grid outlives its threads.
    let grid = unsafe { &*running.grid };
    if is_place(address) || (access == Access::Read && grid.is_argument(address, bytes)) {
        return Ok(());
    }
    let verb = if access == Access::Read { "reads" } else { "writes" };
    let region: &Region = match region_of(&grid.regions, address) {
        Some(region) if region.holds(address, bytes) => region,
        nearest => return Err(outside(verb, address, bytes, nearest.map(|region| &**region))),
    };
    if address & (bytes - 1) != 0 {
        return Err(format!("{verb} {bytes} bytes at an address that is not a multiple of {bytes}"));
    }
    let other = match access {
        Access::Read => region.written_by_another(address, bytes, grid.id, running.block),
        Access::Write => region.note_write(address, bytes, grid.id, running.block),
        Access::Atomic | Access::Copy => None,
    };
    match other {
        None => Ok(()),
        Some(other) => {
            let what = if access == Access::Read { "reads" } else { "overwrites" };
            Err(format!("{what} what block number {other} of the same grid wrote: the result depends on their order"))
        }
    }
}

fn outside(verb: &str, address: usize, bytes: usize, nearest: Option<&Region>) -> String {
    match nearest {
        _ if address < FIRST_ADDRESS => format!("{verb} {bytes} bytes through a null pointer"),
        Some(region) => format!("{verb} {bytes} bytes outside of device memory, {}", region.describe(address)),
        None => format!("{verb} {bytes} bytes outside of device memory"),
    }
}

/// Whether the address is that of `threadIdx` and the like.
fn is_place(address: usize) -> bool {
    // SAFETY: the function only takes an address.
    let place = unsafe { emulated_place_of_this_thread() } as usize;
    (place..place + size_of::<Place>()).contains(&address)
}

/// A block's shared memory, and who touched which byte of it since when.
pub(super) struct Shared {
    memory: Box<[u128]>,
    /// For each word; what is smaller than a word is followed byte by byte.
    words: Box<[Mark]>,
    bytewise: Box<[Mark]>,
    variables: Vec<Variable>,
    /// Asynchronous copies under way, by thread.
    copies: Vec<Copies>,
    pub barriers: Barriers,
    pub products: Products,
    /// What blocks of the cluster put here, which is there behind the cluster's next barrier: where, and what.
    puts: Vec<(usize, u32)>,
    /// Counts barriers; the block starts at 1.
    epoch: u32,
    /// The epoch that the cluster's last barrier began, 0 before the first one.
    cluster_epoch: u32,
}

/// A variable in shared memory.
struct Variable {
    key: usize,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Default)]
struct Mark {
    /// The epoch of the last write, 0 if there was none, [`UNDER_WAY`] while the writer's asynchronous copy goes there, [`PUT`] while what a block
    /// put there is not yet there.
    written: u32,
    writer: u32,
    /// The epoch of the last read.
    read: u32,
    reader: u32,
}

/// In place of a reader where there were several.
const SEVERAL: u32 = u32::MAX;
/// In place of the epoch of a write that has not arrived.
const UNDER_WAY: u32 = u32::MAX;
/// In place of the epoch of a write by any block of the cluster, before the cluster's next barrier.
const PUT: u32 = u32::MAX - 1;
/// In place of a writer where a bulk copy has arrived.
const BULK_COPY: u32 = u32::MAX;

impl Default for Shared {
    fn default() -> Shared {
        let memory = vec![0; SHARED / size_of::<u128>()].into_boxed_slice();
        let marks = |n| vec![Mark::default(); n].into_boxed_slice();
        Shared {
            memory,
            words: marks(SHARED / WORD),
            bytewise: marks(SHARED),
            variables: Vec::new(),
            copies: Vec::new(),
            barriers: Barriers::default(),
            products: Products::default(),
            puts: Vec::new(),
            epoch: 0,
            cluster_epoch: 0,
        }
    }
}

impl Shared {
    fn bytes(&self) -> usize {
        self.variables.last().map_or(0, |variable| variable.end)
    }

    /// Forgets the block before.
    pub fn start_block(&mut self) {
        self.variables.clear();
        self.copies.clear();
        self.barriers = Barriers::default();
        self.products = Products::default();
        self.puts.clear();
        (self.epoch, self.cluster_epoch) = (1, 0);
    }

    /// What a block must not leave behind: the thread that did, and what.
    pub fn left_behind(&self) -> Result<(), (usize, String)> {
        match self.products.forgotten() {
            Some(thread) => Err((thread, "ends before it has waited for its products".to_string())),
            None if self.barriers.has_copies() => {
                Err((0, "the block ends before a bulk copy has arrived, for which no thread waits".to_string()))
            }
            None if !self.puts.is_empty() => {
                Err((0, "the block ends before the cluster's barrier behind what was put into it".to_string()))
            }
            None => Ok(()),
        }
    }

    /// The asynchronous copies of a thread.
    pub fn copies_of(&mut self, thread: u32) -> &mut Copies {
        let thread = thread as usize;
        if self.copies.len() <= thread {
            self.copies.resize_with(thread + 1, Copies::default);
        }
        &mut self.copies[thread]
    }

    /// Where an asynchronous copy is to be written that has now arrived: as if the thread wrote it.
    pub fn arrive(&mut self, offset: usize, bytes: usize, thread: u32) -> *mut u8 {
        for mark in &mut self.words[offset / WORD..(offset + bytes) / WORD] {
            (mark.written, mark.writer) = (self.epoch, thread);
        }
        self.memory.as_mut_ptr().cast::<u8>().wrapping_add(offset)
    }

    /// The same of a bulk copy, which arrives for all threads at once.
    pub fn arrive_in_bulk(&mut self, offset: usize, bytes: usize) -> *mut u8 {
        self.arrive(offset, bytes, BULK_COPY)
    }

    /// Checks a word that a product of these threads is about to read.
    pub fn check_operand(&self, offset: usize, mut threads: std::ops::Range<u32>) -> Result<(), String> {
        if !self.has_variable(offset, WORD) {
            return Err("multiplies what lies outside of the block's variables in shared memory".to_string());
        }
        let Mark { written, writer, .. } = self.words[offset / WORD];
        match written {
            0 => Err("multiplies shared memory that no thread has written".to_string()),
            UNDER_WAY | PUT => {
                Err("multiplies shared memory to which an asynchronous copy goes that was not waited for".to_string())
            }
            _ if writer == BULK_COPY => {
                match threads.find(|&thread| !self.barriers.is_seen(offset, thread, self.epoch)) {
                    None => Ok(()),
                    Some(thread) => {
                        Err(format!("multiplies what a bulk copy brought, for which thread {thread} has not waited"))
                    }
                }
            }
            _ if written == self.epoch => {
                Err(format!("multiplies what thread {writer} writes to shared memory, without a barrier between"))
            }
            _ if !self.products.see(written, writer) => Err(format!(
                "multiplies what thread {writer} wrote to shared memory, without `show_to_products` between"
            )),
            _ => Ok(()),
        }
    }

    /// A word of shared memory.
    pub fn word(&self, offset: usize) -> u32 {
        bytemuck::cast_slice::<u128, u32>(&self.memory)[offset / WORD]
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    pub fn pass_barrier(&mut self) {
        self.epoch += 1;
    }

    /// What was put here is now there.
    pub fn pass_cluster_barrier(&mut self) {
        for (offset, value) in std::mem::take(&mut self.puts) {
            bytemuck::cast_slice_mut::<u128, u32>(&mut self.memory)[offset / WORD] = value;
            self.words[offset / WORD].written = self.epoch;
        }
        self.pass_barrier();
        self.cluster_epoch = self.epoch;
    }

    /// Puts a word here, for any block of the cluster.
    fn put(&mut self, offset: usize, value: u32) -> Result<(), String> {
        if self.cluster_epoch == 0 {
            return Err(
                "puts a number into a block that may not be there yet, before any barrier of the cluster".into()
            );
        }
        if !self.has_variable(offset, WORD) || !offset.is_multiple_of(WORD) {
            return Err("puts a number outside of a block's variables in shared memory".into());
        }
        let mark = &mut self.words[offset / WORD];
        if [mark.written, mark.read].into_iter().any(|epoch| epoch >= self.cluster_epoch) {
            return Err(
                "puts a number where another thread reads or writes, without a barrier of the cluster between".into()
            );
        }
        mark.written = PUT;
        self.puts.push((offset, value));
        Ok(())
    }

    fn has_variable(&self, offset: usize, bytes: usize) -> bool {
        self.variables.iter().any(|variable| variable.start <= offset && offset + bytes <= variable.end)
    }

    /// The memory of a variable; all calls with one key get the same.
    pub fn variable(&mut self, key: usize, bytes: usize, alignment: usize) -> Result<*mut u8, String> {
        let known = self.variables.iter().find(|variable| variable.key == key);
        let start = match known {
            Some(variable) => variable.start,
            None => {
                let start = self.bytes().next_multiple_of(alignment.max(WORD));
                if start + bytes > SHARED {
                    return Err(format!("{} bytes of shared memory, a block has {SHARED}", start + bytes));
                }
                self.words[start / WORD..(start + bytes).div_ceil(WORD)].fill(Mark::default());
                self.bytewise[start..start + bytes].fill(Mark::default());
                bytemuck::cast_slice_mut::<u128, u8>(&mut self.memory)[start..start + bytes].fill(0xff);
                self.variables.push(Variable { key, start, end: start + bytes });
                start
            }
        };
        Ok(self.memory.as_mut_ptr().cast::<u8>().wrapping_add(start))
    }

    /// Where an address lies in shared memory.
    pub fn place(&self, address: usize) -> Result<usize, String> {
        self.offset_of(address).ok_or("uses an address outside of shared memory as if it lay inside".to_string())
    }

    /// Where an address lies in shared memory, if it does.
    fn offset_of(&self, address: usize) -> Option<usize> {
        let start = self.memory.as_ptr() as usize;
        (start..start + SHARED).contains(&address).then(|| address - start)
    }

    pub fn check(&mut self, offset: usize, bytes: usize, access: Access, thread: u32) -> Result<(), String> {
        if !self.has_variable(offset, bytes) {
            let verb = if access == Access::Read { "reads" } else { "writes" };
            return Err(format!("{verb} {bytes} bytes outside of the block's variables in shared memory"));
        }
        if offset & (bytes - 1) != 0 {
            return Err(format!("{bytes} bytes of shared memory at an address that is not a multiple of {bytes}"));
        }
        if access != Access::Read {
            self.products.note_write(self.epoch, thread);
            if (offset / WORD..(offset + bytes).div_ceil(WORD)).any(|word| self.products.read(word)) {
                return Err("writes shared memory that a product reads which was not waited for".to_string());
            }
        }
        let epoch = self.epoch;
        let marks = match bytes < WORD {
            true => &mut self.bytewise[offset..offset + bytes],
            false => &mut self.words[offset / WORD..(offset + bytes) / WORD],
        };
        for mark in marks {
            let verb = if access == Access::Read { "reads" } else { "writes" };
            if mark.written == PUT {
                return Err(format!(
                    "{verb} shared memory where a block puts a number, without a barrier of the cluster between"
                ));
            }
            if mark.written == UNDER_WAY {
                let writer = mark.writer;
                return Err(format!(
                    "{verb} shared memory to which an asynchronous copy of thread {writer} goes that was not waited for"
                ));
            }
            let written_now = mark.written == epoch && mark.writer != thread && mark.writer != BULK_COPY;
            if access == Access::Read {
                if mark.written == 0 {
                    return Err("reads shared memory that no thread has written".to_string());
                }
                if mark.writer == BULK_COPY && !self.barriers.is_seen(offset, thread, epoch) {
                    return Err("reads what a bulk copy brought, for which it has not waited".to_string());
                }
                if written_now {
                    let writer = mark.writer;
                    return Err(format!(
                        "reads what thread {writer} writes to shared memory, without a barrier between"
                    ));
                }
                let alone = mark.read != epoch || mark.reader == thread;
                (mark.read, mark.reader) = (epoch, if alone { thread } else { SEVERAL });
            } else {
                if written_now {
                    let writer = mark.writer;
                    return Err(format!(
                        "writes shared memory that thread {writer} also writes, without a barrier between"
                    ));
                }
                if mark.read == epoch && mark.reader != thread {
                    return Err("writes shared memory that another thread reads, without a barrier between".to_string());
                }
                (mark.written, mark.writer) = (if access == Access::Copy { UNDER_WAY } else { epoch }, thread);
            }
        }
        Ok(())
    }
}
