//! Batches of images from a data set of bytes.

use crate::backend::params::ImagePlan;
use crate::tensor::{DType, Tensor};

/// A byte as a number in [0, 1].
fn unit(pixel: u8) -> f32 {
    f32::from(pixel) * (1.0 / 255.0)
}

impl ImagePlan {
    /// The value of target pixel (y, x): bilinear between the pixels that it comes from, 0 outside.
    fn sample(&self, plane: &[u8], [height, width]: [usize; 2], [y, x]: [usize; 2]) -> f32 {
        let (centre_y, centre_x) = ((height as f32 - 1.0) / 2.0, (width as f32 - 1.0) / 2.0);
        let (y, x) = (y as f32 - centre_y - self.dy, x as f32 - centre_x - self.dx);
        let from_y = self.cosine * y - self.sine * x + centre_y;
        let across = self.sine * y + self.cosine * x;
        let from_x = if self.mirrored != 0.0 { centre_x - across } else { centre_x + across };
        let (y0, x0) = (from_y.floor(), from_x.floor());
        let at = |y: f32, x: f32| match y >= 0.0 && x >= 0.0 && y < height as f32 && x < width as f32 {
            true => unit(plane[y as usize * width + x as usize]),
            false => 0.0,
        };
        let (fy, fx) = (from_y - y0, from_x - x0);
        let row = |y: f32| at(y, x0) * (1.0 - fx) + at(y, x0 + 1.0) * fx;
        row(y0) * (1.0 - fy) + row(y0 + 1.0) * fy
    }

    /// Whether the pixel lies in the blanked square.
    fn cuts(&self, [y, x]: [usize; 2]) -> bool {
        let side = self.side as i64;
        let inside = |at: usize, centre: f32| (0..side).contains(&(at as i64 - centre as i64 + side / 2));
        inside(y, self.cut_y) && inside(x, self.cut_x)
    }
}

pub(in crate::backend) fn gather_images(images: &Tensor, index: &Tensor, plans: Option<&Tensor>) -> Tensor {
    let [height, width] = [images.shape()[2], images.shape()[3]];
    let (area, size) = (height * width, images.shape()[1] * height * width);
    let plans: Option<&[ImagePlan]> = plans.map(|plans| bytemuck::cast_slice(plans.slice::<f32>()));
    let shape = images.shape().with_extent(0, index.numel());
    debug_assert_eq!(images.dtype(), DType::U8);
    Tensor::build(shape, images.device(), |out: &mut [f32]| {
        for (i, (out, &from)) in out.chunks_mut(size).zip(index.slice::<i32>()).enumerate() {
            let image = &images.slice::<u8>()[from as usize * size..][..size];
            let Some(plan) = plans.map(|plans| &plans[i]) else {
                out.iter_mut().zip(image).for_each(|(out, &pixel)| *out = unit(pixel));
                continue;
            };
            for (out, plane) in out.chunks_mut(area).zip(image.chunks(area)) {
                for (at, out) in out.iter_mut().enumerate() {
                    let target = [at / width, at % width];
                    *out = if plan.cuts(target) { 0.0 } else { plan.sample(plane, [height, width], target) };
                }
            }
        }
    })
}

pub(in crate::backend) fn count_confusion(predictions: &Tensor, labels: &Tensor, counts: &mut Tensor) {
    let classes = counts.shape()[1];
    let counts = counts.storage_mut().as_mut_slice::<i32>();
    for (&prediction, &label) in predictions.slice::<i32>().iter().zip(labels.slice::<i32>()) {
        counts[label as usize * classes + prediction as usize] += 1;
    }
}
