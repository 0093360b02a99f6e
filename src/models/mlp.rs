//! Multilayer perceptrons of any widths: `mlp-20-20` has two hidden layers of 20 units with ReLU. Weights are Glorot-uniform and biases 0
//! (Glorot & Bengio 2010), as in the code of Lopez-Paz et al. 2016, whose experiment these networks are for.

use super::family::{size, Blueprint, Family};
use super::Task;
use crate::error::Result;
use crate::nn::{Flatten, Init, Linear, Sequential};

pub(super) const FAMILY: Family = Family {
    prefix: "mlp-",
    example: "mlp-20-20",
    about: "multilayer perceptron with ReLU",
    sizes: "1 to 8 widths of 1 to 16384 units",
    parse,
};

/// The names of the hidden layers, and of their taps: the last one is the penultimate layer.
const HIDDEN: [[&str; 2]; 8] = [
    ["fc1", "hidden1"],
    ["fc2", "hidden2"],
    ["fc3", "hidden3"],
    ["fc4", "hidden4"],
    ["fc5", "hidden5"],
    ["fc6", "hidden6"],
    ["fc7", "hidden7"],
    ["fc8", "hidden8"],
];
const WIDEST: usize = 16384;

fn parse(sizes: &str) -> Option<Blueprint> {
    let widths: Vec<usize> = sizes.split('-').map(|width| size(width, WIDEST)).collect::<Option<_>>()?;
    (widths.len() <= HIDDEN.len())
        .then(|| Blueprint { smallest_input: [1, 1], build: Box::new(move |task, init| build(&widths, task, init)) })
}

fn build(widths: &[usize], task: Task, init: &mut Init) -> Result<Sequential> {
    let mut layers = Sequential::new().then("flatten", Flatten);
    let mut inputs = task.input.iter().product();
    for (i, &width) in widths.iter().enumerate() {
        let [name, tap] = HIDDEN[i];
        let tap = if i + 1 == widths.len() { "penultimate" } else { tap };
        layers = layers.then(name, Linear::glorot(init, inputs, width)?.relu()).tap(tap);
        inputs = width;
    }
    Ok(layers.then("classifier", Linear::glorot(init, inputs, task.classes)?).tap("logits"))
}

#[cfg(test)]
mod tests {
    use super::super::{summarise, Model};
    use super::*;
    use crate::nn::Module;
    use crate::tensor::{Device, Rng};

    fn model(name: &str) -> Result<Model> {
        Model::new(name, Task { input: [1, 7, 7], classes: 10 }, Rng::new(0, 0), Device::Cpu)
    }

    #[test]
    fn widths_come_from_the_name() {
        let mlp = model("mlp-20-30").unwrap();
        assert_eq!(mlp.parameter_count(), 49 * 20 + 20 + 20 * 30 + 30 + 30 * 10 + 10);
        assert_eq!((mlp.name(), mlp.taps()), ("mlp-20-30", vec!["hidden1", "penultimate", "logits"]));
        assert_eq!(summarise(&mlp).unwrap().parameters, mlp.parameter_count());
    }

    #[test]
    fn weights_are_glorots_and_biases_zero() {
        let state = model("mlp-20-20").unwrap().state();
        let weight = state["fc1.weight"].to_vec::<f32>().unwrap();
        let bound = (6.0f32 / 69.0).sqrt();
        assert!(weight.iter().all(|w| w.abs() <= bound) && weight.iter().any(|w| w.abs() > 0.95 * bound));
        assert!(state["fc1.bias"].to_vec::<f32>().unwrap().iter().all(|b| *b == 0.0));
    }

    #[test]
    fn names_without_sense_are_refused() {
        for name in ["mlp-", "mlp-x", "mlp-0", "mlp-20-", "mlp-99999", "mlp-1-1-1-1-1-1-1-1-1"] {
            let error = model(name).err().expect(name).to_string();
            assert!(error.contains("such as mlp-20-20"), "{error}");
        }
    }
}
