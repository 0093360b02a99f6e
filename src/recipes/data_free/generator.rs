//! The generator of DAFL and DFAD for small images: from noise through a linear layer to maps of a quarter of the height and width, then
//! twice nearest-neighbour upsampling and convolution with batch norm and leaky ReLU. The papers end with tanh and a batch norm, for
//! teachers whose images were normalised; here a batch norm and a sigmoid give pixels in [0, 1], the range of the data.

use crate::error::{Error, Result};
use crate::nn::{
    Activation, BatchNorm2d, Context, Conv2d, ConvThen, Init, LeakyRelu, Linear, Module, Sequential, Upsample, Visitor,
};
use crate::tensor::{Device, Rng, Tensor};

const SLOPE: f64 = 0.2;

/// A generator for images `[c, h, w]` from `latent` random numbers, with `width` channels in its last hidden layer and twice as many
/// before.
///
/// # Errors
/// Height or width is not a multiple of 4.
pub(super) fn generator(
    latent: usize,
    width: usize,
    [c, h, w]: [usize; 3],
    rng: Rng,
    device: Device,
) -> Result<Sequential> {
    check(h, w)?;
    let mut init = Init::new(rng, device);
    let (shape, wide) = ([2 * width, h / 4, w / 4], 2 * width);
    let mut conv = |from: usize, to: usize| Conv2d::same(&mut init, from, to, 3, ConvThen::Nothing);
    let (conv1, conv2, conv3) = (conv(wide, wide)?, conv(wide, width)?, conv(width, c)?);
    Ok(Sequential::new()
        .then("fc", Linear::new(&mut init, latent, shape.iter().product())?)
        .then("maps", Maps(shape))
        .then("norm0", BatchNorm2d::new(&mut init, wide)?)
        .then("up1", Upsample)
        .then("conv1", conv1)
        .then("norm1", BatchNorm2d::new(&mut init, wide)?)
        .then("relu1", LeakyRelu { slope: SLOPE })
        .then("up2", Upsample)
        .then("conv2", conv2)
        .then("norm2", BatchNorm2d::new(&mut init, width)?)
        .then("relu2", LeakyRelu { slope: SLOPE })
        .then("conv3", conv3)
        .then("norm3", BatchNorm2d::new(&mut init, c)?)
        .then("range", Activation::Sigmoid))
}

/// Refuses images that the generator cannot make.
pub(super) fn check(h: usize, w: usize) -> Result<()> {
    match h.is_multiple_of(4) && w.is_multiple_of(4) && h > 0 && w > 0 {
        true => Ok(()),
        false => {
            let reason = format!("the generator makes images whose height and width are multiples of 4, not {h}×{w}");
            Err(Error::argument("method", format!("{reason}; deep-inversion takes any size")))
        }
    }
}

/// `[n, c·h·w]` as `[n, c, h, w]`.
struct Maps([usize; 3]);

impl Module for Maps {
    fn forward(&self, x: &Tensor, _: &mut Context) -> Result<Tensor> {
        let [c, h, w] = self.0;
        x.reshape([x.shape()[0], c, h, w])
    }

    fn visit(&self, _: &mut Visitor) {}

    fn describe(&self) -> String {
        format!("maps {:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn images_have_the_datas_shape_and_range_and_every_weight_a_gradient() {
        let made = generator(6, 4, [2, 8, 12], Rng::new(1, 1), Device::Cpu).unwrap();
        let z = Tensor::normal([5, 6], 0.0, 1.0, DType::F32, Device::Cpu, Rng::new(2, 2)).unwrap();
        let images = made.forward(&z, &mut Context::train(Rng::new(0, 0))).unwrap();
        assert_eq!(images.shape()[..], [5, 2, 8, 12]);
        assert!(images.to_vec::<f32>().unwrap().iter().all(|x| (0.0..=1.0).contains(x)));
        let gradients = images.square().unwrap().sum_all().unwrap().backward().unwrap();
        for (name, parameter) in made.parameters() {
            assert!(gradients.get(&parameter.get()).is_some(), "{name}");
        }
        assert!(generator(6, 4, [1, 7, 8], Rng::new(1, 1), Device::Cpu).is_err());
    }
}
