//! Products of matrices in shared memory by four warps (`wgmma`), which happen some time after they were asked for: operands are read, and
//! sums are there, when a thread waits for their group, and no sooner. Layouts are those of the PTX manual ("Asynchronous warpgroup-level
//! matrix instructions"): operands with K in rows, without swizzle.

use super::access::{Shared, WORD};
use super::matrix::number;
use crate::backend::cuda::format::Format;
use std::collections::VecDeque;

/// Threads that multiply together.
pub(super) const WARPGROUP: usize = 128;
/// Rows of both operands.
const ROWS: [usize; 2] = [64, 128];
/// Words of a row, half of them at a time.
const WORDS: usize = 8;
const HALF_BYTES: usize = WORDS / 2 * WORD;

/// A lane's sums.
pub(super) type Sums = [f32; 64];

/// `SharedRows` in `device.cuh`'s neighbour `hopper.cuh`, in bytes from the start of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub first: usize,
    pub halves: usize,
    pub eights: usize,
}

impl Rows {
    /// Where half of a row begins.
    fn half(&self, row: usize, half: usize) -> usize {
        self.first + row / 8 * self.eights + half * self.halves + row % 8 * HALF_BYTES
    }

    /// Where all words of so many rows lie.
    fn words(self, rows: usize) -> impl Iterator<Item = usize> {
        let halves = (0..rows).flat_map(move |row| [self.half(row, 0), self.half(row, 1)]);
        halves.flat_map(|at| (0..HALF_BYTES).step_by(WORD).map(move |byte| at + byte))
    }
}

/// What four warps multiply: 64 rows by 128 rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Product {
    pub format: Format,
    pub a: Rows,
    pub b: Rows,
}

impl Product {
    fn words(&self) -> impl Iterator<Item = usize> {
        self.a.words(ROWS[0]).chain(self.b.words(ROWS[1]))
    }
}

/// A product under way, and how many of its threads have not waited for it.
struct Started {
    product: Product,
    waited_for_by_all_but: usize,
}

/// One thread's part of the products under way.
#[derive(Default)]
struct Part {
    begun: bool,
    open: Vec<(usize, *mut Sums)>,
    groups: VecDeque<Vec<(usize, *mut Sums)>>,
    /// What registers hold whose products are under way.
    held: Vec<(*mut Sums, Sums)>,
}

/// The products of a block.
#[derive(Default)]
pub(super) struct Products {
    started: Vec<Started>,
    of_thread: Vec<Part>,
    /// By thread: the epoch up to which products see what it wrote to shared memory.
    shown: Vec<u32>,
    /// By word of shared memory: products that read it and were not waited for.
    readers: Vec<u32>,
}

impl Products {
    fn part(&mut self, thread: u32) -> &mut Part {
        let thread = thread as usize;
        if self.of_thread.len() <= thread {
            self.of_thread.resize_with(thread + 1, Part::default);
        }
        &mut self.of_thread[thread]
    }

    /// Whether a register at this address belongs to a product of the thread that was not waited for.
    pub fn hold(&self, address: usize, thread: u32) -> bool {
        let inside =
            |&(sums, _): &(*mut Sums, Sums)| (sums as usize..sums as usize + size_of::<Sums>()).contains(&address);
        self.of_thread.get(thread as usize).is_some_and(|part| part.held.iter().any(inside))
    }

    /// Whether a product that was not waited for reads this word.
    pub fn read(&self, word: usize) -> bool {
        self.readers.get(word).is_some_and(|&readers| readers > 0)
    }

    /// What a thread wrote until now may be seen after the next barrier.
    pub fn show(&mut self, epoch: u32, thread: u32) {
        let thread = thread as usize;
        if self.shown.len() <= thread {
            self.shown.resize(thread + 1, 0);
        }
        self.shown[thread] = epoch;
    }

    /// A thread writes in this epoch, after all that it has shown.
    pub fn note_write(&mut self, epoch: u32, thread: u32) {
        if let Some(shown) = self.shown.get_mut(thread as usize) {
            *shown = (*shown).min(epoch - 1);
        }
    }

    /// Whether products see what the thread wrote in an epoch that is over.
    pub fn see(&self, epoch: u32, thread: u32) -> bool {
        self.shown.get(thread as usize).is_some_and(|&shown| shown >= epoch)
    }

    pub fn begin(&mut self, thread: u32) {
        self.part(thread).begun = true;
    }

