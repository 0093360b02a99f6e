//! Relations between samples, and attention maps.

use super::build;
use super::kernels::{angles, relations};
use super::shapes::build_pair;
use crate::tensor::{Shape, Tensor};

pub(super) fn pairwise_distances(x: &Tensor) -> Tensor {
    let (n, features) = (x.shape()[0], x.shape()[1]);
    build(Shape::from([n, n]), |distances| relations::pairwise_distances(x.slice(), features, distances))
}

pub(super) fn pairwise_distances_grad(x: &Tensor, dy: &Tensor) -> Tensor {
    build(*x.shape(), |dx| relations::pairwise_distances_backward(x.slice(), x.shape()[1], dy.slice(), dx))
}

pub(super) fn angle_losses(student: &Tensor, teacher: &Tensor) -> [Tensor; 2] {
    let inverse = |x: &Tensor| build(*x.shape(), |inverse| angles::inverse_lengths(x.slice(), inverse));
    let (of_student, of_teacher) = (inverse(student), inverse(teacher));
    let student = angles::Triangles { squares: student.slice(), inverse: of_student.slice() };
    let teacher = angles::Triangles { squares: teacher.slice(), inverse: of_teacher.slice() };
    build_pair(*of_student.shape(), |losses, grads| angles::angle_losses(student, teacher, losses, grads)).into()
}

/// Images, channels and positions of `[n, c, …]`.
fn extents(x: &Tensor) -> [usize; 3] {
    [x.shape()[0], x.shape()[1], x.shape()[2..].iter().product()]
}

pub(super) fn attention_map(x: &Tensor, power: f64) -> Tensor {
    let [n, channels, area] = extents(x);
    build(Shape::from([n, area]), |map| relations::attention_map(x.slice(), [channels, area], power as f32, map))
}

pub(super) fn attention_map_grad(x: &Tensor, dy: &Tensor, power: f64) -> Tensor {
    let [_, channels, area] = extents(x);
    build(*x.shape(), |dx| {
        relations::attention_map_backward(x.slice(), [channels, area], power as f32, dy.slice(), dx);
    })
}
