//! Bundles: the launches of a training step, held back and given to the device as one graph.
//!
//! The host runs a step's code as always, but what it launches within a bundle is written down, and started at the bundle's end or when
//! somebody reads a result. A sequence of kernels that comes for the second time is made into a graph; from then on, its arguments that
//! differ from last time (a learning rate, random counters, addresses) are set and the graph is launched: one call for the device instead
//! of one for each kernel. Everything that a step may do works, since nothing is assumed about it: what never repeats is launched as it
//! is.
//!
//! Memory that is given back within a bundle may still be used by launches that were not started, so only the bundle itself takes it
//! again, in which they come first. Blocks taken in bundles are kept for later ones, the lowest address first: then a step finds the
//! addresses of the last one, and few arguments change.
//!
//! What does not depend on one another (students that learn from one teacher) is launched in lanes of one graph, which the device runs
//! side by side. A lane takes only memory that it has given back itself, or that nobody uses.
//!
//! Uploads are gathered, too: they travel in one copy at the bundle's start, and each is then copied to its place in its turn.

use super::driver::{DeviceInfo, DevicePtr, Driver, Graph, Launch, MemoryUse, Node, Step};
use crate::backend::Later;
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

/// Fewer steps than this are not worth a graph.
const LEAST: usize = 4;
/// Graphs that are kept, those used last.
const GRAPHS: usize = 16;
/// Bytes that a bundle uploads in one copy; what does not fit is uploaded for itself.
const UPLOADS: usize = 1 << 20;
/// What device memory is aligned to.
const ALIGNMENT: usize = 256;

/// The variable that says how kernels are launched.
const LAUNCH_VARIABLE: &str = "KDENGINE_LAUNCH";

/// Whether launches are bundled: not with `KDENGINE_LAUNCH=plain`, with which each kernel is launched at its call, and each step's loss is
/// read before the next step, so that an error is reported where it happened.
pub fn enabled() -> bool {
    static ENABLED: LazyLock<bool> = LazyLock::new(|| !std::env::var(LAUNCH_VARIABLE).is_ok_and(|how| how == "plain"));
    *ENABLED
}

/// Refuses a value of `KDENGINE_LAUNCH` that means nothing.
pub(super) fn check_variable() -> Result<(), String> {
    match std::env::var(LAUNCH_VARIABLE) {
        Ok(how) if !["plain", "graph"].contains(&how.as_str()) => {
            Err(format!("{LAUNCH_VARIABLE} is `{how}`; it may be `plain` or `graph`"))
        }
        _ => Ok(()),
    }
}

/// How many steps were started, and how many of them as part of a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchCounts {
    /// Kernels and copies within bundles.
    pub steps: u64,
    /// Of these, in graphs.
    pub in_graphs: u64,
    /// Graphs that were launched.
    pub graphs: u64,
    /// Arguments of a kernel, or of a copy, that were set anew in a graph.
    pub changed: u64,
}

impl LaunchCounts {
    fn add(&mut self, more: LaunchCounts) {
        self.steps += more.steps;
        self.in_graphs += more.in_graphs;
        self.graphs += more.graphs;
        self.changed += more.changed;
    }
}

impl fmt::Display for LaunchCounts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let LaunchCounts { steps, in_graphs, graphs, changed } = self;
        match steps {
            0 => write!(f, "every kernel was launched by itself (KDENGINE_LAUNCH=plain)"),
            _ => write!(
                f,
                "launches: {steps} in training and evaluation, {:.1} % of them in graphs ({graphs}, with {changed} changed \
                 arguments); what never came twice, one by one",
                100.0 * *in_graphs as f64 / *steps as f64
            ),
        }
    }
}

/// A driver that can hold launches back.
pub struct Bundler {
    driver: Arc<dyn Driver>,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Bundles under way, on all threads.
    open: usize,
    memory: Blocks,
    /// The blocks that were first taken in a bundle.
    ours: HashSet<DevicePtr>,
    /// Given back while a bundle was open, whose launches may use them.
    given_back: Vec<(DevicePtr, usize)>,
    sequences: Vec<Sequence>,
    /// Whether the device has refused a graph.
    without_graphs: bool,
    /// The steps so far with their seconds, where somebody wants to know.
    timeline: Option<Vec<(Step, f64)>>,
    counts: LaunchCounts,
}

/// Blocks that nobody uses, by size.
#[derive(Default)]
struct Blocks(BTreeMap<usize, BTreeSet<u64>>);

