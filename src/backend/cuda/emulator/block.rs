//! Running a grid: its blocks in parallel, or those of a cluster together, the threads of a block as coroutines that meet at barriers and
//! shuffles.

use super::access::{Running, Shared, RUNNING};
use super::kernels::{kernel, Kernel};
use super::matrix::{self, Lane, MatrixOp};
use super::memory::{Memory, Regions};
use super::products::{Product, WARPGROUP};
use crate::backend::cuda::driver::{Arg, Launch};
use crate::error::{Error, Result};
use crate::tensor::random::Sequence;
use crate::tensor::Rng;
use corosensei::stack::{DefaultStack, Stack};
use corosensei::{Coroutine, CoroutineResult};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Mutex;

/// Threads of a warp.
pub(super) const WARP: usize = 32;
/// What a GPU's grid and block can be at most.
const MOST_THREADS: u32 = 1024;
const MOST_BLOCKS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
/// Bytes of a thread's stack: kernels keep little there, the checks a little more.
const STACK: usize = 64 << 10;

/// Stacks that a thread of the operating system keeps: the system lets a process have some 30,000.
const KEPT_STACKS: usize = 1024;

/// What a thread waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// All threads of the block.
    Barrier,
    /// All lanes of the mask, to receive what `source` brought.
    Shuffle { mask: u32, value: u64, source: u32 },
    /// All lanes of the warp, to do this with what each holds.
    Matrix { op: MatrixOp, lane: *mut Lane },
    /// The end of a phase of a barrier in shared memory.
    Phase { barrier: usize, parity: u32 },
    /// All threads of the four warps, to multiply this.
    Product(Product),
    /// All lanes of the warp, and the products of all its groups but so many.
    Products { pending: u32 },
    /// All threads of all blocks of the cluster.
    ClusterBarrier,
    /// Nothing: it has failed, and is not resumed.
    Failed,
}

type Fiber = Coroutine<u64, Wait, (), DefaultStack>;

enum State {
    /// To be resumed, with what the last shuffle brought.
    Ready(u64),
    Waiting(Wait),
    Done,
}

struct Thread {
    fiber: Fiber,
    stack: std::ops::Range<usize>,
    state: State,
}

/// A launch under way.
pub(super) struct Grid<'a> {
    launch: &'a Launch,
    kernel: Kernel,
    arguments: Arguments,
    pub regions: Regions,
    /// Tells this launch's writes from those of others.
    pub id: u32,
    seed: u64,
    has_failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// What went wrong, and in which thread.
struct Failure {
    block: u32,
    thread: Option<u32>,
    reason: String,
}

impl Grid<'_> {
    /// Runs a launch to its end.
    pub fn run(launch: &Launch, memory: &Memory, seed: u64) -> Result<()> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let kernel = kernel(launch.kernel).ok_or_else(|| error(launch, "there is no such kernel".to_string()))?;
        check_launch(launch, &kernel).map_err(|reason| error(launch, reason))?;
        let grid = Grid {
            launch,
            kernel,
            arguments: Arguments::new(&launch.args),
            regions: memory.regions(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            seed,
            has_failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        };
        let clusters = launch.grid.iter().product::<u32>() / grid.kernel.cluster;
        let order = Rng::new(seed, 0).sequence().permutation(clusters as usize);
        order.into_par_iter().for_each(|number| {
            if !grid.has_failed.load(Ordering::Relaxed) {
                WORKER.with_borrow_mut(|worker| Cluster::run(&grid, number, worker));
            }
        });
        match grid.failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            None => Ok(()),
            Some(Failure { block, thread, reason }) => {
                let thread = thread.map_or(String::new(), |thread| format!(", thread {thread}"));
                Err(error(launch, format!("block {:?}{thread}: {reason}", place(launch.grid, block))))
            }
        }
    }

    /// Notes a failure; the first one counts.
    pub fn fail(&self, block: u32, thread: Option<u32>, reason: String) {
        self.has_failed.store(true, Ordering::Relaxed);
        let mut failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failure.get_or_insert(Failure { block, thread, reason });
    }

    /// Whether an access lies in the launch's arguments, which threads may read.
    pub fn is_argument(&self, address: usize, bytes: usize) -> bool {
        self.arguments.hold(address, bytes)
    }
}

