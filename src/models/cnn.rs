//! Convolutional networks of any sizes, as `student_net` is one: `cnn-16-32-fc64` has two 3×3 convolutions (16, 32 channels), each with
//! ReLU and 2×2 max-pooling, then a hidden linear layer of 64 units with ReLU, then the classifier. In `cnn-bn-16-32-fc64` each convolution
//! is normalised before its ReLU (Ioffe & Szegedy 2015). Names, taps and initial weights are `student_net`'s.

use super::family::{size, Blueprint, Family};
use super::Task;
use crate::error::Result;
use crate::nn::{Conv2d, ConvNormRelu, ConvThen, Flatten, Init, Linear, Sequential};
use crate::ops::Conv2dOptions;

pub(super) const FAMILY: Family = Family {
    prefix: "cnn-",
    example: "cnn-16-32-fc64",
    about: "convolutional network with ReLU and max-pooling",
    sizes: "1 to 5 numbers of channels (1 to 4096; `bn-` in front of them for batch norm), then up to 3 hidden layers (fc1 to fc16384)",
    parse,
};

/// The names of the convolutions, and of their taps.
const BLOCKS: [[&str; 2]; 5] =
    [["conv1", "block1"], ["conv2", "block2"], ["conv3", "block3"], ["conv4", "block4"], ["conv5", "block5"]];
/// The names of the linear layers, of which the classifier is the last, and of the hidden ones' taps; the last of these is the penultimate
/// layer.
const LINEAR: [[&str; 2]; 4] = [["fc1", "hidden1"], ["fc2", "hidden2"], ["fc3", "hidden3"], ["fc4", ""]];
const MOST_CHANNELS: usize = 4096;
const WIDEST: usize = 16384;

/// What a name says.
struct Sizes {
    normalised: bool,
    /// Of each convolution.
    channels: Vec<usize>,
    /// Of each hidden linear layer.
    widths: Vec<usize>,
}

fn parse(sizes: &str) -> Option<Blueprint> {
    let (normalised, sizes) = sizes.strip_prefix("bn-").map_or((false, sizes), |sizes| (true, sizes));
    let parts: Vec<&str> = sizes.split('-').collect();
    let (convolutions, hidden) = parts.split_at(parts.iter().take_while(|part| !part.starts_with("fc")).count());
    let channels = convolutions.iter().map(|part| size(part, MOST_CHANNELS)).collect::<Option<Vec<_>>>()?;
    let widths = hidden.iter().map(|part| size(part.strip_prefix("fc")?, WIDEST)).collect::<Option<Vec<_>>>()?;
    if !(1..=BLOCKS.len()).contains(&channels.len()) || widths.len() >= LINEAR.len() {
        return None;
    }
    let smallest = 1 << channels.len();
    let sizes = Sizes { normalised, channels, widths };
    Some(Blueprint { smallest_input: [smallest; 2], build: Box::new(move |task, init| build(&sizes, task, init)) })
}

fn build(sizes: &Sizes, task: Task, init: &mut Init) -> Result<Sequential> {
    let [mut inputs, mut h, mut w] = task.input;
    let mut layers = Sequential::new();
    for (&channels, [conv, tap]) in sizes.channels.iter().zip(BLOCKS) {
        layers = match sizes.normalised {
            false => layers.then(conv, Conv2d::same(init, inputs, channels, 3, ConvThen::ReluPool)?),
            true => {
                let options = Conv2dOptions { padding: [1, 1], ..Conv2dOptions::default() };
                layers.then(conv, ConvNormRelu::new(init, inputs, channels, 3, options)?.pooled())
            }
        }
        .tap(tap);
        (inputs, h, w) = (channels, h / 2, w / 2);
    }
    layers = layers.then("flatten", Flatten);
    if sizes.widths.is_empty() {
        layers = layers.tap("penultimate");
    }
    inputs *= h * w;
    for (i, (&width, [name, tap])) in sizes.widths.iter().zip(LINEAR).enumerate() {
        let tap = if i + 1 == sizes.widths.len() { "penultimate" } else { tap };
        layers = layers.then(name, Linear::new(init, inputs, width)?.relu()).tap(tap);
        inputs = width;
    }
    let [classifier, _] = LINEAR[sizes.widths.len()];
    Ok(layers.then(classifier, Linear::new(init, inputs, task.classes)?).tap("logits"))
}

