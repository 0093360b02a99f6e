//! Architectures, one file each, and the registry that knows them by name.

mod cnn;
mod demo_student;
mod demo_teacher;
mod family;
mod mlp;
mod student_net;
mod summary;
mod teacher_net;

pub use family::{Family, FAMILIES};
pub use summary::{summarise, summarise_architecture, LayerSummary, ModelSummary};

use crate::error::{Error, Result};
use crate::nn::{check_state, load_state, Context, Init, Module, Sequential, Visitor};
use crate::suggest::nearest;
use crate::tensor::{Device, Rng, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// A feature map as a network offers it: the tap's name, and the shape of one sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapShape {
    /// The tap.
    pub name: String,
    /// `[c, h, w]`, or `[features]`.
    pub shape: Vec<usize>,
    /// Whether it is a ReLU's output, whose input can be tapped as well: its name with [`PRE_ACTIVATION`](crate::nn::PRE_ACTIVATION)
    /// behind it.
    pub rectified: bool,
}

/// The taps of an architecture for a task, in order.
///
/// # Errors
/// There is no such architecture, or the images are too small for it.
pub fn tap_shapes(name: &str, task: Task) -> Result<Vec<TapShape>> {
    let tapped =
        |layer: LayerSummary| Some(TapShape { name: layer.tap?, shape: layer.output, rectified: layer.rectified });
    Ok(summarise_architecture(name, task)?.layers.into_iter().filter_map(tapped).collect())
}

/// What a model is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Channels, height and width of an input image.
    pub input: [usize; 3],
    /// Number of classes.
    pub classes: usize,
}

/// Makes an architecture's layers for a task.
type Build = dyn Fn(Task, &mut Init) -> Result<Sequential> + Send + Sync;

/// An entry of the registry.
pub struct Architecture {
    /// The name on the command line and in checkpoints.
    pub name: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// The task it was designed for, used where no data set says otherwise.
    pub default_task: Task,
    /// The smallest image it can take, height and width.
    pub smallest_input: [usize; 2],
    build: &'static Build,
}

/// All architectures of fixed sizes; [`FAMILIES`] has those whose names give their sizes. A new one is a file and a line here.
pub const ARCHITECTURES: &[Architecture] = &[
    teacher_net::ARCHITECTURE,
    student_net::ARCHITECTURE,
    student_net::TWICE,
    student_net::THRICE,
    demo_teacher::ARCHITECTURE,
    demo_student::ARCHITECTURE,
];

/// The names of all architectures, with an example of those that have sizes in their names.
pub fn architecture_names() -> Vec<&'static str> {
    ARCHITECTURES.iter().map(|a| a.name).chain(FAMILIES.iter().map(|f| f.example)).collect()
}

/// The architecture with this name.
///
/// # Errors
/// There is none; the error names the nearest. The sizes in a family's name make no sense.
pub fn architecture(name: &str) -> Result<&'static Architecture> {
    if let Some(sized) = family::named(name) {
        return sized;
    }
    ARCHITECTURES.iter().find(|a| a.name == name).ok_or_else(|| {
        let known = architecture_names();
        let hint = nearest(name, &known).map_or_else(|| ".".to_string(), |n| format!("; did you mean `{n}`?"));
        Error::argument("model", format!("unknown architecture `{name}`{hint} Known: {}", known.join(", ")))
    })
}

/// A network for one task.
pub struct Model {
    architecture: &'static Architecture,
    task: Task,
    layers: Sequential,
    normalisation: Vec<[f32; 2]>,
}

impl Model {
    /// A network with fresh weights drawn from `rng`.
    ///
    /// # Errors
    /// The architecture is unknown, or the images are too small for it.
    pub fn new(name: &str, task: Task, rng: Rng, device: Device) -> Result<Model> {
        let architecture = architecture(name)?;
        let [_, h, w] = task.input;
        let [least_h, least_w] = architecture.smallest_input;
        if h < least_h || w < least_w || task.input[0] == 0 || task.classes == 0 {
            let reason = format!("{name} takes images of at least {least_h}×{least_w} pixels, found {:?}", task.input);
            return Err(Error::argument("model", reason));
        }
        let layers = (architecture.build)(task, &mut Init::new(rng, device))?;
        Ok(Model { architecture, task, layers, normalisation: Vec::new() })
    }

    /// The architecture's name.
    pub fn name(&self) -> &'static str {
        self.architecture.name
    }

    /// What the model was built for.
    pub fn task(&self) -> Task {
        self.task
    }

    /// Mean and deviation of each input channel, which are subtracted from and divided out of every image; empty for none.
    pub fn normalisation(&self) -> &[[f32; 2]] {
        &self.normalisation
    }

    /// The same model for images that it normalises by these means and deviations.
    pub fn normalising(self, normalisation: Vec<[f32; 2]>) -> Model {
        Model { normalisation, ..self }
    }

    /// The images as the first layer wants them.
    fn normalise(&self, x: &Tensor) -> Result<Tensor> {
        if self.normalisation.is_empty() {
            return Ok(x.clone());
        }
        let shape = [self.normalisation.len(), 1, 1];
        let vector = |k: usize| {
            let values: Vec<f32> = self.normalisation.iter().map(|moments| moments[k]).collect();
            Tensor::from_slice(&values, shape, x.device())?.to_dtype(x.dtype())
        };
        x.sub(&vector(0)?)?.div(&vector(1)?)
    }

    /// A copy with weights of its own, which computes what this model does until one of them learns.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn copied(&self) -> Result<Model> {
        let device = self.parameters().first().map_or(Device::default(), |(_, p)| p.get().device());
        let copy = Model::new(self.name(), self.task, Rng::new(0, 0), device)?.normalising(self.normalisation.clone());
        load_state(&copy, &self.state())?;
        for ((_, own), (_, original)) in copy.parameters().iter().zip(self.parameters()) {
            own.compute_with(original.view());
        }
        Ok(copy)
    }

    /// A copy whose weights are constants: gradients pass through it to its input, and nothing can train it.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn frozen(&self) -> Result<Model> {
        let copy = self.copied()?;
        copy.parameters().iter().for_each(|(_, parameter)| parameter.freeze());
        Ok(copy)
    }

    /// The layers in order.
    pub fn layers(&self) -> &Sequential {
        &self.layers
    }

    /// The names of the feature taps, in order.
    pub fn taps(&self) -> Vec<&'static str> {
        self.layers.layers().iter().filter_map(|layer| layer.tap).collect()
    }

    /// Sets the weights from saved tensors; `path` is for messages.
    ///
    /// # Errors
    /// The tensors are of another architecture: lists what is missing, unexpected and misshaped.
    pub fn load_state(&self, saved: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
        check_state(self, saved).map_err(|mismatch| {
            let name = self.name();
            let next = "choose the architecture that it was made with (--teacher-model, --student-model or --model)";
            Error::checkpoint(path, format!("does not fit {name}: {mismatch}; {next}"))
        })?;
        load_state(self, saved)
    }
}

impl Module for Model {
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Result<Tensor> {
        let shape = x.shape();
        if shape.rank() != 4 || shape[1..] != self.task.input {
            let [c, h, w] = self.task.input;
            let (expected, found) = (format!("[n, {c}, {h}, {w}]"), format!("{shape:?}"));
            return Err(Error::Shape { op: self.name(), arg: "images", expected, found });
        }
        self.layers.forward(&self.normalise(x)?, cx)
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.layers.visit(visitor);
    }

    fn describe(&self) -> String {
        self.name().to_string()
    }
}

#[cfg(test)]
mod tests;
