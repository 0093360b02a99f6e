//! Methods that compare each pair of feature maps by one function and train nothing of their own.

use super::method::plus;
use super::taps::TapPair;
use super::{Loss, Method, Setup, StepInputs};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The sum over pairs of `compare(student, teacher)`, as one term with the method's name.
pub(super) struct Pairwise<F> {
    name: &'static str,
    pairs: Vec<TapPair>,
    compare: F,
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static> Pairwise<F> {
    pub(super) fn boxed(name: &'static str, setup: &Setup, compare: F) -> Box<dyn Method> {
        Box::new(Pairwise { name, pairs: setup.pairs.clone(), compare })
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync> Method for Pairwise<F> {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let sum = sum_over(self.name, &self.pairs, |pair| {
            let (student, teacher) = inputs.features(pair)?;
            (self.compare)(student, teacher)
        })?;
        Ok(Loss::single(self.name, sum))
    }
}

/// The sum of a scalar over things that are compared.
///
/// # Errors
/// There is nothing to compare.
pub(super) fn sum_over<T>(
    method: &'static str,
    things: impl IntoIterator<Item = T>,
    term: impl Fn(T) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut sum = None;
    for thing in things {
        sum = Some(plus(sum, &term(thing)?)?);
    }
    sum.ok_or_else(|| Error::argument(method, "there is nothing to compare; name feature maps with student-taps"))
}
