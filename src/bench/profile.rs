//! Where the time of a step goes: every op forward and backward, the optimiser, and what is left; or every kernel.

use super::Case;
use crate::autograd::{keep_time, Phase, Segment};
use crate::backend::{self, Launched};
use crate::error::{Error, Result};
use crate::tensor::{Device, Shape};
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

/// A step and its parts; means over the runs.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The case's name.
    pub what: String,
    /// Runs that were timed.
    pub n: usize,
    /// Milliseconds a step.
    pub step_ms: f64,
    /// In the order in which they come; the last is what is left.
    pub parts: Vec<Part>,
}

/// Calls of one op with one shape in one phase of a step.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// `forward`, `backward`, `optimizer` or `rest`; on a device that is no host, `kernel` or `rest`.
    pub phase: &'static str,
    /// The op, the optimiser, or the kernel.
    pub op: &'static str,
    /// The shape of the op's output, or of a tensor that the kernel works on.
    pub shape: Vec<usize>,
    /// Calls a step.
    pub calls: usize,
    /// Milliseconds a step, all calls together.
    pub ms: f64,
    /// Of the step.
    pub percent: f64,
}

/// How often a step was run, and how long that took.
struct Runs {
    n: usize,
    seconds: f64,
}

impl Runs {
    /// What took so many seconds of all runs.
    fn part(&self, phase: &'static str, op: &'static str, shape: Vec<usize>, calls: usize, seconds: f64) -> Part {
        let (calls, ms) = (calls / self.n, 1e3 * seconds / self.n as f64);
        Part { phase, op, shape, calls, ms, percent: 100.0 * seconds / self.seconds }
    }
}

impl Profile {
    /// How much of the step the named parts make up, in percent.
    pub fn accounted_percent(&self) -> f64 {
        self.parts.iter().filter(|part| part.phase != REST).map(|part| part.percent).sum()
    }
}

const REST: &str = "rest";

/// The segments so far, each with its number of calls and its seconds, and when the last of them ended.
struct Clock {
    segments: Vec<(Segment, usize, f64)>,
    last: Instant,
}

impl Clock {
    /// Everything since the last segment's end belongs to the one that ends now.
    fn end(&mut self, segment: Segment) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        match self.segments.iter_mut().find(|(known, ..)| *known == segment) {
            Some((_, calls, sum)) => (*calls, *sum) = (*calls + 1, *sum + seconds),
            None => self.segments.push((segment, 1, seconds)),
        }
        self.last = now;
    }
}

/// Runs a case as [`super::measure`] does and says which part of it takes how long: on the host each op, on other devices each kernel.
///
/// # Errors
/// Those of the case.
pub fn profile(case: Case, device: Device, runs: Option<usize>) -> Result<Profile> {
    let (what, n) = (case.what.clone(), runs.unwrap_or(case.runs).max(1));
    profile_work(what, device, n, &mut case.prepare()?)
}

/// The same of any work, run `n` times after a warm-up.
///
/// # Errors
/// As [`profile`].
pub fn profile_work(what: String, device: Device, n: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<Profile> {
    for _ in 0..n.div_ceil(6) {
        work()?;
    }
    match device.is_host() {
        true => profile_ops(what, n, work),
        false => profile_kernels(what, device, n, work),
    }
}

/// On a device that computes while the program goes on: its kernels, one by one, and what a step takes beyond their sum. That is below
/// zero where kernels run side by side in the step's graph.
fn profile_kernels(what: String, device: Device, n: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<Profile> {
    let backend = backend::of(device);
    let (mut total, mut kernels) = (0.0, Vec::<(Launched, usize)>::new());
    for _ in 0..n {
        total += backend.time(work)?;
        for launched in backend.timeline(work)? {
            let same = |(known, _): &&mut (Launched, usize)| {
                (known.kernel, &known.shapes) == (launched.kernel, &launched.shapes)
            };
            match kernels.iter_mut().find(same) {
                Some((known, calls)) => (known.seconds, *calls) = (known.seconds + launched.seconds, *calls + 1),
                None => kernels.push((launched, 1)),
            }
        }
    }
    let sum: f64 = kernels.iter().map(|(launched, _)| launched.seconds).sum();
    let runs = Runs { n, seconds: total };
    let shape = |shapes: &[Shape]| shapes.last().map_or(Vec::new(), |shape| shape.to_vec());
    let mut parts: Vec<Part> = kernels
        .iter()
        .map(|(launched, calls)| {
            runs.part("kernel", launched.kernel, shape(&launched.shapes), *calls, launched.seconds)
        })
        .collect();
    parts.push(runs.part(REST, "gaps", Vec::new(), n, total - sum));
    Ok(Profile { what, n, step_ms: 1e3 * total / n as f64, parts })
}

fn profile_ops(what: String, n: usize, work: &mut dyn FnMut() -> Result<()>) -> Result<Profile> {
    let clock = Rc::new(RefCell::new(Clock { segments: Vec::new(), last: Instant::now() }));
    let timekeeper = clock.clone();
    let mut total = 0.0;
    keep_time(
        move |segment| timekeeper.borrow_mut().end(segment),
        || {
            for _ in 0..n {
                let start = Instant::now();
                clock.borrow_mut().last = start;
                work()?;
                total += start.elapsed().as_secs_f64();
            }
            Ok::<(), Error>(())
        },
    )?;

    let runs = Runs { n, seconds: total };
    let segments = &clock.borrow().segments;
    let mut parts: Vec<Part> = segments
        .iter()
        .map(|(s, calls, seconds)| runs.part(phase_name(s.phase), s.op, s.shape.to_vec(), *calls, *seconds))
        .collect();
    let named: f64 = segments.iter().map(|(.., seconds)| seconds).sum();
    parts.push(runs.part(REST, REST, Vec::new(), n, total - named));
    Ok(Profile { what, n, step_ms: 1e3 * total / n as f64, parts })
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Forward => "forward",
        Phase::Backward => "backward",
        Phase::Optimizer => "optimizer",
    }
}
