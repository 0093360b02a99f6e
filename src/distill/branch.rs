//! Classifiers that branch off a student's feature map while it is trained, and are thrown away with the method's other tensors.

use super::math::{pooled_to, rows};
use crate::error::Result;
use crate::models::TapShape;
use crate::nn::{Context, Conv2d, ConvThen, Init, Linear, Module, Visitor};
use crate::tensor::Tensor;

/// Layers from a feature map to logits.
pub(super) struct Branch {
    layers: Vec<BranchLayer>,
    classifier: Linear,
}

enum BranchLayer {
    /// A 3×3 convolution with ReLU, averaged to a size.
    Map(Conv2d, [usize; 2]),
    /// A linear layer with ReLU.
    Vector(Linear),
}

/// What a branch makes of a feature map.
pub(super) struct Branched {
    /// The output of its first layer; the input itself where it has none.
    pub first: Tensor,
    /// `[n, classes]`.
    pub logits: Tensor,
}

impl Branch {
    /// A branch from a feature map of shape `from` through one layer for each of the shapes in `through`, to `classes` logits.
    pub(super) fn new(init: &mut Init, from: &[usize], through: &[&[usize]], classes: usize) -> Result<Branch> {
        let (mut layers, mut shape) = (Vec::new(), from);
        for &next in through {
            layers.push(match (shape, next) {
                (&[inputs, ..], &[outputs, h, w]) => {
                    BranchLayer::Map(Conv2d::same(init, inputs, outputs, 3, ConvThen::Relu)?, [h, w])
                }
                _ => BranchLayer::Vector(Linear::new(init, shape.iter().product(), next.iter().product())?.relu()),
            });
            shape = next;
        }
        Ok(Branch { layers, classifier: Linear::new(init, shape.iter().product(), classes)? })
    }

    /// The same way that the student's own layers take behind the tap `from`: a layer for each of the later taps but the logits.
    pub(super) fn like_the_student(
        init: &mut Init,
        student: &[TapShape],
        from: &str,
        classes: usize,
    ) -> Result<Branch> {
        let at = student.iter().position(|tap| tap.name == from).unwrap_or(0);
        let later = student.iter().skip(at + 1).filter(|tap| tap.name != "logits");
        let through: Vec<&[usize]> = later.map(|tap| tap.shape.as_slice()).collect();
        let from = student.get(at).map_or(&[][..], |tap| &tap.shape);
        Branch::new(init, from, &through, classes)
    }

    /// What it makes of a feature map `[n, c, h, w]`.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Branched> {
        let mut cx = Context::eval();
        let (mut now, mut first) = (x.clone(), None);
        for layer in &self.layers {
            now = match layer {
                BranchLayer::Map(conv, size) => pooled_to(&conv.forward(&now, &mut cx)?, *size)?,
                BranchLayer::Vector(linear) => linear.forward(&rows(&now)?, &mut cx)?,
            };
            first.get_or_insert_with(|| now.clone());
        }
        let logits = self.classifier.forward(&rows(&now)?, &mut cx)?;
        Ok(Branched { first: first.unwrap_or(now), logits })
    }

    /// Shows its layers.
    pub(super) fn visit(&self, visitor: &mut Visitor) {
        for (i, layer) in self.layers.iter().enumerate() {
            match layer {
                BranchLayer::Map(conv, _) => visitor.child(&format!("layer{i}"), conv),
                BranchLayer::Vector(linear) => visitor.child(&format!("layer{i}"), linear),
            }
        }
        visitor.child("classifier", &self.classifier);
    }
}
