//! Layers one after another.

use super::{Context, Module, Visitor};
use crate::error::Result;
use crate::tensor::Tensor;

/// One named step of a [`Sequential`].
pub struct Layer {
    /// The name in checkpoints.
    pub name: &'static str,
    /// What computes.
    pub module: Box<dyn Module>,
    /// The name under which the output can be tapped.
    pub tap: Option<&'static str>,
}

/// Layers one after another, each with a name and perhaps a feature tap.
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Layer>,
}

impl Sequential {
    /// No layers yet: the identity.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Appends a layer.
    pub fn then(mut self, name: &'static str, module: impl Module + 'static) -> Sequential {
        self.layers.push(Layer { name, module: Box::new(module), tap: None });
        self
    }

    /// Names the output of the last layer as a feature tap.
    pub fn tap(mut self, name: &'static str) -> Sequential {
        if let Some(last) = self.layers.last_mut() {
            last.tap = Some(name);
        }
        self
    }

    /// The layers in order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

impl Module for Sequential {
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.layers {
            cx.enter(layer.tap);
            x = layer.module.forward(&x, cx)?;
            if let Some(name) = layer.tap {
                cx.tap(name, &x);
            }
        }
        Ok(x)
    }

    fn visit(&self, visitor: &mut Visitor) {
        for layer in &self.layers {
            visitor.child(layer.name, layer.module.as_ref());
        }
    }

    fn describe(&self) -> String {
        format!("{} layers", self.layers.len())
    }
}