fn error(launch: &Launch, reason: String) -> Error {
    let shapes: Vec<String> = launch.shapes.iter().map(|shape| format!("{shape:?}")).collect();
    let (kernel, grid, block, shapes) = (launch.kernel.to_string(), launch.grid, launch.block, shapes.join(", "));
    Error::Kernel { kernel, grid, block, shapes, reason }
}

/// Where block number `number` lies in the grid.
fn place(grid: [u32; 3], number: u32) -> [u32; 3] {
    [number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]]
}

fn check_launch(launch: &Launch, kernel: &Kernel) -> Result<(), String> {
    if launch.grid.contains(&0) || launch.grid.iter().zip(MOST_BLOCKS).any(|(&blocks, most)| blocks > most) {
        return Err(format!("a grid must have 1 to {MOST_BLOCKS:?} blocks"));
    }
    let most = kernel.most_threads.min(MOST_THREADS);
    if launch.block == 0 || launch.block > most {
        return Err(format!("a block of this kernel must have 1 to {most} threads"));
    }
    if !launch.grid[0].is_multiple_of(kernel.cluster) {
        return Err(format!("a grid of this kernel must have a multiple of {} blocks along x", kernel.cluster));
    }
    if launch.args.len() != kernel.sizes.len() {
        return Err(format!("{} arguments, the kernel has {}", launch.args.len(), kernel.sizes.len()));
    }
    let wrong = launch.args.iter().zip(kernel.sizes).position(|(arg, &size)| arg.bytes().len() != size);
    wrong.map_or(Ok(()), |at| {
        let (found, expected) = (launch.args[at].bytes().len(), kernel.sizes[at]);
        Err(format!("argument {at} has {found} bytes, the kernel's has {expected}"))
    })
}

/// The arguments in memory: each at a multiple of 16 bytes, behind a list of their addresses.
struct Arguments(Box<[u128]>);

impl Arguments {
    fn new(args: &[Arg]) -> Arguments {
        const UNIT: usize = size_of::<u128>();
        let list = (args.len() * size_of::<usize>()).div_ceil(UNIT);
        let units = list + args.iter().map(|arg| arg.bytes().len().div_ceil(UNIT)).sum::<usize>();
        let mut memory = vec![0u128; units.max(1)].into_boxed_slice();
        let start = memory.as_ptr() as usize;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut memory);
        let mut at = list * UNIT;
        for (i, arg) in args.iter().enumerate() {
            bytes[at..at + arg.bytes().len()].copy_from_slice(arg.bytes());
            bytes[i * size_of::<usize>()..][..size_of::<usize>()].copy_from_slice(&(start + at).to_ne_bytes());
            at += arg.bytes().len().next_multiple_of(UNIT);
        }
        Arguments(memory)
    }

    fn list(&self) -> *const *const c_void {
        self.0.as_ptr().cast()
    }

    fn hold(&self, address: usize, bytes: usize) -> bool {
        let start = self.0.as_ptr() as usize;
        address >= start && address + bytes <= start + size_of_val(&*self.0)
    }
}

/// What an operating system's thread keeps from block to block.
#[derive(Default)]
struct Worker {
    stacks: Vec<DefaultStack>,
    /// Of each block of a cluster.
    shared: Vec<Shared>,
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// `EmulatedPlace` in `device.cuh`.
#[repr(C)]
pub(super) struct Place {
    thread: [u32; 3],
    block: [u32; 3],
    block_dim: [u32; 3],
    grid_dim: [u32; 3],
}

extern "C" {
    pub(super) fn emulated_place_of_this_thread() -> *mut Place;
}

/// Blocks under way that run at the same time: those of a cluster, which is mostly a block alone.
struct Cluster<'a> {
    grid: &'a Grid<'a>,
    blocks: Vec<Block<'a>>,
    order: Sequence,
}