impl Blocks {
    fn take(&mut self, bytes: usize) -> Option<DevicePtr> {
        self.0.get_mut(&bytes)?.pop_first().map(DevicePtr)
    }

    fn put(&mut self, block: DevicePtr, bytes: usize) {
        self.0.entry(bytes).or_default().insert(block.0);
    }

    fn drain(&mut self) -> impl Iterator<Item = (DevicePtr, usize)> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.flat_map(|(bytes, blocks)| blocks.into_iter().map(move |block| (DevicePtr(block), bytes)))
    }
}

/// Steps that came in this order, as they were last.
struct Sequence {
    nodes: Vec<Node>,
    /// None before they came for the second time.
    graph: Option<Box<dyn Graph>>,
}

/// The bundle of a thread.
#[derive(Default)]
struct Open {
    /// Whose: its address.
    of: usize,
    nodes: Vec<Node>,
    /// The lane that is launched in.
    lane: u32,
    /// Given back since the bundle began, by who may take it again: lane 0 anything, the others what is their own.
    memory: BTreeMap<u32, Blocks>,
    /// The lanes that took blocks.
    homes: HashMap<DevicePtr, u32>,
    uploads: Vec<u8>,
    /// Where they go.
    room: Option<DevicePtr>,
}

impl Open {
    fn push(&mut self, step: Step) {
        self.nodes.push(Node { lane: self.lane, step });
    }

    fn give_back(&mut self, block: DevicePtr, bytes: usize) {
        // Another lane may still use what this one has not taken itself.
        let own = self.homes.get(&block).is_some_and(|&home| home == self.lane);
        self.memory.entry(if own { self.lane } else { 0 }).or_default().put(block, bytes);
    }
}

thread_local! {
    static OPEN: RefCell<Option<Open>> = const { RefCell::new(None) };
}

impl Bundler {
    /// The same device, able to bundle.
    pub fn new(driver: Arc<dyn Driver>) -> Bundler {
        Bundler { driver, shared: Mutex::default() }
    }

    /// What was launched in bundles so far.
    pub fn counts(&self) -> LaunchCounts {
        self.shared().counts
    }

