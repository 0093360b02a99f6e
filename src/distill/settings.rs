//! Hyperparameters of a method or recipe with their values: checked against the registry, completed by its defaults.

use super::info::{Domain, Entry, Hyperparameter};
use super::Scheduled;
use crate::error::{Error, Result};
use crate::suggest::nearest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The value of a hyperparameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A word.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) => f.write_str(text),
        }
    }
}

/// The value of every hyperparameter of a method.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(BTreeMap<String, Value>);

impl Settings {
    /// The values that were given, and the defaults of the others.
    ///
    /// # Errors
    /// A name that the method does not know (the nearest is named), or a value out of its range.
    pub fn new<Build>(info: &Entry<Build>, given: &BTreeMap<String, Value>) -> Result<Settings> {
        let known: Vec<&str> = info.hyperparameters.iter().map(|h| h.name).collect();
        if let Some(unknown) = given.keys().find(|name| !known.contains(&name.as_str())) {
            let all = if known.is_empty() { "it has none".to_string() } else { format!("known: {}", known.join(", ")) };
            let hint = nearest(unknown, &known).map_or(all, |name| format!("did you mean `{name}`?"));
            return Err(Error::argument(info.name, format!("has no hyperparameter `{unknown}`; {hint}")));
        }
        let value = |h: &Hyperparameter| {
            let value = given.get(h.name).cloned().unwrap_or_else(|| h.domain.default());
            match h.domain.allows(&value) {
                true => Ok((h.name.to_string(), value)),
                false => {
                    let reason =
                        format!("must be {}, found {value}; the default is {}", h.range_text(), h.default_text());
                    Err(Error::argument(format!("{}: {}", info.name, h.name), reason))
                }
            }
        };
        info.hyperparameters.iter().map(value).collect::<Result<_>>().map(Settings)
    }

    /// Checks that what changes from epoch to epoch can do so in this many.
    ///
    /// # Errors
    /// See [`Scheduled::check_epochs`].
    pub fn check_epochs<Build>(&self, info: &Entry<Build>, epochs: usize) -> Result<()> {
        let scheduled = info.hyperparameters.iter().filter(|h| matches!(h.domain, Domain::Scheduled { .. }));
        let mut named = scheduled.map(|h| (format!("{}: {}", info.name, h.name), self.scheduled(h.name)));
        named.try_for_each(|(what, scheduled)| scheduled.check_epochs(&what, epochs))
    }

    /// A number that the method declares; 0 for one that it does not.
    pub fn number(&self, name: &str) -> f64 {
        match self.0.get(name) {
            Some(Value::Number(number)) => *number,
            _ => 0.0,
        }
    }

    /// A number that may change from epoch to epoch, which the method declares; 0 for one that it does not.
    pub fn scheduled(&self, name: &str) -> Scheduled {
        self.0.get(name).and_then(|value| Scheduled::try_from(value.clone()).ok()).unwrap_or(Scheduled::from(0.0))
    }

    /// A whole number that the method declares; 0 for one that it does not.
    pub fn count(&self, name: &str) -> usize {
        self.number(name) as usize
    }

    /// Whether a choice that the method declares fell on `word`.
    pub fn is(&self, name: &str, word: &str) -> bool {
        self.0.get(name).is_some_and(|value| *value == Value::Text(word.to_string()))
    }

    /// Names that the method declares, or the word that stands for none given.
    pub fn names(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => text.split('+').map(str::trim).collect(),
            _ => Vec::new(),
        }
    }

    /// Replaces a value, if the method declares it.
    pub fn set(&mut self, name: &str, value: Value) {
        if let Some(old) = self.0.get_mut(name) {
            *old = value;
        }
    }

    /// All values by name.
    pub fn values(&self) -> &BTreeMap<String, Value> {
        &self.0
    }
}

impl Domain {
    fn default(self) -> Value {
        match self {
            Domain::Above { default, .. } | Domain::Scheduled { default, .. } | Domain::Between { default, .. } => {
                Value::Number(default)
            }
            Domain::Count { default, .. } => Value::Number(default as f64),
            Domain::Choice(words) => Value::Text(words.first().map_or(String::new(), |word| word.to_string())),
            Domain::Names { default } => Value::Text(default.to_string()),
        }
    }

    fn allows(self, value: &Value) -> bool {
        match (self, value) {
            (Domain::Above { bound, .. }, Value::Number(x)) => *x > bound && x.is_finite(),
            (Domain::Scheduled { low, high, .. }, value) => Scheduled::try_from(value.clone())
                .is_ok_and(|scheduled| scheduled.ends().iter().all(|x| (low..=high).contains(x))),
            (Domain::Between { low, high, .. }, Value::Number(x)) => (low..=high).contains(x) && x.is_finite(),
            (Domain::Count { least, most, .. }, Value::Number(x)) => {
                (least as f64..=most as f64).contains(x) && x.fract() == 0.0
            }
            (Domain::Choice(words), Value::Text(word)) => words.contains(&word.as_str()),
            (Domain::Names { .. }, Value::Text(names)) => names.split('+').all(|name| !name.trim().is_empty()),
            _ => false,
        }
    }
}