impl Cluster<'_> {
    fn run(grid: &Grid, number: u32, worker: &mut Worker) {
        let size = grid.kernel.cluster;
        let blocks = (number * size..(number + 1) * size).map(|number| Block::new(grid, number, worker)).collect();
        let order = Rng::new(grid.seed, 1 + u64::from(number)).sequence();
        if worker.shared.len() < size as usize {
            worker.shared.resize_with(size as usize, Shared::default);
        }
        let shared = &mut worker.shared[..size as usize];
        shared.iter_mut().for_each(Shared::start_block);
        // SAFETY: the address is that of a variable of this very thread.
        let place = unsafe { &mut *emulated_place_of_this_thread() };
        *place =
            Place { thread: [0; 3], block: [0; 3], block_dim: [grid.launch.block, 1, 1], grid_dim: grid.launch.grid };
        let mut cluster = Cluster { grid, blocks, order };
        if let Err((block, thread, reason)) = cluster.drive(shared, place) {
            grid.fail(cluster.blocks[block].number, Some(thread as u32), reason);
        }
        for thread in cluster.blocks.into_iter().flat_map(|block| block.threads) {
            let stack = thread.into_stack();
            if worker.stacks.len() < KEPT_STACKS {
                worker.stacks.push(stack);
            }
        }
    }

    /// Resumes threads until all are done or one has failed. The error is a block, a thread of it, and what it does wrong.
    fn drive(&mut self, shared: &mut [Shared], place: &mut Place) -> Result<(), (usize, usize, String)> {
        loop {
            let ready = self.in_state(|state| matches!(state, State::Ready(_)));
            if ready.is_empty() {
                let left = |(block, shared): (usize, &Shared)| {
                    shared.left_behind().map_err(|(thread, reason)| (block, thread, reason))
                };
                return shared.iter().enumerate().try_for_each(left);
            }
            for i in self.order.permutation(ready.len()) {
                let (block, thread) = ready[i as usize];
                (place.block, place.thread[0]) = (self.blocks[block].place, thread as u32);
                self.blocks[block].resume(thread, shared, block);
                if self.grid.has_failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            let mut somebody_goes_on = false;
            for (number, (block, shared)) in self.blocks.iter_mut().zip(shared.iter_mut()).enumerate() {
                somebody_goes_on |=
                    block.meet(shared, &mut self.order).map_err(|(thread, reason)| (number, thread, reason))?;
            }
            if !somebody_goes_on {
                self.meet(shared)?;
            }
        }
    }

    fn in_state(&self, is: impl Fn(&State) -> bool) -> Vec<(usize, usize)> {
        let of_block =
            |(number, block): (usize, &Block)| block.in_state(&is).map(|thread| (number, thread)).collect::<Vec<_>>();
        self.blocks.iter().enumerate().flat_map(of_block).collect()
    }

    /// Lets all threads go on if they are at the cluster's barrier; no thread of any block can go on without that.
    fn meet(&mut self, shared: &mut [Shared]) -> Result<(), (usize, usize, String)> {
        let waiting = self.in_state(|state| matches!(state, State::Waiting(_)));
        let elsewhere = self.in_state(|state| !matches!(state, State::Waiting(Wait::ClusterBarrier)));
        match (waiting.first(), elsewhere.first()) {
            (None, _) => {}
            (Some(_), None) => {
                shared.iter_mut().for_each(Shared::pass_cluster_barrier);
                for thread in self.blocks.iter_mut().flat_map(|block| &mut block.threads) {
                    thread.state = State::Ready(0);
                }
            }
            (Some(&(block, thread)), Some(&(other_block, other))) => {
                let State::Waiting(Wait::ClusterBarrier) = self.blocks[block].threads[thread].state else {
                    let (thread, reason) = self.blocks[block].waits_in_vain(&shared[block]);
                    return Err((block, thread, reason));
                };
                let what = whereabouts(Some(&self.blocks[other_block].threads[other].state));
                let where_to = "waits at a barrier of its cluster for all threads of all blocks, but thread";
                return Err((block, thread, format!("{where_to} {other} of block {other_block} there {what}")));
            }
        }
        Ok(())
    }
}

