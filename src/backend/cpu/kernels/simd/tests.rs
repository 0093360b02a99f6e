//! Functions on vectors, on every instruction set that the machine has, beside the same in `f64`.

use super::{exp, log, Simd, MAX_LANES};
use crate::backend::cpu::kernels::isa::{Isa, Kernel};

/// A function of one number, on a whole vector of it.
struct Splat<F>(F, f32);

/// What the test calls on a vector.
trait Function {
    unsafe fn call<S: Simd>(&self, x: S::V) -> S::V;
}

impl<F: Function> Kernel for Splat<F> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        let mut lanes = [0.0; MAX_LANES];
        S::store(lanes.as_mut_ptr(), self.0.call::<S>(S::splat(self.1)));
        lanes[0]
    }
}

#[derive(Clone, Copy)]
struct Exp;
impl Function for Exp {
    #[inline(always)]
    unsafe fn call<S: Simd>(&self, x: S::V) -> S::V {
        exp::<S>(x)
    }
}

#[derive(Clone, Copy)]
struct Log;
impl Function for Log {
    #[inline(always)]
    unsafe fn call<S: Simd>(&self, x: S::V) -> S::V {
        log::<S>(x)
    }
}

#[test]
fn exp_is_right_to_two_parts_in_ten_million_and_at_the_ends() {
    for isa in Isa::available() {
        for i in -870..=880 {
            let x = i as f32 * 0.1;
            let (found, expected) = (f64::from(isa.run(Splat(Exp, x))), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2e-7, "{isa}: e^{x} = {found:e}");
        }
        let of = |x| isa.run(Splat(Exp, x));
        assert_eq!([of(f32::NEG_INFINITY), of(-1e30), of(0.0), of(1e30)], [0.0, 0.0, 1.0, f32::INFINITY], "{isa}");
        assert!(of(-100.0) > 0.0 && of(f32::NAN).is_nan(), "{isa}");
    }
}

#[test]
fn log_is_right_to_two_parts_in_ten_million_and_at_the_ends() {
    for isa in Isa::available() {
        let of = |x| isa.run(Splat(Log, x));
        for i in -1400..=1270 {
            let x = (f64::from(i) * 0.1).exp2() as f32;
            let (found, expected) = (f64::from(of(x)), f64::from(x).ln());
            assert!((found - expected).abs() <= 2e-7 * expected.abs(), "{isa}: ln {x:e} = {found}, not {expected}");
        }
        assert_eq!([of(0.0), of(1.0), of(f32::INFINITY)], [f32::NEG_INFINITY, 0.0, f32::INFINITY], "{isa}");
        assert!(of(-1.0).is_nan() && of(f32::NAN).is_nan(), "{isa}");
    }
}
