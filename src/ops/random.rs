//! Random tensors. Element `i` is a function of the generator and of `i` alone: the same on every device, with any number of
//! threads.

use crate::backend;
use crate::error::{Error, Result};
use crate::tensor::random::unit_f32;
use crate::tensor::{DType, Device, Rng, Shape, Tensor};

impl Tensor {
    /// Uniform in [low, high).
    ///
    /// # Errors
    /// `dtype` is not a float type, or the bounds are not finite and in order.
    pub fn uniform(
        shape: impl Into<Shape>,
        low: f64,
        high: f64,
        dtype: DType,
        device: Device,
        rng: Rng,
    ) -> Result<Tensor> {
        float_type("uniform", dtype)?;
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(Error::argument("uniform", format!("bounds {low} and {high}, expected finite low ≤ high")));
        }
        backend::of(device).uniform(&shape.into(), low, high, dtype, rng)
    }

    /// Normal with the given mean and standard deviation.
    ///
    /// # Errors
    /// `dtype` is not a float type, or the standard deviation is negative or not finite.
    pub fn normal(
        shape: impl Into<Shape>,
        mean: f64,
        sd: f64,
        dtype: DType,
        device: Device,
        rng: Rng,
    ) -> Result<Tensor> {
        float_type("normal", dtype)?;
        if !(mean.is_finite() && sd.is_finite() && sd >= 0.0) {
            return Err(Error::argument("normal", format!("mean {mean} and standard deviation {sd}, expected sd ≥ 0")));
        }
        backend::of(device).normal(&shape.into(), mean, sd, dtype, rng)
    }

    /// 1 with probability `p`, else 0, in any dtype.
    ///
    /// # Errors
    /// `p` is not in [0, 1].
    pub fn bernoulli(shape: impl Into<Shape>, p: f64, dtype: DType, device: Device, rng: Rng) -> Result<Tensor> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::argument("bernoulli", format!("probability {p}, expected 0 to 1")));
        }
        let draw = |(i, y): (usize, &mut u8)| {
            let bits = rng.block(i as u64 / 4)[i % 4];
            *y = u8::from(f64::from(unit_f32(bits)) < p);
        };
        let fill = |out: &mut [u8]| out.iter_mut().enumerate().for_each(draw);
        Tensor::build(shape.into(), Device::Cpu, fill).to_dtype(dtype)?.to_device(device)
    }

    /// A random order of `0..n`, as `I32`.
    ///
    /// # Errors
    /// `n` is beyond what `I32` can count.
    pub fn permutation(n: usize, device: Device, rng: Rng) -> Result<Tensor> {
        if i32::try_from(n).is_err() {
            return Err(Error::argument("permutation", format!("{n} elements, expected at most {}", i32::MAX)));
        }
        let order: Vec<i32> = rng.sequence().permutation(n).into_iter().map(|i| i as i32).collect();
        Tensor::from_slice(&order, [n], device)
    }
}

fn float_type(op: &'static str, dtype: DType) -> Result<()> {
    match dtype.is_float() {
        true => Ok(()),
        false => Err(Error::DType { op, arg: "dtype", expected: "a float type".into(), found: dtype.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RNG: fn() -> Rng = || Rng::new(3, 9);

    #[test]
    fn samples_have_the_moments_that_were_asked_for() {
        let moments = |t: Tensor| {
            let values = t.to_f64_vec().unwrap();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
        };
        let n = [100, 401];
        let cases = [
            ("uniform", Tensor::uniform(n, -1.0, 3.0, DType::F32, Device::Cpu, RNG()), (1.0, 4.0 / 12f64.sqrt())),
            ("normal", Tensor::normal(n, 2.0, 0.5, DType::F64, Device::Reference, RNG()), (2.0, 0.5)),
            ("bernoulli", Tensor::bernoulli(n, 0.2, DType::U8, Device::Cpu, RNG()), (0.2, 0.4)),
        ];
        for (name, tensor, (mean, sd)) in cases {
            let found = moments(tensor.unwrap());
            assert!((found.0 - mean).abs() < 0.02 && (found.1 - sd).abs() < 0.02, "{name}: {found:?}");
        }
    }

    #[test]
    fn an_element_depends_on_its_position_alone() {
        let of_size =
            |n: usize| Tensor::normal([n], 0.0, 1.0, DType::F32, Device::Cpu, RNG()).unwrap().to_f64_vec().unwrap();
        assert_eq!(of_size(1000)[..7], of_size(7)[..]);
        let uniform =
            |n: usize| Tensor::uniform([n], 0.0, 1.0, DType::F32, Device::Cpu, RNG()).unwrap().to_f64_vec().unwrap();
        assert_eq!(uniform(5)[4], f64::from(unit_f32(RNG().block(1)[0])));
    }

    #[test]
    fn impossible_distributions_are_refused() {
        let rng = RNG();
        for error in [
            Tensor::uniform([1], 2.0, 1.0, DType::F32, Device::Cpu, rng),
            Tensor::uniform([1], 0.0, 1.0, DType::I32, Device::Cpu, rng),
            Tensor::normal([1], 0.0, -1.0, DType::F32, Device::Cpu, rng),
            Tensor::normal([1], 0.0, f64::NAN, DType::F32, Device::Cpu, rng),
            Tensor::bernoulli([1], 1.5, DType::F32, Device::Cpu, rng),
            Tensor::permutation(usize::MAX, Device::Cpu, rng),
        ] {
            assert!(error.unwrap_err().to_string().contains("expected"));
        }
    }
}