/// A block under way.
pub(super) struct Block<'a> {
    pub grid: &'a Grid<'a>,
    pub number: u32,
    place: [u32; 3],
    threads: Vec<Thread>,
}

impl Block<'_> {
    fn new<'a>(grid: &'a Grid<'a>, number: u32, worker: &mut Worker) -> Block<'a> {
        let threads = (0..grid.launch.block).map(|_| Thread::new(grid, worker)).collect();
        Block { grid, number, place: place(grid.launch.grid, number), threads }
    }

    fn in_state(&self, is: impl Fn(&State) -> bool) -> impl Iterator<Item = usize> + '_ {
        let found: Vec<usize> = (0..self.threads.len()).filter(|&thread| is(&self.threads[thread].state)).collect();
        found.into_iter()
    }

    /// Resumes a thread. `shared` is the memory of the whole cluster, and `rank` says which part of it is this block's.
    fn resume(&mut self, number: usize, shared: &mut [Shared], rank: usize) {
        let thread = &mut self.threads[number];
        let State::Ready(brought) = thread.state else { return };
        RUNNING.with(|running| {
            running.set(Running {
                grid: std::ptr::from_ref(self.grid).cast(),
                shared: &raw mut shared[rank],
                cluster: shared,
                block: self.number,
                thread: number as u32,
                stack: [thread.stack.start, thread.stack.end],
                ..running.get()
            });
        });
        thread.state = match thread.fiber.resume(brought) {
            CoroutineResult::Yield(wait) => State::Waiting(wait),
            CoroutineResult::Return(()) => State::Done,
        };
    }

    /// Lets those go on who have met, if any have; no thread is ready when this is called. The error is a thread that waits in vain, and why.
    fn meet(&mut self, shared: &mut Shared, order: &mut Sequence) -> Result<bool, (usize, String)> {
        let mut met = Vec::new();
        for thread in self.in_state(|state| matches!(state, State::Waiting(Wait::Shuffle { .. }))) {
            met.push((thread, self.shuffled(thread).map_err(|reason| (thread, reason))?));
        }
        let with_matrices: Vec<usize> =
            self.in_state(|state| matches!(state, State::Waiting(Wait::Matrix { .. }))).collect();
        for warp in with_matrices.chunk_by(|a, b| a / WARP == b / WARP) {
            self.meet_with_matrices(warp).map_err(|reason| (warp[0], reason))?;
            met.extend(warp.iter().map(|&thread| (thread, 0)));
        }
        let with_product: Vec<usize> =
            self.in_state(|state| matches!(state, State::Waiting(Wait::Product(_)))).collect();
        for warps in with_product.chunk_by(|a, b| a / WARPGROUP == b / WARPGROUP) {
            let State::Waiting(Wait::Product(product)) = self.threads[warps[0]].state else { continue };
            let same = |wait: &Wait| matches!(wait, Wait::Product(other) if *other == product);
            if self.all_have_come(warps[0], WARPGROUP, "four warps at wgmma", same)? {
                let number = shared.start_product(product, warps[0]).map_err(|reason| (warps[0], reason))?;
                met.extend(warps.iter().map(|&thread| (thread, number as u64)));
            }
        }
        let for_products: Vec<usize> =
            self.in_state(|state| matches!(state, State::Waiting(Wait::Products { .. }))).collect();
        let mut warps_for_products = Vec::new();
        for warp in for_products.chunk_by(|a, b| a / WARP == b / WARP) {
            let State::Waiting(Wait::Products { pending }) = self.threads[warp[0]].state else { continue };
            let same = |wait: &Wait| matches!(wait, Wait::Products { pending: other } if *other == pending);
            if self.all_have_come(warp[0], WARP, "its warp at wgmma.wait_group", same)? {
                warps_for_products.push((warp, pending as usize));
            }
        }
        // One warp at a time, so that the others' products are still under way.
        if !warps_for_products.is_empty() {
            let (warp, pending) = warps_for_products[order.below(warps_for_products.len() as u32) as usize];
            warp.iter().for_each(|&thread| shared.wait_for_products(thread as u32, pending));
            met.extend(warp.iter().map(|&thread| (thread, 0)));
        }
        met.extend(self.behind_phases(shared));
        let waiting = self.in_state(|state| matches!(state, State::Waiting(_))).count();
        let at_barrier = self.in_state(|state| matches!(state, State::Waiting(Wait::Barrier))).count();
        if met.is_empty() && at_barrier == self.threads.len() {
            shared.pass_barrier();
            met.extend((0..self.threads.len()).map(|thread| (thread, 0)));
        }
        // Copies arrive when nothing else can go on.
        while met.is_empty() && waiting > 0 && shared.barriers.has_copies() {
            shared.let_a_copy_arrive(order.next_u32());
            met.extend(self.behind_phases(shared));
        }
        let somebody_goes_on = !met.is_empty();
        for (thread, brought) in met {
            self.threads[thread].state = State::Ready(brought);
        }
        Ok(somebody_goes_on)
    }

    /// Threads that wait for the end of a phase which has ended.
    fn behind_phases(&self, shared: &Shared) -> Vec<(usize, u64)> {
        let ended = |state: &State| match state {
            State::Waiting(Wait::Phase { barrier, parity }) => shared.barriers.has_ended(*barrier, *parity),
            _ => false,
        };
        self.in_state(ended).map(|thread| (thread, 0)).collect()
    }

    /// Which thread waits for what will not happen, where none can go on.
    fn waits_in_vain(&self, shared: &Shared) -> (usize, String) {
        let at_phase = self.threads.iter().enumerate().find_map(|(number, thread)| match thread.state {
            State::Waiting(Wait::Phase { barrier, .. }) => Some((number, shared.barriers.lacks(barrier))),
            _ => None,
        });
        at_phase.unwrap_or_else(|| {
            let at_barrier = |state: &State| matches!(state, State::Waiting(Wait::Barrier));
            let waiting = self.in_state(at_barrier).next().unwrap_or(0);
            let elsewhere = self.in_state(|state| !at_barrier(state)).next().unwrap_or(0);
            let what = whereabouts(Some(&self.threads[elsewhere].state));
            (waiting, format!("waits at a barrier for all threads, but thread {elsewhere} {what}"))
        })
    }

    /// What a thread that waits at a shuffle receives, if all lanes that it names are there.
    fn shuffled(&self, thread: usize) -> Result<u64, String> {
        let State::Waiting(Wait::Shuffle { mask, source, .. }) = self.threads[thread].state else {
            unreachable!("only threads that wait at a shuffle are asked");
        };
        let first = thread / WARP * WARP;
        if mask >> (thread - first) & 1 == 0 || mask >> source & 1 == 0 {
            let lane = thread - first;
            return Err(format!(
                "lane {lane} shuffles with lane {source} under the mask {mask:#x}, which lacks one of them"
            ));
        }
        let mut brought = 0;
        for lane in (0..WARP).filter(|lane| mask >> lane & 1 == 1) {
            match self.threads.get(first + lane).map(|other| &other.state) {
                Some(State::Waiting(Wait::Shuffle { mask: other, value, .. })) if *other == mask => {
                    if lane == source as usize {
                        brought = *value;
                    }
                }
                other => {
                    let what = whereabouts(other);
                    return Err(format!("waits at a shuffle under the mask {mask:#x}, but lane {lane} {what}"));
                }
            }
        }
        Ok(brought)
    }

    /// Whether all of the `count` threads among which a thread waits have come for the same. Not yet, while some wait for a phase or for
    /// products, which end without the others.
    fn all_have_come(
        &self,
        thread: usize,
        count: usize,
        whom: &str,
        same: impl Fn(&Wait) -> bool,
    ) -> Result<bool, (usize, String)> {
        let first = thread / count * count;
        for number in first..first + count {
            match self.threads.get(number).map(|thread| &thread.state) {
                Some(State::Waiting(wait)) if same(wait) => {}
                Some(State::Waiting(Wait::Phase { .. } | Wait::Products { .. })) => return Ok(false),
                other => return Err((thread, format!("waits for {whom}, but thread {number} {}", whereabouts(other)))),
            }
        }
        Ok(true)
    }

    /// Carries out what the threads of one warp that wait with matrices have come for, if all lanes are there for the same.
    fn meet_with_matrices(&self, warp: &[usize]) -> Result<(), String> {
        let first = warp[0] / WARP * WARP;
        let State::Waiting(Wait::Matrix { op, .. }) = self.threads[warp[0]].state else {
            unreachable!("only threads that wait with matrices are asked");
        };
        let mut lanes = [std::ptr::null_mut(); WARP];
        for (number, at) in lanes.iter_mut().enumerate() {
            match self.threads.get(first + number).map(|thread| &thread.state) {
                Some(State::Waiting(Wait::Matrix { op: other, lane })) if *other == op => *at = *lane,
                other => return Err(format!("waits for its warp at {op}, but lane {number} {}", whereabouts(other))),
            }
        }
        // SAFETY: the lanes are on the stacks of threads that wait.
        let mut values = lanes.map(|lane: *mut Lane| unsafe { *lane });
        matrix::carry_out(op, &mut values);
        // SAFETY: as above.
        lanes.into_iter().zip(values).for_each(|(lane, value)| unsafe { *lane = value });
        Ok(())
    }
}

