//! A small network that is trained to tell a student's outputs from its teacher's, in alternation with the student and by an optimiser of
//! its own.

use super::adversarial::{fooling, telling_apart};
use crate::error::Result;
use crate::nn::{Init, Parameter, Visitor};
use crate::optim::{Optimizer, OptimizerConfig};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Two linear layers with ReLU between them, on rows `[m, width]`, to one logit for each: "is the teacher's".
pub(super) struct Discriminator {
    parameters: Vec<(String, Parameter)>,
    optimizer: Mutex<Optimizer>,
    lr: f64,
    seen: Mutex<Option<[Tensor; 2]>>,
}

impl Discriminator {
    /// For rows of `width` numbers, with `hidden` numbers in between, trained by Adam at the rate `lr`.
    pub(super) fn new(init: &mut Init, width: usize, hidden: usize, lr: f64) -> Result<Discriminator> {
        let parameters = vec![
            ("hidden.weight".to_string(), init.kaiming_uniform([hidden, width], width)?),
            ("hidden.bias".to_string(), init.kaiming_uniform([hidden], width)?),
            ("output.weight".to_string(), init.kaiming_uniform([1, hidden], hidden)?),
            ("output.bias".to_string(), init.kaiming_uniform([1], hidden)?),
        ];
        let adam = OptimizerConfig::named("adam", 0.0, 0.0)?;
        Ok(Discriminator { parameters, optimizer: Mutex::new(Optimizer::new(adam)), lr, seen: Mutex::new(None) })
    }

    /// How well the student's rows pass for the teacher's, and the percentage of both that is told apart now. The discriminator is a constant
    /// here; both sides are kept for [`Discriminator::train`].
    pub(super) fn judge(&self, student: &Tensor, teacher: &Tensor) -> Result<(Tensor, Tensor)> {
        let frozen: Vec<Tensor> = self.parameters.iter().map(|(_, parameter)| parameter.get().detach()).collect();
        let teacher = teacher.detach();
        let (of_student, of_teacher) = (logits(student, &frozen)?, logits(&teacher, &frozen)?);
        let right = of_teacher.is_positive()?.mean_all()?.sub(&of_student.detach().is_positive()?.mean_all()?)?;
        *self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some([student.detach(), teacher]);
        Ok((fooling(&of_student)?, right.affine(50.0, 50.0)?))
    }

    /// One step on the rows that were judged last.
    pub(super) fn train(&self) -> Result<()> {
        let seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let Some([student, teacher]) = seen else { return Ok(()) };
        let values: Vec<Tensor> = self.parameters.iter().map(|(_, parameter)| parameter.get()).collect();
        let loss = telling_apart(&logits(&teacher, &values)?, &logits(&student, &values)?)?;
        let gradients = loss.backward()?;
        drop(values);
        self.optimizer().step(&self.parameters, &gradients, self.lr)
    }

    /// Shows its tensors as buffers: the student's optimiser must not have them.
    pub(super) fn visit(&self, visitor: &mut Visitor) {
        visitor.group("discriminator", |visitor| {
            self.parameters.iter().for_each(|(name, parameter)| visitor.buffer(name, parameter));
        });
    }

    /// The state of its optimiser.
    pub(super) fn optimizer_state(&self) -> BTreeMap<String, Tensor> {
        self.optimizer().state()
    }

    /// Takes it over.
    pub(super) fn load_optimizer_state(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.optimizer().load_state(state)
    }

    fn optimizer(&self) -> MutexGuard<'_, Optimizer> {
        self.optimizer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn logits(rows: &Tensor, parameters: &[Tensor]) -> Result<Tensor> {
    let [weight, bias, out_weight, out_bias] = parameters else { unreachable!("two layers") };
    rows.linear_relu(weight, Some(bias))?.linear(out_weight, Some(out_bias))
}
