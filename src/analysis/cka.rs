//! Linear centred kernel alignment (Kornblith et al. 2019, section 3):
//! `CKA(X, Y) = ‖Yᵀ X‖²_F / (‖Xᵀ X‖_F ‖Yᵀ Y‖_F)` of features with each column's mean subtracted; 1 for features that are equal up to
//! rotation and scale, near 0 for unrelated ones. Computed from `[n, n]` Gram matrices, `‖Yᵀ X‖²_F = ⟨X Xᵀ, Y Yᵀ⟩`, so that layers of any
//! width cost the same.

use crate::autograd::no_grad;
use crate::data::Dataset;
use crate::distill::Features;
use crate::error::{Error, Result};
use crate::models::Model;
use crate::nn::{Context, Module};
use crate::tensor::{Device, Tensor};

/// The feature maps of a network for the first `count` images, by tap.
///
/// # Errors
/// The network cannot be computed.
pub fn features(model: &Model, images: &Dataset, count: usize, device: Device) -> Result<Features> {
    let taps = model.taps();
    let images = images.images_tensor(0..count.min(images.len()), device)?;
    let mut cx = Context::eval().with_taps(&taps);
    no_grad(|| model.forward(&images, &mut cx))?;
    Ok(taps.iter().filter_map(|tap| Some((tap.to_string(), cx.tapped(tap)?.detach()))).collect())
}

/// How alike two layers' features of the same samples `[n, …]` are, from 0 to 1; NaN where a layer says the same of every sample.
///
/// # Errors
/// The numbers of samples differ, or there are none.
pub fn linear_cka(a: &Tensor, b: &Tensor) -> Result<f64> {
    if a.shape().rank() < 2 || b.shape().rank() < 2 || a.shape()[0] != b.shape()[0] {
        return Err(Error::argument(
            "cka",
            format!("needs features of the same samples, found {:?} and {:?}", a.shape(), b.shape()),
        ));
    }
    Ok(alignment(&centred_gram(a)?, &centred_gram(b)?))
}

/// The alignment of every layer of one network with every layer of another: `[layer of a][layer of b]`, layers in the order of `taps`.
///
/// # Errors
/// As [`linear_cka`].
pub fn similarities(a: (&Features, &[&str]), b: (&Features, &[&str])) -> Result<Vec<Vec<f64>>> {
    let grams = |(features, taps): (&Features, &[&str])| {
        let known = taps.iter().filter_map(|tap| features.get(*tap));
        known.map(centred_gram).collect::<Result<Vec<_>>>()
    };
    let (of_a, of_b) = (grams(a)?, grams(b)?);
    Ok(of_a.iter().map(|x| of_b.iter().map(|y| alignment(x, y)).collect()).collect())
}

/// `X Xᵀ` with the mean of each column subtracted from X.
fn centred_gram(x: &Tensor) -> Result<Vec<f64>> {
    let x = if x.shape().rank() == 2 { x.clone() } else { x.flatten(1)? };
    let n = x.shape()[0].max(1) as f64;
    let centred = x.sub(&x.sum(&[0], true)?.affine(1.0 / n, 0.0)?)?;
    centred.gram()?.to_f64_vec()
}

fn alignment(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, Rng};

    fn normal(shape: [usize; 2], stream: u64) -> Tensor {
        Tensor::normal(shape, 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(3, stream)).unwrap()
    }

    #[test]
    fn alignment_ignores_rotation_scale_and_offset_but_not_content() {
        let x = normal([40, 3], 1);
        // A rotation of the first two columns by 30°, scaled by 5 and moved.
        let rotation =
            Tensor::from_slice(&[0.866_025_4f32, 0.5, 0.0, -0.5, 0.866_025_4, 0.0, 0.0, 0.0, 1.0], [3, 3], Device::Cpu);
        let turned = x.matmul(&rotation.unwrap()).unwrap().affine(5.0, 2.0).unwrap();
        assert!((linear_cka(&x, &turned).unwrap() - 1.0).abs() < 1e-5);
        let unrelated = linear_cka(&normal([400, 3], 1), &normal([400, 3], 2)).unwrap();
        assert!(unrelated < 0.05, "{unrelated}");
    }

    #[test]
    fn alignment_is_that_of_the_formula() {
        // Centred: X = (−1, 0, 1), Y = (−1, 2, −1): Yᵀ X = 0. And Z = (−1, −1, 2): Zᵀ X = 3, ‖X‖² = 2, ‖Z‖² = 6: 9 / 12.
        let column = |values: [f32; 3]| Tensor::from_slice(&values, [3, 1], Device::Cpu).unwrap();
        let x = column([1.0, 2.0, 3.0]);
        assert!(linear_cka(&x, &column([0.0, 3.0, 0.0])).unwrap().abs() < 1e-9);
        assert!((linear_cka(&x, &column([1.0, 1.0, 4.0])).unwrap() - 0.75).abs() < 1e-6);
        assert!(linear_cka(&x, &normal([4, 1], 1)).unwrap_err().to_string().contains("same samples"));
    }
}
