//! Numbers that may change from epoch to epoch: temperatures, and the weights of a loss's terms.
//!
//! Written as a number, or as `FROM..TO` with a shape after a colon: `4..1` (linear), `4..1:cosine` (half a cosine), `4..1:step` (FROM
//! for the first half of the epochs, TO for the second) or `0..1:step@5` (FROM for the first 5 epochs). The first epoch has FROM exactly and
//! the last one TO.

use super::Value;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::fmt;

/// A number for each epoch of a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Scheduled {
    from: f64,
    to: f64,
    shape: Shape,
}

/// The way from the first value to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Linear,
    Cosine,
    /// At once, after this many epochs, or after half of them.
    Step(Option<usize>),
}

/// How a schedule is written, for help and messages.
pub const FORMS: &str = "X, FROM..TO, FROM..TO:cosine, FROM..TO:step or FROM..TO:step@EPOCHS";

impl Scheduled {
    /// The value of epoch `epoch` (from 1) of `epochs`.
    pub fn at(self, epoch: usize, epochs: usize) -> f64 {
        let (done, last) = (epoch.saturating_sub(1) as f64, epochs.saturating_sub(1).max(1) as f64);
        let share = (done / last).min(1.0);
        let share = match self.shape {
            Shape::Linear => share,
            Shape::Cosine => (1.0 - (PI * share).cos()) / 2.0,
            Shape::Step(first) => f64::from(u8::from(epoch > first.unwrap_or(epochs.div_ceil(2)))),
        };
        match share {
            1.0 => self.to, // Without the rounding of the sum.
            _ => self.from + (self.to - self.from) * share,
        }
    }

    /// The first and the last value; every other one lies between them.
    pub fn ends(self) -> [f64; 2] {
        [self.from, self.to]
    }

    /// The largest value that it takes.
    pub fn largest(self) -> f64 {
        self.from.max(self.to)
    }

    /// Checks that it can take its course in so many epochs; `what` names it in the error.
    ///
    /// # Errors
    /// Its step comes after the last epoch, so that the second value would never be used.
    pub fn check_epochs(self, what: &str, epochs: usize) -> Result<()> {
        match self.shape {
            Shape::Step(first) if self.from != self.to && first.unwrap_or(epochs.div_ceil(2)) >= epochs => {
                let reason = format!(
                    "is {self}, but training ends after epoch {epochs}, so it would stay {}; take an earlier step, more \
                     --epochs, or one number",
                    self.from
                );
                Err(Error::argument(what, reason))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is 0 in every epoch.
    pub fn is_zero(self) -> bool {
        self.ends() == [0.0, 0.0]
    }

    /// Reads what is written as the module's documentation says.
    ///
    /// # Errors
    /// It is written otherwise.
    pub fn parse(text: &str) -> Result<Scheduled> {
        Scheduled::parse_as("schedule", text)
    }

    /// The same, of an argument with this name.
    ///
    /// # Errors
    /// It is written otherwise.
    pub fn parse_as(argument: &str, text: &str) -> Result<Scheduled> {
        let wrong = || Error::argument(argument, format!("`{text}` is no number or schedule; write {FORMS}"));
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|x| x.is_finite()).ok_or_else(wrong);
        let (values, shape) = text.split_once(':').unwrap_or((text, ""));
        let Some((from, to)) = values.split_once("..") else {
            return if shape.is_empty() { number(values).map(Scheduled::from) } else { Err(wrong()) };
        };
        let shape = match shape.split_once('@').unwrap_or((shape, "")) {
            ("" | "linear", "") => Shape::Linear,
            ("cosine", "") => Shape::Cosine,
            ("step", "") => Shape::Step(None),
            ("step", epochs) => Shape::Step(Some(epochs.parse().map_err(|_| wrong())?)),
            _ => return Err(wrong()),
        };
        Ok(Scheduled { from: number(from)?, to: number(to)?, shape })
    }
}

impl From<f64> for Scheduled {
    fn from(value: f64) -> Scheduled {
        Scheduled { from: value, to: value, shape: Shape::Linear }
    }
}

impl fmt::Display for Scheduled {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Scheduled { from, to, shape } = self;
        match shape {
            _ if from == to => write!(f, "{from}"),
            Shape::Linear => write!(f, "{from}..{to}"),
            Shape::Cosine => write!(f, "{from}..{to}:cosine"),
            Shape::Step(None) => write!(f, "{from}..{to}:step"),
            Shape::Step(Some(epochs)) => write!(f, "{from}..{to}:step@{epochs}"),
        }
    }
}

impl From<Scheduled> for Value {
    fn from(scheduled: Scheduled) -> Value {
        match scheduled.from == scheduled.to {
            true => Value::Number(scheduled.from),
            false => Value::Text(scheduled.to_string()),
        }
    }
}

impl TryFrom<Value> for Scheduled {
    type Error = Error;

    fn try_from(value: Value) -> Result<Scheduled> {
        match value {
            Value::Number(number) => Ok(number.into()),
            Value::Text(text) => Scheduled::parse(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, epochs: usize) -> Vec<f64> {
        let scheduled = Scheduled::parse(text).unwrap();
        assert_eq!(Scheduled::parse(&scheduled.to_string()).unwrap(), scheduled, "{text} survives being written");
        (1..=epochs).map(|epoch| scheduled.at(epoch, epochs)).collect()
    }

    #[test]
    fn a_schedule_goes_from_its_first_value_to_its_last() {
        assert_eq!(values("3", 2), [3.0, 3.0]);
        assert_eq!(values("4..1", 4), [4.0, 3.0, 2.0, 1.0]);
        assert_eq!(values("4..1:linear", 1), [4.0]);
        assert_eq!(values("0..1:step", 4), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(values("0.5..2:step@1", 3), [0.5, 2.0, 2.0]);
        let cosine = values("4..1:cosine", 5);
        assert_eq!((cosine[0], cosine[4]), (4.0, 1.0));
        assert!(
            (cosine[2] - 2.5).abs() < 1e-12 && cosine[1] > 3.25,
            "slow at first, half-way in the middle: {cosine:?}"
        );
    }

    #[test]
    fn a_step_after_the_last_epoch_is_refused() {
        let check = |text: &str, epochs| Scheduled::parse(text).unwrap().check_epochs("temperature", epochs);
        for (text, epochs) in [("4..1:step@99", 1), ("4..1:step@5", 5)] {
            let error = check(text, epochs).unwrap_err().to_string();
            assert!(error.contains(&format!("ends after epoch {epochs},")) && error.contains("stay 4"), "{error}");
        }
        for (text, epochs) in [("4..1:step@4", 5), ("4..4:step@99", 1), ("4..1:step", 2), ("4..1", 1), ("3", 1)] {
            check(text, epochs).unwrap();
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_forms_that_are() {
        for text in ["", "..", "4..", "4..x", "4..1:fast", "4:cosine", "4..1:step@x", "4..1:cosine@3", "inf..1"] {
            let error = Scheduled::parse(text).unwrap_err().to_string();
            assert!(error.contains("FROM..TO:step@EPOCHS"), "{text}: {error}");
        }
    }
}