/// What a thread does instead of coming to where others wait for it.
fn whereabouts(state: Option<&State>) -> String {
    match state {
        Some(State::Waiting(Wait::Shuffle { mask, .. })) => format!("is at a shuffle under the mask {mask:#x}"),
        Some(State::Waiting(Wait::Matrix { op, .. })) => format!("is at {op}"),
        Some(State::Waiting(Wait::Phase { .. })) => "waits for the end of a phase".to_string(),
        Some(State::Waiting(Wait::Product(_))) => "is at another wgmma".to_string(),
        Some(State::Waiting(Wait::Products { .. })) => "is at a wgmma.wait_group".to_string(),
        Some(State::Waiting(Wait::ClusterBarrier)) => "waits at a barrier of its cluster".to_string(),
        Some(State::Waiting(_)) => "waits at a barrier".to_string(),
        Some(_) => "has ended".to_string(),
        None => "does not exist".to_string(),
    }
}

impl Thread {
    fn new(grid: &Grid, worker: &mut Worker) -> Thread {
        let new_stack = || DefaultStack::new(STACK).expect("memory for a thread's stack");
        let stack = worker.stacks.pop().unwrap_or_else(new_stack);
        let bounds = stack.limit().get()..stack.base().get();
        let (call, arguments) = (grid.kernel.call, grid.arguments.list());
        let fiber = Fiber::with_stack(stack, move |yielder, _| {
            RUNNING.with(|running| running.set(Running { yielder, ..running.get() }));
            // SAFETY: the arguments have the number and sizes that the kernel expects, and every access it makes is checked.
            unsafe { call(arguments) }
        });
        Thread { fiber, stack: bounds, state: State::Ready(0) }
    }

    /// The stack, for another thread. A thread that was abandoned is forgotten: kernels have nothing to clean up.
    fn into_stack(mut self) -> DefaultStack {
        if !self.fiber.done() {
            // SAFETY: nothing on the stack has a destructor or is referred to from elsewhere.
            unsafe { self.fiber.force_reset() };
        }
        self.fiber.into_stack()
    }
}
