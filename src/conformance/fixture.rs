//! Reading a fixture: one safetensors file with inputs, expected outputs, expected gradients and tolerances.

use crate::error::{Error, Result};
use crate::ops::Case;
use crate::tensor::io::load_safetensors;
use crate::tensor::{DType, Device, Tensor};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// A reference result of one op.
pub struct Fixture {
    /// The op.
    pub op: String,
    /// The case's name within the op.
    pub case: String,
    /// Hyperparameters.
    pub attrs: Map<String, Value>,
    /// Relative tolerance.
    pub rtol: f64,
    /// Absolute tolerance.
    pub atol: f64,
    /// Inputs by name.
    pub inputs: BTreeMap<String, Tensor>,
    /// Weights of outputs in the scalar that is differentiated.
    pub cotangents: BTreeMap<String, Tensor>,
    /// Expected outputs by name.
    pub outputs: BTreeMap<String, Tensor>,
    /// Expected gradients by input.
    pub gradients: BTreeMap<String, Tensor>,
}

impl Fixture {
    /// Reads a fixture.
    ///
    /// # Errors
    /// The file is damaged, a metadata entry is missing or malformed, or a tensor belongs nowhere.
    pub fn load(path: &Path) -> Result<Fixture> {
        let (tensors, metadata) = load_safetensors(path)?;
        let text =
            |key: &str| metadata.get(key).ok_or_else(|| Error::data(path, format!("metadata `{key}` is missing")));
        let number = |key: &str| {
            let value: Option<f64> = text(key)?.parse().ok();
            let valid = value.filter(|v| v.is_finite() && *v >= 0.0);
            valid.ok_or_else(|| Error::data(path, format!("metadata `{key}` is not a number of 0 or more")))
        };
        let attrs = serde_json::from_str(text("attrs")?);
        let mut fixture = Fixture {
            op: text("op")?.clone(),
            case: text("case")?.clone(),
            attrs: attrs.map_err(|e| Error::data(path, format!("metadata `attrs` is not a JSON object: {e}")))?,
            rtol: number("rtol")?,
            atol: number("atol")?,
            inputs: BTreeMap::new(),
            cotangents: BTreeMap::new(),
            outputs: BTreeMap::new(),
            gradients: BTreeMap::new(),
        };
        for (name, tensor) in tensors {
            let (kind, rest) = name.split_once('.').unwrap_or((name.as_str(), ""));
            let group = match kind {
                "in" => &mut fixture.inputs,
                "cot" => &mut fixture.cotangents,
                "out" => &mut fixture.outputs,
                "grad" => &mut fixture.gradients,
                _ => return Err(Error::data(path, format!("tensor `{name}` is none of in., out., grad., cot."))),
            };
            group.insert(rest.to_string(), tensor);
        }
        match fixture.outputs.is_empty() {
            true => Err(Error::data(path, "there is no expected output")),
            false => Ok(fixture),
        }
    }

    /// The op's case on a device: floats in `f32` (`f64` on the reference backend), as variables where a gradient is expected or
    /// must be absent.
    pub fn case(&self, device: Device) -> Result<Case> {
        let mut case = Case::new();
        for (name, value) in &self.attrs {
            case = case.attr(name, value.clone());
        }
        for (name, tensor) in &self.inputs {
            let tensor = on_device(tensor, device)?;
            case = case.input(name, if tensor.dtype().is_float() { tensor.variable() } else { tensor });
        }
        Ok(case)
    }

    /// The weight of an output in the scalar that is differentiated.
    pub fn cotangent(&self, output: &str, device: Device) -> Result<Option<Tensor>> {
        self.cotangents.get(output).map(|tensor| on_device(tensor, device)).transpose()
    }
}

/// The tensor on a device, in the float type that the device computes in.
pub(super) fn on_device(tensor: &Tensor, device: Device) -> Result<Tensor> {
    let float = if device == Device::Reference { DType::F64 } else { DType::F32 };
    match tensor.dtype().is_float() {
        true => tensor.to_dtype(float)?.to_device(device),
        false => tensor.to_device(device),
    }
}
