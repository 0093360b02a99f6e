//! Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//!
//! A draw is a pure function of `(seed, stream, counter)`, so any element of a random tensor can be computed by any thread, or
//! on any device, in any order, and come out the same.

use std::f64::consts::TAU;

pub(crate) const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
pub(crate) const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
pub(crate) const ROUNDS: usize = 10;

/// A family of random numbers: `seed` is the run's, `stream` separates uses (initial weights, dropout, batch order, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rng {
    seed: u64,
    stream: u64,
}

impl Rng {
    /// The family with this seed and stream.
    pub fn new(seed: u64, stream: u64) -> Self {
        Rng { seed, stream }
    }

    /// The family whose stream is derived from this one and `index`; distinct indices give unrelated numbers.
    pub fn derive(self, index: u64) -> Self {
        let [a, b, ..] = self.block(index ^ 0x5bd1_e995_0000_0000);
        Rng { seed: self.seed, stream: self.stream.wrapping_add(u64::from(a) << 32 | u64::from(b)) }
    }

    /// The run's seed.
    pub fn seed(self) -> u64 {
        self.seed
    }

    /// The stream within the seed.
    pub fn stream(self) -> u64 {
        self.stream
    }

    /// Four independent 32-bit numbers for one counter value.
    pub fn block(self, counter: u64) -> [u32; 4] {
        let mut c = [counter as u32, (counter >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        let mut key = [self.seed as u32, (self.seed >> 32) as u32];
        for _ in 0..ROUNDS {
            let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
            let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
            c = [(p1 >> 32) as u32 ^ c[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ key[1], p0 as u32];
            key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
        }
        c
    }

    /// The numbers of this family one after another, for code that runs in a fixed order anyway.
    pub fn sequence(self) -> Sequence {
        Sequence { rng: self, counter: 0, block: [0; 4], used: 4 }
    }
}

/// 24 random bits as a number in [0, 1); exact in `f32`.
pub fn unit_f32(bits: u32) -> f32 {
    (bits >> 8) as f32 * (1.0 / (1 << 24) as f32)
}

/// Two independent standard normal numbers from two 32-bit numbers (Box–Muller, computed in `f64`).
pub fn normal_pair(a: u32, b: u32) -> [f64; 2] {
    let radius = (-2.0 * ((f64::from(a) + 0.5) / 4_294_967_296.0).ln()).sqrt();
    let (sin, cos) = (TAU * f64::from(b) / 4_294_967_296.0).sin_cos();
    [radius * cos, radius * sin]
}

/// Sequential draws from one [`Rng`].
#[derive(Clone, Debug)]
pub struct Sequence {
    rng: Rng,
    counter: u64,
    block: [u32; 4],
    used: usize,
}

impl Sequence {
    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == self.block.len() {
            self.block = self.rng.block(self.counter);
            self.counter += 1;
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        unit_f32(self.next_u32())
    }

    /// Uniform in [low, high).
    pub fn uniform_in(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f32 {
        let (a, b) = (self.next_u32(), self.next_u32());
        normal_pair(a, b)[0] as f32
    }

    /// `true` with probability `p`.
    pub fn bernoulli(&mut self, p: f32) -> bool {
        self.uniform() < p
    }

    /// Uniform in `0..n` without bias (Lemire's multiply-and-reject). `n` must be positive.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "below(0) has no value to return");
        let reject_under = n.wrapping_neg() % n;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(n);
            if product as u32 >= reject_under {
                return (product >> 32) as u32;
            }
        }
    }

    /// A random order of `0..n` (Fisher–Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u32 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_known_answers_of_random123() {
        // Counter and key all zero, then all ones (Random123's kat_vectors).
        assert_eq!(Rng::new(0, 0).block(0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(Rng::new(u64::MAX, u64::MAX).block(u64::MAX), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        let mut s = Rng::new(7, 1).sequence();
        let n = 40_000;
        let normals: Vec<f32> = (0..n).map(|_| s.normal()).collect();
        let mean = normals.iter().sum::<f32>() / n as f32;
        let var = normals.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n as f32;
        assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.03, "mean {mean}, variance {var}");
        let heads = (0..n).filter(|_| s.bernoulli(0.3)).count() as f32 / n as f32;
        assert!((heads - 0.3).abs() < 0.01, "{heads}");
    }

    #[test]
    fn a_permutation_holds_every_index_once_and_depends_on_the_seed() {
        let order = |seed| Rng::new(seed, 0).sequence().permutation(1000);
        let mut sorted = order(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