    pub fn has_begun(&mut self, thread: u32) -> bool {
        self.part(thread).begun
    }

    /// The thread's part of a product that has started. Until it was waited for, its registers hold NaN.
    pub fn join(&mut self, number: usize, sums: *mut Sums, thread: u32) {
        let part = self.part(thread);
        part.open.push((number, sums));
        if part.held.iter().all(|&(held, _)| held != sums) {
            // SAFETY: kernels pass registers of theirs, which are on the thread's stack.
            part.held.push((sums, unsafe { sums.replace([f32::NAN; 64]) }));
        }
    }

    pub fn commit(&mut self, thread: u32) {
        let part = self.part(thread);
        part.begun = false;
        part.groups.push_back(std::mem::take(&mut part.open));
    }

    /// The first thread whose products were never waited for.
    pub fn forgotten(&self) -> Option<usize> {
        self.of_thread.iter().position(|part| !part.held.is_empty())
    }
}

impl Shared {
    /// Starts a product for which all threads have come, from `first` on, and returns its number.
    pub fn start_product(&mut self, product: Product, first: usize) -> Result<usize, String> {
        let crooked = |rows: Rows| !(rows.first | rows.halves | rows.eights).is_multiple_of(HALF_BYTES);
        if crooked(product.a) || crooked(product.b) {
            return Err(format!("multiplies rows that are not at multiples of {HALF_BYTES} bytes"));
        }
        for at in product.words() {
            self.check_operand(at, first as u32..(first + WARPGROUP) as u32)?;
        }
        let readers = &mut self.products.readers;
        for at in product.words() {
            if readers.len() <= at / WORD {
                readers.resize(at / WORD + 1, 0);
            }
            readers[at / WORD] += 1;
        }
        self.products.started.push(Started { product, waited_for_by_all_but: WARPGROUP });
        Ok(self.products.started.len() - 1)
    }

    /// Carries out a thread's part of all groups but its last `pending`.
    pub fn wait_for_products(&mut self, thread: u32, pending: usize) {
        let part = self.products.part(thread);
        let done = part.groups.len().saturating_sub(pending);
        let due: Vec<(usize, *mut Sums)> = part.groups.drain(..done).flatten().collect();
        for &(number, sums) in &due {
            let product = self.products.started[number].product;
            let (mut a, mut b) = ([[0; WORDS]; 2], [[0; WORDS]; 32]);
            let (warp, lane) = (thread as usize % WARPGROUP / 32, thread as usize % 32);
            a.iter_mut().enumerate().for_each(|(i, row)| *row = self.row(product.a, warp * 16 + lane / 4 + 8 * i));
            let column = |i: usize| i / 2 * 8 + lane % 4 * 2 + i % 2;
            b.iter_mut().enumerate().for_each(|(i, row)| *row = self.row(product.b, column(i)));
            let held = &mut self.products.part(thread).held;
            let (_, values) = held.iter_mut().find(|(held, _)| *held == sums).expect("joining held them");
            for (i, sum) in values.iter_mut().enumerate() {
                *sum = dot(product.format, *sum, &a[i / 2 % 2], &b[i / 4 * 2 + i % 2]);
            }
            let started = &mut self.products.started[number];
            started.waited_for_by_all_but -= 1;
            if started.waited_for_by_all_but == 0 {
                product.words().for_each(|at| self.products.readers[at / WORD] -= 1);
            }
        }
        let Part { open, groups, held, .. } = self.products.part(thread);
        held.retain(|&(sums, values)| {
            let under_way = groups.iter().flatten().chain(open.iter()).any(|&(_, other)| other == sums);
            if !under_way {
                // SAFETY: as when they were joined; the thread has not returned from where they live.
                unsafe { sums.write(values) };
            }
            under_way
        });
    }

    fn row(&self, rows: Rows, row: usize) -> [u32; WORDS] {
        std::array::from_fn(|i| self.word(rows.half(row, i * WORD / HALF_BYTES) + i * WORD % HALF_BYTES))
    }
}

/// A sum and the products of two rows, one by one in the order of k as for a single warp's products (`matrix.rs`).
fn dot(format: Format, sum: f32, a: &[u32; WORDS], b: &[u32; WORDS]) -> f32 {
    let product = move |a, b, part| number(format, a, part) * number(format, b, part);
    let pairs = a.iter().zip(b).flat_map(|(&a, &b)| (0..format.in_a_word()).map(move |part| product(a, b, part)));
    pairs.fold(sum, |sum, product| sum + product)
}