    /// Runs `work` and holds back what this thread launches. A bundle in a bundle is part of it.
    ///
    /// # Errors
    /// Those of `work`, and of the launches.
    pub fn bundle(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        if OPEN.with_borrow(Option::is_some) {
            return work();
        }
        /// Closes the bundle also where `work` panics.
        struct Close<'a>(&'a Bundler);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        OPEN.set(Some(Open { of: self.address(), ..Open::default() }));
        self.shared().open += 1;
        let _close = Close(self);
        // What was launched before an error is started as if there were no bundle.
        let done = work();
        self.start().and(done)
    }

    /// Runs `work` and returns the steps of its bundles, each with the seconds that it took by itself.
    ///
    /// # Errors
    /// Those of `work` and of the launches.
    pub fn timeline(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Vec<(Step, f64)>> {
        self.shared().timeline = Some(Vec::new());
        let done = work();
        let timeline = self.shared().timeline.take();
        done?;
        Ok(timeline.unwrap_or_default())
    }

    /// Runs `work`, whose launches depend on nothing that other lanes of this thread's bundle launch. Lane 0 waits for all lanes and
    /// they for it; without a bundle, all happens in the order of the calls.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn in_lane(&self, lane: u32, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        /// Goes back to the lane before also where `work` panics.
        struct Restore<'a>(&'a Bundler, Option<u32>);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                self.0.with_open(|open| open.lane = self.1.unwrap_or(0));
            }
        }
        let before = self.with_open(|open| std::mem::replace(&mut open.lane, lane));
        let _restore = Restore(self, before);
        work()
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Calls `f` with this thread's bundle on this device, if there is one.
    fn with_open<R>(&self, f: impl FnOnce(&mut Open) -> R) -> Option<R> {
        OPEN.with_borrow_mut(|open| open.as_mut().filter(|open| open.of == self.address()).map(f))
    }

    /// Writes a step down; whether there is a bundle to do so.
    fn holds(&self, step: impl FnOnce() -> Step) -> bool {
        self.with_open(|open| open.push(step())).is_some()
    }

    /// Starts what this thread holds back.
    fn start(&self) -> Result<()> {
        let held =
            self.with_open(|open| (std::mem::take(&mut open.nodes), std::mem::take(&mut open.uploads), open.room));
        let Some((nodes, uploads, room)) = held else { return Ok(()) };
        if let (false, Some(room)) = (uploads.is_empty(), room) {
            self.driver.upload(room, &uploads)?;
        }
        let started = self.run(nodes);
        let mut shared = self.shared();
        if shared.open == 1 {
            self.put_all_back(&mut shared);
        }
        started
    }

    fn run(&self, nodes: Vec<Node>) -> Result<()> {
        if self.shared().timeline.is_some() {
            let steps: Vec<Step> = nodes.into_iter().map(|node| node.step).collect();
            let seconds = self.driver.time_each(&steps)?;
            self.shared()
                .timeline
                .iter_mut()
                .for_each(|all| all.extend(steps.iter().cloned().zip(seconds.iter().copied())));
            return Ok(());
        }
        let mut counts = LaunchCounts { steps: nodes.len() as u64, ..LaunchCounts::default() };
        if nodes.len() < LEAST || self.shared().without_graphs {
            self.shared().counts.add(counts);
            return nodes.iter().try_for_each(|node| self.driver.carry_out(&node.step));
        }
        // Nothing is locked while the device is called: the emulator computes there.
        let known = {
            let mut shared = self.shared();
            let known = shared.sequences.iter().position(|known| same_kernels(&known.nodes, &nodes));
            known.map(|known| shared.sequences.remove(known))
        };
        let graph = match known {
            None => {
                nodes.iter().try_for_each(|node| self.driver.carry_out(&node.step))?;
                None
            }
            Some(Sequence { graph, nodes: last }) => match self.prepared(graph, &nodes, &last, &mut counts) {
                Ok(graph) => {
                    graph.launch()?;
                    (counts.graphs, counts.in_graphs) = (1, counts.steps);
                    Some(graph)
                }
                Err(error) => {
                    self.give_graphs_up(&error);
                    nodes.iter().try_for_each(|node| self.driver.carry_out(&node.step))?;
                    None
                }
            },
        };
        let mut shared = self.shared();
        shared.counts.add(counts);
        if shared.sequences.len() == GRAPHS {
            shared.sequences.remove(0);
        }
        shared.sequences.push(Sequence { nodes, graph });
        Ok(())
    }

    /// The graph of a sequence with these steps, whose last ones it has if there is one.
    fn prepared(
        &self,
        graph: Option<Box<dyn Graph>>,
        nodes: &[Node],
        last: &[Node],
        counts: &mut LaunchCounts,
    ) -> Result<Box<dyn Graph>> {
        let Some(mut graph) = graph else { return self.driver.graph(nodes) };
        for (number, (node, _)) in nodes.iter().zip(last).enumerate().filter(|(_, (new, old))| new != old) {
            graph.set(number, &node.step)?;
            counts.changed += 1;
        }
        Ok(graph)
    }

    /// A device that refuses a graph gets its launches one by one from then on.
    fn give_graphs_up(&self, error: &Error) {
        let mut shared = self.shared();
        shared.sequences.clear();
        if !std::mem::replace(&mut shared.without_graphs, true) {
            eprintln!("the device takes no graph ({error}); kernels are launched one by one, which is slower");
        }
    }

    /// Ends this thread's bundle, of which nothing is held back any more, or nothing that still matters.
    fn close(&self) {
        let Some(mut open) = OPEN.take() else { return };
        let mut shared = self.shared();
        shared.open -= 1;
        for (block, bytes) in open.memory.values_mut().flat_map(Blocks::drain) {
            shared.memory.put(block, bytes);
        }
        if let Some(room) = open.room {
            shared.memory.put(room, UPLOADS);
        }
        if shared.open == 0 {
            self.put_all_back(&mut shared);
        }
    }

    /// What was given back while bundles were open, once nothing that is held back can use it.
    fn put_all_back(&self, shared: &mut Shared) {
        for (block, bytes) in std::mem::take(&mut shared.given_back) {
            self.put_back(shared, block, bytes);
        }
    }

    /// A block that no launch held back uses.
    fn put_back(&self, shared: &mut Shared, block: DevicePtr, bytes: usize) {
        match shared.ours.contains(&block) {
            true => shared.memory.put(block, bytes),
            false => self.driver.free(block, bytes),
        }
    }

    /// A block for a bundle that nobody uses.
    fn take(&self, bytes: usize) -> Result<DevicePtr> {
        let kept = self.shared().memory.take(bytes);
        let block = kept.map_or_else(|| self.allocate_anew(bytes), Ok)?;
        self.shared().ours.insert(block);
        Ok(block)
    }

    /// Memory of the device; where it has none left, after all blocks that are kept were given back to it.
    fn allocate_anew(&self, bytes: usize) -> Result<DevicePtr> {
        match self.driver.allocate(bytes) {
            Err(Error::OutOfMemory { .. }) => {
                let mut shared = self.shared();
                let kept: Vec<(DevicePtr, usize)> = shared.memory.drain().collect();
                for (block, bytes) in kept {
                    shared.ours.remove(&block);
                    self.driver.free(block, bytes);
                }
                drop(shared);
                self.driver.allocate(bytes)
            }
            other => other,
        }
    }
}