#[cfg(test)]
mod tests {
    use super::super::{tap_shapes, Model};
    use super::*;
    use crate::nn::Module;
    use crate::tensor::{Device, Rng};

    fn model(name: &str, input: [usize; 3]) -> Result<Model> {
        Model::new(name, Task { input, classes: 10 }, Rng::new(5, 1), Device::Cpu)
    }

    #[test]
    fn the_students_sizes_make_the_student() {
        let [family, student] = ["cnn-16-32-fc64", "student_net"].map(|name| model(name, [1, 28, 28]).unwrap());
        assert_eq!(family.parameter_count(), 105_866);
        assert_eq!(family.taps(), student.taps());
        let values = |model: &Model| -> Vec<(String, Vec<f32>)> {
            model.state().iter().map(|(name, tensor)| (name.clone(), tensor.to_vec().unwrap())).collect()
        };
        assert_eq!(values(&family), values(&student), "the same seed draws the same weights");
        let layers =
            |model: &Model| model.layers().layers().iter().map(|l| (l.name, l.module.describe())).collect::<Vec<_>>();
        assert_eq!(layers(&family), layers(&student));
    }

    #[test]
    fn sizes_come_from_the_name() {
        let shapes = |name: &str| -> Vec<(String, Vec<usize>)> {
            let taps = tap_shapes(name, Task { input: [3, 9, 12], classes: 7 }).unwrap();
            taps.into_iter().map(|tap| (tap.name, tap.shape)).collect()
        };
        let named =
            |taps: &[(&str, &[usize])]| taps.iter().map(|(n, s)| (n.to_string(), s.to_vec())).collect::<Vec<_>>();
        assert_eq!(shapes("cnn-5"), named(&[("block1", &[5, 4, 6]), ("penultimate", &[120]), ("logits", &[7])]));
        let deep = [
            ("block1", &[2, 4, 6][..]),
            ("block2", &[3, 2, 3]),
            ("block3", &[4, 1, 1]),
            ("hidden1", &[6]),
            ("penultimate", &[5]),
            ("logits", &[7]),
        ];
        assert_eq!(shapes("cnn-2-3-4-fc6-fc5"), named(&deep));
        assert_eq!(shapes("cnn-bn-2-3-4-fc6-fc5"), named(&deep), "normalised or not");
    }

    #[test]
    fn normalised_convolutions_have_statistics_instead_of_biases() {
        let state = model("cnn-bn-4-8-fc16", [1, 8, 8]).unwrap().state();
        let of_conv2: Vec<&str> = state.keys().filter_map(|name| name.strip_prefix("conv2.")).collect();
        assert_eq!(of_conv2, ["norm.bias", "norm.running_mean", "norm.running_var", "norm.weight", "weight"]);
    }

    #[test]
    fn images_must_survive_every_pool() {
        assert!(model("cnn-1-1-1-1-1", [1, 32, 32]).is_ok());
        let error = model("cnn-1-1-1-1-1", [1, 28, 28]).err().unwrap().to_string();
        assert!(error.contains("images of at least 32×32 pixels"), "{error}");
    }

    #[test]
    fn names_without_sense_are_refused() {
        let names = [
            "",
            "fc64",
            "bn-",
            "x",
            "0",
            "16-",
            "16-fc",
            "16-fc0",
            "16-fc8-16",
            "9999",
            "016",
            "1-1-1-1-1-1",
            "1-fc1-fc1-fc1-fc1",
        ];
        for name in names.map(|sizes| format!("cnn-{sizes}")) {
            let error = model(&name, [1, 28, 28]).err().expect(&name).to_string();
            assert!(error.contains("such as cnn-16-32-fc64"), "{error}");
        }
    }
}
