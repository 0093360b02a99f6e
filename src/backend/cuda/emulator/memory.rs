//! Emulated device memory: host memory of which the emulator knows where every block starts and ends, and which block of threads last
//! wrote each word.

use crate::backend::cuda::driver::{DevicePtr, MemoryUse};
use crate::error::{Error, Result};
use std::alloc::{alloc, dealloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

/// Blocks start at a multiple of this, as `cudaMalloc`'s do.
const ALIGNMENT: usize = 256;
/// Who wrote is noted for words of this many bytes, and apart from that for single bytes where kernels write less than a word.
const WORD: usize = 4;

/// For each unit of memory the launch and the block of threads that wrote it last.
type Writers = Box<[AtomicU64]>;

/// A block of memory.
pub(super) struct Region {
    start: usize,
    bytes: usize,
    words: Writers,
    bytewise: OnceLock<Writers>,
}

impl Region {
    fn new(bytes: usize) -> Option<Region> {
        let layout = Region::layout(bytes)?;
        // SAFETY: the layout has a size above 0.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            return None;
        }
        // SAFETY: just allocated. All ones is NaN for every float type.
        unsafe { start.write_bytes(0xff, bytes) };
        let words = unwritten(bytes.div_ceil(WORD));
        Some(Region { start: start as usize, bytes, words, bytewise: OnceLock::new() })
    }

    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes, ALIGNMENT).ok().filter(|layout| layout.size() > 0)
    }

    /// Whether all of an access lies inside.
    pub fn holds(&self, address: usize, bytes: usize) -> bool {
        address >= self.start && address - self.start + bytes <= self.bytes
    }

    /// Where an address lies, seen from this region.
    pub fn describe(&self, address: usize) -> String {
        match (address - self.start).checked_sub(self.bytes) {
            Some(after) => format!("{after} bytes after the end of a block of {} bytes", self.bytes),
            None => format!("across the end of a block of {} bytes", self.bytes),
        }
    }

    /// Notes that `block` of `launch` is about to write; returns another block of the same launch that wrote before, if one did.
    pub fn note_write(&self, address: usize, bytes: usize, launch: u32, block: u32) -> Option<u32> {
        let own = stamp(launch, block);
        let mut other = None;
        for unit in self.units(address, bytes) {
            other = other_block(unit.load(Ordering::Relaxed), launch, block).or(other);
            unit.store(own, Ordering::Relaxed);
        }
        other
    }

    /// Another block of the same launch that wrote what `block` is about to read, if one did.
    pub fn written_by_another(&self, address: usize, bytes: usize, launch: u32, block: u32) -> Option<u32> {
        self.units(address, bytes).iter().find_map(|unit| other_block(unit.load(Ordering::Relaxed), launch, block))
    }

    fn units(&self, address: usize, bytes: usize) -> &[AtomicU64] {
        let offset = address - self.start;
        match bytes < WORD {
            true => &self.bytewise.get_or_init(|| unwritten(self.bytes))[offset..offset + bytes],
            false => &self.words[offset / WORD..(offset + bytes).div_ceil(WORD)],
        }
    }
}

fn unwritten(units: usize) -> Writers {
    (0..units).map(|_| AtomicU64::new(0)).collect()
}

fn stamp(launch: u32, block: u32) -> u64 {
    u64::from(launch) << 32 | u64::from(block)
}

fn other_block(found: u64, launch: u32, block: u32) -> Option<u32> {
    let (its_launch, its_block) = ((found >> 32) as u32, found as u32);
    (its_launch == launch && its_block != block).then_some(its_block)
}

impl Drop for Region {
    fn drop(&mut self) {
        let layout = Region::layout(self.bytes).expect("it was allocated with this layout");
        // SAFETY: allocated with this layout, and nobody else has it.
        unsafe { dealloc(self.start as *mut u8, layout) }
    }
}

/// The regions that are alive, by address. A launch works on the regions that were alive when it began.
pub(super) type Regions = Arc<Vec<Arc<Region>>>;

/// The region that an address lies in, or would if it were a little smaller.
pub(super) fn region_of(regions: &[Arc<Region>], address: usize) -> Option<&Arc<Region>> {
    let after = regions.partition_point(|region| region.start <= address);
    after.checked_sub(1).map(|i| &regions[i])
}

/// All of the device's memory.
pub(super) struct Memory {
    total: u64,
    regions: RwLock<(Regions, u64)>,
}

impl Memory {
    pub fn new(total: u64) -> Memory {
        Memory { total, regions: RwLock::default() }
    }

    pub fn allocate(&self, bytes: usize) -> Result<DevicePtr> {
        let mut guard = self.regions.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (regions, in_use) = &mut *guard;
        let (asked, free) = (bytes as u64, self.total - *in_use);
        let region = if asked <= free { Region::new(bytes) } else { None };
        let region = region.ok_or_else(|| Error::out_of_memory(asked, *in_use, free))?;
        let start = region.start;
        let all = Arc::make_mut(regions);
        all.insert(all.partition_point(|other| other.start < start), Arc::new(region));
        *in_use += asked;
        Ok(DevicePtr(start as u64))
    }

    pub fn free(&self, memory: DevicePtr) {
        let mut guard = self.regions.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (regions, in_use) = &mut *guard;
        if let Ok(at) = regions.binary_search_by_key(&(memory.0 as usize), |region| region.start) {
            let region = Arc::make_mut(regions).remove(at);
            *in_use -= region.bytes as u64;
        }
    }

    pub fn usage(&self) -> MemoryUse {
        let in_use = self.regions.read().unwrap_or_else(|poisoned| poisoned.into_inner()).1;
        MemoryUse { in_use, free: self.total - in_use }
    }

    /// The regions that are alive now.
    pub fn regions(&self) -> Regions {
        self.regions.read().unwrap_or_else(|poisoned| poisoned.into_inner()).0.clone()
    }

    /// Runs `f` on a stretch of memory that lies in one region.
    fn with<R>(&self, at: DevicePtr, bytes: usize, f: impl FnOnce(*mut u8) -> R) -> Result<R> {
        let (regions, address) = (self.regions(), at.0 as usize);
        match region_of(&regions, address).filter(|region| region.holds(address, bytes)) {
            Some(_) => Ok(f(address as *mut u8)),
            None => {
                let reason = format!("{bytes} bytes at {address:#x} are not in device memory");
                Err(Error::Device { op: "copy", reason })
            }
        }
    }

    pub fn write(&self, to: DevicePtr, from: &[u8]) -> Result<()> {
        // SAFETY: the stretch is alive and `from` as long; launches have ended.
        self.with(to, from.len(), |to| unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) })
    }

    pub fn read(&self, from: DevicePtr, to: &mut [u8]) -> Result<()> {
        // SAFETY: as above.
        self.with(from, to.len(), |from| unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) })
    }

    pub fn copy(&self, from: DevicePtr, to: DevicePtr, bytes: usize) -> Result<()> {
        self.with(from, bytes, |from| {
            // SAFETY: both stretches are alive.
            self.with(to, bytes, |to| unsafe { to.copy_from(from, bytes) })
        })?
    }
}
