//! Many blocks of the random number generator at once: as many counters as there are lanes, a vector for each word of the state.
//! The same numbers as [`Rng::block`].

use super::isa::{Isa, Kernel};
use super::simd::{Simd, MAX_LANES};
use crate::tensor::random::{KEY_STEPS, MULTIPLIERS, ROUNDS};
use crate::tensor::Rng;

/// Fills `numbers` with the blocks of `rng` from `first` on, one after another.
///
/// # Panics
/// When there is not a whole number of blocks for the widest vector.
pub(crate) fn fill(isa: Isa, rng: Rng, first: u64, numbers: &mut [u32]) {
    assert_eq!(numbers.len() % (4 * MAX_LANES), 0, "philox: whole vectors of blocks");
    isa.run(Fill { rng, first, numbers });
}

struct Fill<'a> {
    rng: Rng,
    first: u64,
    numbers: &'a mut [u32],
}

impl Kernel for Fill<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (seed, stream) = (self.rng.seed(), self.rng.stream());
        let stream = [S::splat_bits(stream as u32), S::splat_bits((stream >> 32) as u32)];
        for (i, numbers) in self.numbers.chunks_exact_mut(4 * S::LANES).enumerate() {
            let first = self.first + (i * S::LANES) as u64;
            let mut counters = [[0; MAX_LANES]; 2];
            for lane in 0..S::LANES {
                let counter = first + lane as u64;
                (counters[0][lane], counters[1][lane]) = (counter as u32, (counter >> 32) as u32);
            }
            let counters = [S::load_bits(counters[0].as_ptr()), S::load_bits(counters[1].as_ptr())];
            let mut c = [counters[0], counters[1], stream[0], stream[1]];
            let mut key = [seed as u32, (seed >> 32) as u32];
            for _ in 0..ROUNDS {
                let [low_0, high_0] = S::mul_wide(c[0], MULTIPLIERS[0]);
                let [low_1, high_1] = S::mul_wide(c[2], MULTIPLIERS[1]);
                c = [
                    S::xor(S::xor(high_1, c[1]), S::splat_bits(key[0])),
                    low_1,
                    S::xor(S::xor(high_0, c[3]), S::splat_bits(key[1])),
                    low_0,
                ];
                key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
            }
            // The four words of each block side by side.
            let ([even_0, even_1], [odd_0, odd_1]) = (S::interleave(c[0], c[2]), S::interleave(c[1], c[3]));
            let ([a, b], [c, d]) = (S::interleave(even_0, odd_0), S::interleave(even_1, odd_1));
            for (i, vector) in [a, b, c, d].into_iter().enumerate() {
                S::store_bits(numbers.as_mut_ptr().add(i * S::LANES), vector);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_together_are_the_blocks_one_by_one_on_every_instruction_set() {
        let (rng, first) = (Rng::new(0x1234_5678_9abc, 1 << 40), u64::from(u32::MAX) - 2);
        let expected: Vec<u32> = (first..first + 32).flat_map(|counter| rng.block(counter)).collect();
        for isa in Isa::available() {
            let mut numbers = vec![0; expected.len()];
            fill(isa, rng, first, &mut numbers);
            assert_eq!(numbers, expected, "{isa}");
        }
    }
}
