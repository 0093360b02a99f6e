//! As many fused multiply-adds as the processor can do: the limit that kernels are measured against.

use super::isa::{self, Kernel};
use super::simd::Simd;
use rayon::prelude::*;

/// Steps of each chain in a round.
const STEPS: usize = 1000;
/// Independent chains: enough to cover the latency of two units a core.
const CHAINS: usize = 10;

/// Runs `rounds` rounds on every thread and returns the number of floating-point operations in all.
pub fn multiply_adds(rounds: usize) -> f64 {
    let isa = isa::active();
    let threads = rayon::current_num_threads();
    (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
        std::hint::black_box(isa.run(Chains { steps: rounds * STEPS }));
    });
    2.0 * (threads * rounds * STEPS * CHAINS * isa.lanes()) as f64
}

struct Chains {
    steps: usize,
}

impl Kernel for Chains {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        let half = S::splat(std::hint::black_box(0.5));
        let mut chains = [half; CHAINS];
        for _ in 0..self.steps {
            for chain in &mut chains {
                *chain = S::fma(*chain, half, half);
            }
        }
        S::sum(chains.into_iter().fold(S::zero(), |sum, chain| S::add(sum, chain)))
    }
}
