//! Where a network looks (Zagoruyko & Komodakis 2017): `Σ_c |F_c|²` of a feature map, as a picture.

use crate::error::Result;
use crate::tensor::Tensor;

/// The attention maps of feature maps `[n, c, h, w]` as grey pictures: for each image, height, width and `h · w` bytes, 255 where the
/// network looks most.
///
/// # Errors
/// Not feature maps.
pub fn attention_pixels(maps: &Tensor) -> Result<Vec<([usize; 2], Vec<u8>)>> {
    let size = [maps.shape()[2], maps.shape()[3]];
    let values = maps.attention_map(2.0)?.to_f64_vec()?;
    let picture = |map: &[f64]| {
        let most = map.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        (size, map.iter().map(|value| (255.0 * value / most).round() as u8).collect())
    };
    Ok(values.chunks((size[0] * size[1]).max(1)).map(picture).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Device;

    #[test]
    fn the_brightest_pixel_is_where_activations_are_largest() {
        let maps = Tensor::from_slice(&[0f32, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0], [2, 1, 2, 2], Device::Cpu).unwrap();
        let pictures = attention_pixels(&maps).unwrap();
        assert_eq!(pictures, [([2, 2], vec![0, 64, 255, 0]), ([2, 2], vec![0; 4])]);
    }
}