/// Whether two sequences are of the same kernels on the same grids in the same lanes.
fn same_kernels(a: &[Node], b: &[Node]) -> bool {
    let same = |(a, b): (&Node, &Node)| match (&a.step, &b.step) {
        _ if a.lane != b.lane => false,
        (Step::Launch(a), Step::Launch(b)) => (a.kernel, a.grid, a.block) == (b.kernel, b.grid, b.block),
        (Step::Copy { .. }, Step::Copy { .. }) => true,
        _ => false,
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

impl Driver for Bundler {
    fn info(&self) -> &DeviceInfo {
        self.driver.info()
    }

    fn allocate(&self, bytes: usize) -> Result<DevicePtr> {
        let taken = self.with_open(|open| {
            let own = open.memory.get_mut(&open.lane).and_then(|own| own.take(bytes));
            let block = own.map_or_else(|| self.take(bytes), Ok)?;
            open.homes.insert(block, open.lane);
            Ok(block)
        });
        taken.unwrap_or_else(|| self.allocate_anew(bytes))
    }

    fn free(&self, memory: DevicePtr, bytes: usize) {
        let mut shared = self.shared();
        let ours = shared.ours.contains(&memory);
        if ours && self.with_open(|open| open.give_back(memory, bytes)).is_some() {
            return;
        }
        match shared.open {
            0 => self.put_back(&mut shared, memory, bytes),
            _ => shared.given_back.push((memory, bytes)),
        }
    }

    fn memory_use(&self) -> Result<MemoryUse> {
        self.driver.memory_use()
    }

    fn upload(&self, to: DevicePtr, from: &[u8]) -> Result<()> {
        let held = self.with_open(|open| {
            let start = open.uploads.len().next_multiple_of(ALIGNMENT);
            if start + from.len() > UPLOADS {
                return Ok(false);
            }
            let room = match open.room {
                Some(room) => room,
                None => *open.room.insert(self.take(UPLOADS)?),
            };
            open.uploads.resize(start, 0);
            open.uploads.extend_from_slice(from);
            open.push(Step::Copy { from: DevicePtr(room.0 + start as u64), to, bytes: from.len() });
            Ok(true)
        });
        if held.transpose()? == Some(true) {
            return Ok(());
        }
        self.start()?;
        self.driver.upload(to, from)
    }

    fn download(&self, from: DevicePtr, to: &mut [u8]) -> Result<()> {
        self.start()?;
        self.driver.download(from, to)
    }

    fn download_later(&self, from: DevicePtr, bytes: usize) -> Result<Later<Vec<u8>>> {
        self.start()?;
        self.driver.download_later(from, bytes)
    }

    fn copy(&self, from: DevicePtr, to: DevicePtr, bytes: usize) -> Result<()> {
        match self.holds(|| Step::Copy { from, to, bytes }) {
            true => Ok(()),
            false => self.driver.copy(from, to, bytes),
        }
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        match self.holds(|| Step::Launch(launch.clone())) {
            true => Ok(()),
            false => self.driver.launch(launch),
        }
    }

    fn clusters(&self, kernel: &'static str, threads: u32) -> u32 {
        self.driver.clusters(kernel, threads)
    }

    fn synchronize(&self) -> Result<()> {
        self.start()?;
        self.driver.synchronize()
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        self.start()?;
        self.driver.time(&mut || {
            work()?;
            self.start()
        })
    }

    fn time_each(&self, steps: &[Step]) -> Result<Vec<f64>> {
        self.start()?;
        self.driver.time_each(steps)
    }

    fn graph(&self, nodes: &[Node]) -> Result<Box<dyn Graph>> {
        self.driver.graph(nodes)
    }
}
