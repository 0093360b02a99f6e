//! How an op presents itself to the gradient check and to the conformance fixtures.

use crate::error::{Error, Result};
use crate::tensor::random::Sequence;
use crate::tensor::Tensor;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// An op as the registry knows it. Each file in `ops/` lists its own; `gradcheck` and `conformance` run what is listed.
pub struct OpSpec {
    /// The op's name in fixtures, tables and messages.
    pub name: &'static str,
    /// Runs the op on a case and returns its named outputs.
    pub run: fn(&Case) -> Result<Outputs>,
    /// A small random case (`f64` floats) for the gradient check; `None` where the op has no gradient.
    pub sample: Option<fn(&mut Sequence) -> Case>,
}

/// An op's outputs by name. The scalar that is differentiated is `total` if there is one.
pub type Outputs = Vec<(&'static str, Tensor)>;

/// Named inputs and hyperparameters of one run of an op.
#[derive(Default)]
pub struct Case {
    inputs: BTreeMap<String, Tensor>,
    attrs: Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl Case {
    /// A case without inputs.
    pub fn new() -> Case {
        Case::default()
    }

    /// Adds an input.
    pub fn input(mut self, name: &str, tensor: Tensor) -> Case {
        self.inputs.insert(name.to_string(), tensor);
        self
    }

    /// Adds a hyperparameter.
    pub fn attr(mut self, name: &str, value: impl Into<Value>) -> Case {
        self.attrs.insert(name.to_string(), value.into());
        self
    }

    /// The inputs, by name.
    pub fn inputs(&self) -> &BTreeMap<String, Tensor> {
        &self.inputs
    }

    /// Replaces an input, for example with a perturbed one.
    pub fn set_input(&mut self, name: &str, tensor: Tensor) {
        self.inputs.insert(name.to_string(), tensor);
    }

    /// An input that the op needs.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.optional(name).ok_or_else(|| Error::argument("case", format!("input `{name}` is missing")))
    }

    /// An input that the op can do without.
    pub fn optional(&self, name: &str) -> Option<Tensor> {
        self.mark(name);
        self.inputs.get(name).cloned()
    }

    /// A number among the hyperparameters.
    pub fn number(&self, name: &str) -> Result<f64> {
        self.value(name)?.as_f64().ok_or_else(|| self.wrong(name, "a number"))
    }

    /// A count among the hyperparameters.
    pub fn count(&self, name: &str) -> Result<usize> {
        self.value(name)?.as_u64().map(|n| n as usize).ok_or_else(|| self.wrong(name, "a whole number"))
    }

    /// A yes or no among the hyperparameters.
    pub fn flag(&self, name: &str) -> Result<bool> {
        self.value(name)?.as_bool().ok_or_else(|| self.wrong(name, "true or false"))
    }

    /// A word among the hyperparameters.
    pub fn text(&self, name: &str) -> Result<&str> {
        self.value(name)?.as_str().ok_or_else(|| self.wrong(name, "a string"))
    }

    /// A list of counts among the hyperparameters.
    pub fn counts(&self, name: &str) -> Result<Vec<usize>> {
        let list = self.value(name)?.as_array().ok_or_else(|| self.wrong(name, "a list"))?;
        let counts: Option<Vec<usize>> = list.iter().map(|v| v.as_u64().map(|n| n as usize)).collect();
        counts.ok_or_else(|| self.wrong(name, "a list of whole numbers"))
    }

    /// Two counts, vertical before horizontal.
    pub fn pair(&self, name: &str) -> Result<[usize; 2]> {
        self.counts(name)?.try_into().map_err(|_| self.wrong(name, "two whole numbers"))
    }

    /// Refuses a hyperparameter that has another value than the only one the op implements.
    pub fn require(&self, name: &str, only: impl Into<Value>) -> Result<()> {
        let only = only.into();
        match self.value(name)? {
            value if *value == only => Ok(()),
            _ => Err(self.wrong(name, &format!("{only}"))),
        }
    }

    /// The inputs that must receive no gradient.
    pub fn detached(&self) -> Vec<String> {
        self.mark("detached");
        let list = self.attrs.get("detached").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_string)).collect()
    }

    /// Inputs and hyperparameters that the op never looked at: it would be guessing to ignore them.
    pub fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        self.inputs.keys().chain(self.attrs.keys()).filter(|name| !read.contains(*name)).cloned().collect()
    }

    fn mark(&self, name: &str) {
        self.read.borrow_mut().insert(name.to_string());
    }

    fn value(&self, name: &str) -> Result<&Value> {
        self.mark(name);
        self.attrs.get(name).ok_or_else(|| Error::argument("case", format!("hyperparameter `{name}` is missing")))
    }

    fn wrong(&self, name: &str, expected: &str) -> Error {
        let found = self.attrs.get(name).cloned().unwrap_or_default();
        Error::argument("case", format!("hyperparameter `{name}` is {found}, expected {expected}"))
    }
}

/// A random tensor for a gradient check: standard normal, `f64`, on the reference backend.
pub fn sample_normal(random: &mut Sequence, dims: &[usize]) -> Tensor {
    sample_tensor(&sample_values(random, dims), dims)
}

fn sample_values(random: &mut Sequence, dims: &[usize]) -> Vec<f64> {
    (0..dims.iter().product()).map(|_| f64::from(random.normal())).collect()
}

/// As [`sample_normal`], with every value at least `gap` from 0, where the op under test has a kink or a pole.
pub fn sample_away_from_zero(random: &mut Sequence, dims: &[usize], gap: f64) -> Tensor {
    let values = sample_values(random, dims);
    sample_tensor(&values.iter().map(|x| x + gap.copysign(*x)).collect::<Vec<_>>(), dims)
}

/// Random positive numbers, at least 0.1.
pub fn sample_positive(random: &mut Sequence, dims: &[usize]) -> Tensor {
    let values = sample_values(random, dims);
    sample_tensor(&values.iter().map(|x| x.abs() + 0.1).collect::<Vec<_>>(), dims)
}

/// Random class labels (or row indices) below `classes`.
pub fn sample_labels(random: &mut Sequence, dims: &[usize], classes: usize) -> Tensor {
    let labels: Vec<i32> = (0..dims.iter().product()).map(|_| random.below(classes as u32) as i32).collect();
    sample_tensor(&labels, dims)
}

/// A random extent between `low` and `high`, both included.
pub fn sample_extent(random: &mut Sequence, low: usize, high: usize) -> usize {
    low + random.below((high - low + 1) as u32) as usize
}

fn sample_tensor<T: crate::tensor::Element>(values: &[T], dims: &[usize]) -> Tensor {
    use crate::tensor::{Device, Shape};
    let shape = Shape::new(dims).expect("a small shape");
    Tensor::from_slice(values, shape, Device::Reference).expect("as many values as the shape has elements")
}
