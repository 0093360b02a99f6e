//! What every layer and model can do.

use super::{Context, Parameter};
use crate::error::Result;
use crate::tensor::{Shape, Tensor};
use std::collections::BTreeMap;
use std::fmt;

/// A layer or a model: computes, and names what it has learned.
pub trait Module: Send + Sync {
    /// The output for a batch.
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Result<Tensor>;

    /// Shows the visitor every parameter, buffer and child, under the names that PyTorch gives them.
    fn visit(&self, visitor: &mut Visitor);

    /// What the layer is, for tables: `conv 3×3, 16 → 32`.
    fn describe(&self) -> String;

    /// Whether the output is a ReLU's, whose input can be tapped.
    fn ends_in_relu(&self) -> bool {
        false
    }

    /// Trainable tensors by name, in a fixed order.
    fn parameters(&self) -> Vec<(String, Parameter)> {
        Visitor::of(|v| self.visit(v)).parameters
    }

    /// Tensors that are saved but not trained, by name: running statistics.
    fn buffers(&self) -> Vec<(String, Parameter)> {
        Visitor::of(|v| self.visit(v)).buffers
    }

    /// The number of trainable values.
    fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, p)| p.get().numel()).sum()
    }

    /// The current value of every parameter and buffer, by name.
    fn state(&self) -> BTreeMap<String, Tensor> {
        let named = self.parameters().into_iter().chain(self.buffers());
        named.map(|(name, cell)| (name, cell.get().detach())).collect()
    }
}

/// Collects the named tensors of a module.
#[derive(Default)]
pub struct Visitor {
    prefix: String,
    parameters: Vec<(String, Parameter)>,
    buffers: Vec<(String, Parameter)>,
}

impl Visitor {
    /// What `visit` shows.
    pub fn of(visit: impl FnOnce(&mut Visitor)) -> Visitor {
        let mut visitor = Visitor::default();
        visit(&mut visitor);
        visitor
    }

    /// A trainable tensor.
    pub fn parameter(&mut self, name: &str, parameter: &Parameter) {
        self.parameters.push((format!("{}{name}", self.prefix), parameter.clone()));
    }

    /// A tensor that is saved but not trained.
    pub fn buffer(&mut self, name: &str, buffer: &Parameter) {
        self.buffers.push((format!("{}{name}", self.prefix), buffer.clone()));
    }

    /// A child; its names get `name.` in front.
    pub fn child(&mut self, name: &str, module: &dyn Module) {
        self.group(name, |visitor| module.visit(visitor));
    }

    /// Several tensors; their names get `name.` in front.
    pub fn group(&mut self, name: &str, visit: impl FnOnce(&mut Visitor)) {
        let outer = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('.');
        visit(self);
        self.prefix.truncate(outer);
    }

    /// The trainable tensors, by name.
    pub fn into_parameters(self) -> Vec<(String, Parameter)> {
        self.parameters
    }

    /// Trainable tensors and buffers, by name.
    pub fn into_cells(self) -> Vec<(String, Parameter)> {
        self.parameters.into_iter().chain(self.buffers).collect()
    }
}

/// How saved tensors differ from a module's: what a checkpoint of another architecture looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateMismatch {
    /// Names that the module has and the checkpoint lacks.
    pub missing: Vec<String>,
    /// Names that the checkpoint has and the module lacks.
    pub unexpected: Vec<String>,
    /// Names with another shape: (name, the module's, the checkpoint's).
    pub misshaped: Vec<(String, Shape, Shape)>,
}

impl fmt::Display for StateMismatch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("missing {}", self.missing.join(", ")));
        }
        if !self.unexpected.is_empty() {
            parts.push(format!("unexpected {}", self.unexpected.join(", ")));
        }
        if !self.misshaped.is_empty() {
            let each =
                |(name, model, file): &(String, Shape, Shape)| format!("{name} (model {model:?}, file {file:?})");
            parts.push(format!("misshaped {}", self.misshaped.iter().map(each).collect::<Vec<_>>().join(", ")));
        }
        f.write_str(&parts.join("; "))
    }
}

/// Every parameter and buffer of a module, by name.
fn cells(module: &dyn Module) -> BTreeMap<String, Parameter> {
    module.parameters().into_iter().chain(module.buffers()).collect()
}

/// Whether saved tensors have the names and shapes of `module`'s. PyTorch's `num_batches_tracked` counters are ignored.
pub fn check_state(module: &dyn Module, saved: &BTreeMap<String, Tensor>) -> Result<(), StateMismatch> {
    let cells = cells(module);
    let known = |name: &String| cells.contains_key(name) || name.ends_with("num_batches_tracked");
    let mut mismatch = StateMismatch {
        missing: cells.keys().filter(|name| !saved.contains_key(*name)).cloned().collect(),
        unexpected: saved.keys().filter(|name| !known(name)).cloned().collect(),
        misshaped: Vec::new(),
    };
    for (name, cell) in &cells {
        if let Some(tensor) = saved.get(name) {
            if tensor.shape() != cell.get().shape() {
                mismatch.misshaped.push((name.clone(), *cell.get().shape(), *tensor.shape()));
            }
        }
    }
    match mismatch == StateMismatch::default() {
        true => Ok(()),
        false => Err(mismatch),
    }
}

/// Sets every parameter and buffer of `module` from saved tensors that fit it, converting dtype and device.
pub fn load_state(module: &dyn Module, saved: &BTreeMap<String, Tensor>) -> Result<()> {
    for (name, cell) in cells(module) {
        let now = cell.get();
        cell.set(&saved[&name].to_dtype(now.dtype())?.to_device(now.device())?)?;
    }
    Ok(())
}
