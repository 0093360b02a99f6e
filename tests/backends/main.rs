//! Every kernel of every backend agrees with the reference on random shapes. The CPU's results have the same bits with any number of
//! threads, those of the CUDA kernels in any order in which a GPU may run their threads.

mod check;
mod kernels;
#[cfg(feature = "emulator")]
mod precision;

use kdengine::backend::params::{Conv2dGeometry, Pool2d};
use kdengine::backend::{self, Backend};
use kdengine::tensor::Rng;
use kdengine::{DType, Device, Shape};
use proptest::prelude::*;

/// Mostly small extents, now and then one that needs several tasks.
fn extent() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1usize..12, 1 => 40usize..150]
}

#[cfg(feature = "emulator")]
/// Extents for the emulator, which takes its time; some are beyond a warp.
fn small_extent() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1usize..8, 1 => 30usize..70]
}

/// The properties as tests of one kind of backend, on so many cases of extents drawn from a strategy.
macro_rules! properties {
    ($check:expr, $cases:expr, $extent:expr) => {
        use super::*;

        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases($cases) })]

            #[test]
            fn elementwise(extents in prop::array::uniform3($extent), seed: u64) {
                kernels::elementwise($check, extents, seed);
            }

            #[test]
            fn layout(shape in prop::array::uniform4($extent), dims in prop::array::uniform4(any::<bool>()), seed: u64) {
                kernels::layout($check, shape.map(|extent| extent.min(40)), dims, seed);
            }

            #[test]
            fn matmul(
                sizes in prop::array::uniform3($extent),
                batch in 1usize..5,
                flags in prop::array::uniform4(any::<bool>()),
                seed: u64,
            ) {
                kernels::matmul($check, sizes, batch, flags, seed);
            }

            #[test]
            fn conv2d(
                (n, groups) in (1usize..6, 1usize..4),
                (c_in, c_out) in (prop_oneof![1usize..6, 16usize..20], prop_oneof![1usize..9, 16usize..34]),
                (h, w, kh, kw) in (3usize..15, 3usize..15, 1usize..4, 1usize..4),
                stride in prop::array::uniform2(1usize..3),
                padding in prop::array::uniform2(0usize..3),
                dilation in prop::array::uniform2(1usize..3),
                kind in 0u8..5,
                seed: u64,
            ) {
                // Dense filters and single taps have paths of their own.
                let (groups, stride, dilation) = if kind < 2 { (1, [1, 1], [1, 1]) } else { (groups, stride, dilation) };
                let (kh, kw, stride, padding) = if kind == 4 { (1, 1, [1, 1], [0, 0]) } else { (kh, kw, stride, padding) };
                // One input channel a group is a case of its own.
                let c_in = if seed % 4 == 0 { 1 } else { c_in };
                let (c_in, c_out) = (c_in * groups, c_out * groups);
                let g = Conv2dGeometry { n, c_in, h, w, c_out, kh, kw, stride, padding, dilation, groups };
                prop_assume!(g.out_h() > 0 && g.out_w() > 0);
                kernels::conv2d($check, &g, seed);
            }

            #[test]
            fn pooling(
                (n, c, h, w) in (1usize..6, $extent, 3usize..20, 3usize..20),
                (kernel, stride, padding) in (1usize..4, 1usize..4, 0usize..2),
                out in prop::array::uniform2(1usize..5),
                seed: u64,
            ) {
                let p = Pool2d { h, w, kernel, stride, padding: padding.min(kernel / 2) };
                kernels::pooling($check, [n, c.min(40)], &p, out, seed);
            }

            #[test]
            fn rows(n in $extent, width in $extent, temperature in 0.5f64..8.0, seed: u64) {
                kernels::rows($check, n, width, temperature, seed);
            }

            #[test]
            fn images((n, c, h, w) in (1usize..9, 1usize..4, 1usize..12, 1usize..12), seed: u64) {
                kernels::images($check, [n, c, h, w], seed);
            }

            #[test]
            fn relations(n in $extent, features in $extent, power in prop_oneof![Just(1.0), Just(2.0), Just(3.0)], seed: u64) {
                kernels::relations($check, n, features, power, seed);
            }

            #[test]
            fn normalisation(n in 2usize..20, c in $extent, side in 1usize..9, seed: u64) {
                kernels::normalisation($check, n, c, side, seed);
            }

            #[test]
            fn optimisers(n in $extent, scale in 1usize..300, flag: bool, momentum in prop_oneof![Just(0.0), Just(0.9)], seed: u64) {
                kernels::optimisers($check, n * scale, flag, momentum, seed);
            }
        }
    };
}

mod cpu {
    properties!(&check::cpu, 32, extent());
}

#[cfg(feature = "emulator")]
mod cuda {
    properties!(&check::cuda, 4, small_extent());

    /// Every path of the kernels that small random shapes do not reach.
    #[test]
    fn large_shapes() {
        let check = &check::cuda_once;
        // More long rows than a GPU takes at once; the emulator takes two.
        kernels::rows(&check::gpu, 40, 16_388, 4.0, 1);
        for (n, width) in [(3, 1025), (3, 2048), (5, 16_387), (3, 40_000), (1, 262_144)] {
            kernels::rows(check, n, width, 4.0, 1);
        }
        kernels::matmul(check, [100, 37, 131], 1, [false; 4], 2);
        kernels::matmul(check, [130, 20, 97], 2, [true, true, false, false], 3);
        kernels::matmul(check, [9, 1100, 70], 2, [false, true, true, false], 4);
        // First layers, large tiles, and minimal filtering.
        for (c_in, c_out, side) in [(3, 70, 13), (20, 130, 13), (32, 64, 16)] {
            let g = Conv2dGeometry {
                n: 3,
                c_in,
                h: 14,
                w: side,
                c_out,
                kh: 3,
                kw: 3,
                stride: [1, 1],
                padding: [1, 1],
                dilation: [1, 1],
                groups: 1,
            };
            kernels::conv2d(check, &g, 4);
        }
        kernels::normalisation(check, 9, 2, 30, 5);
        kernels::layout(check, [2, 33, 35, 3], [true, false, true, true], 6);
        kernels::optimisers(check, 300_000, true, 0.9, 7);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn random_tensors_have_the_same_bits_everywhere(n in 1usize..60_000, seed: u64) {
        let rng = Rng::new(seed, 1);
        let draw = |backend: &dyn Backend, dtype| {
            let shape = Shape::from([n]);
            let (uniform, normal) = (backend.uniform(&shape, -1.0, 2.0, dtype, rng), backend.normal(&shape, 1.0, 2.0, dtype, rng));
            [uniform.unwrap(), normal.unwrap()].map(|t| t.to_host().unwrap().storage().bytes().to_vec())
        };
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let expected = draw(backend::of(Device::Reference), dtype);
            let same = |pool: &rayon::ThreadPool| pool.install(|| draw(backend::of(Device::Cpu), dtype)) == expected;
            prop_assert!(check::POOLS.iter().all(same));
            #[cfg(feature = "emulator")]
            prop_assert!(draw(backend::of(Device::Emulator), dtype) == expected);
        }
    }
}
