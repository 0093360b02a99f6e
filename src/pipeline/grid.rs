//! Grids: `KEY=VALUE,VALUE,…` for any option of a student's training and any hyperparameter of a method.

use super::options::{Group, Kind, RunOption, OPTIONS};
use crate::error::{Error, Result};
use crate::suggest::nearest;
use toml::{Table, Value};

/// What a setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// How students are trained, with or without a teacher.
    Training,
    /// The weights and the temperature of a distillation.
    Loss,
    /// A method's own: `at.weight`.
    Hyperparameter,
}

/// One thing that is varied.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// An option's name, or `METHOD.KEY`.
    pub(super) key: String,
    /// As they were written.
    pub(super) values: Vec<String>,
    /// What it is about.
    pub(super) target: Target,
}

/// Options that are the same for all students of a run, although their group's others are not.
const FIXED: [&str; 5] = ["teacher-epochs", "eval-batch-size", "method", "methods", "set"];
/// Options of other groups that can be varied.
const VARIED: [&str; 7] = ["shift", "rotate", "crop", "flip", "cutout", "mixup", "student-model"];

impl Axis {
    /// Reads `KEY=VALUE,VALUE,…`.
    ///
    /// # Errors
    /// It is not of this form, the key is no option that students can differ in, or a value is of the wrong kind.
    pub(super) fn parse(text: &str) -> Result<Axis> {
        let (key, values) = text.split_once('=').unwrap_or((text, ""));
        let values: Vec<String> = values.split(',').map(|value| value.trim().to_string()).collect();
        if values.iter().any(String::is_empty) {
            let reason = format!("`{text}` is not KEY=VALUE,VALUE,…; an example: --grid temperature=1,2,4");
            return Err(Error::argument("grid", reason));
        }
        let key = key.trim().to_string();
        let target = match key.contains('.') {
            true => Target::Hyperparameter,
            false if varied(&key)?.group == Group::Distillation => Target::Loss,
            false => Target::Training,
        };
        let axis = Axis { key, values, target };
        if target != Target::Hyperparameter {
            axis.values.iter().try_for_each(|value| axis.option(value).map(drop))?;
        }
        Ok(axis)
    }

    /// The option that it varies, with one of the values.
    ///
    /// # Errors
    /// The value is of the wrong kind.
    pub(super) fn option(&self, value: &str) -> Result<(String, Value)> {
        let wrong =
            |expected: &str| Error::argument(format!("grid: {}", self.key), format!("`{value}` is not {expected}"));
        let value = match varied(&self.key)?.kind {
            Kind::Count => Value::Integer(value.parse::<u32>().map_err(|_| wrong("a whole number, 0 or more"))?.into()),
            Kind::Number => Value::Float(value.parse().map_err(|_| wrong("a number"))?),
            Kind::Switch => Value::Boolean(value.parse().map_err(|_| wrong("true or false"))?),
            _ => Value::String(value.to_string()),
        };
        Ok((self.key.clone(), value))
    }

    /// Every combination of one value of each axis; the last axis varies fastest.
    pub(super) fn product<'a>(axes: &[&'a Axis]) -> Vec<Vec<(&'a Axis, &'a str)>> {
        let mut points = vec![Vec::new()];
        for axis in axes {
            let with = |point: &Vec<(&'a Axis, &'a str)>| {
                let point = point.clone();
                axis.values.iter().map(move |value| [&point[..], &[(*axis, value.as_str())]].concat())
            };
            points = points.iter().flat_map(with).collect();
        }
        points
    }
}

/// A configuration's `grid` as a list of `KEY=VALUE,…`, from a list or from a table: `lr = [0.001, 0.003]`, `at.weight = [100, 1000]`.
///
/// # Errors
/// A key of the table has something else than a list of numbers or words.
pub(super) fn settle(given: &mut Table) -> Result<()> {
    let Some(Value::Table(table)) = given.get("grid") else { return Ok(()) };
    let mut axes = Vec::new();
    list("", table, &mut axes)?;
    given.insert("grid".to_string(), axes.into());
    Ok(())
}

fn list(prefix: &str, table: &Table, axes: &mut Vec<String>) -> Result<()> {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        let plain = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
            _ => Err(Error::argument("grid", format!("`{key}` needs a list of values, as in {key} = [1, 2, 4]"))),
        };
        match value {
            Value::Table(inner) => list(&format!("{key}."), inner, axes)?,
            Value::Array(values) => {
                let values = values.iter().map(plain).collect::<Result<Vec<_>>>()?;
                if let Some(value) = values.iter().find(|value| value.contains(',')) {
                    let reason = format!("`{key}`: a comma separates values, so that `{value}` cannot be one of them");
                    return Err(Error::argument("grid", reason));
                }
                axes.push(format!("{key}={}", values.join(",")));
            }
            single => axes.push(format!("{key}={}", plain(single)?)),
        }
    }
    Ok(())
}

/// The option of this name, if students can differ in it.
fn varied(name: &str) -> Result<&'static RunOption> {
    let fits = |option: &&RunOption| {
        let of_group = matches!(option.group, Group::Training | Group::Distillation) && !FIXED.contains(&option.name);
        of_group || VARIED.contains(&option.name)
    };
    let known: Vec<&'static RunOption> = OPTIONS.iter().filter(fits).collect();
    known.iter().find(|option| option.name == name).copied().ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|option| option.name).collect();
        let hint = nearest(name, &names).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
        let reason = format!("`{name}` cannot be varied; {hint}METHOD.KEY can, and {}", names.join(", "));
        Error::argument("grid", reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_the_same_as_a_list() {
        let text = "[grid]\nlr = [0.001, 0.003]\nat.weight = [100, 1000]\ntemperature = [\"4..1:cosine\", 2]";
        let mut given: Table = text.parse().unwrap();
        settle(&mut given).unwrap();
        let axes: Vec<&str> = given["grid"].as_array().unwrap().iter().map(|axis| axis.as_str().unwrap()).collect();
        let expected = ["lr=0.001,0.003", "at.weight=100,1000", "temperature=4..1:cosine,2"];
        assert!(axes.len() == 3 && expected.iter().all(|axis| axes.contains(axis)), "{axes:?}");
        let error = settle(&mut "[grid]\nlr = [[1]]".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("lr = [1, 2, 4]"), "{error}");
        let listed = "[grid]\nfitnet.student-taps = [\"block1,block2\", \"block2\"]";
        let error = settle(&mut listed.parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("fitnet.student-taps") && error.contains("`block1,block2` cannot be one"), "{error}");
    }

    #[test]
    fn axes_are_read_and_multiplied() {
        let axes = ["temperature=1,2", "at.weight= 5 , 6", "lr=0.1"].map(|text| Axis::parse(text).unwrap());
        assert_eq!(axes.each_ref().map(|axis| axis.target), [Target::Loss, Target::Hyperparameter, Target::Training]);
        let points = Axis::product(&axes.iter().collect::<Vec<_>>());
        let written: Vec<Vec<&str>> = points.iter().map(|point| point.iter().map(|p| p.1).collect()).collect();
        assert_eq!(written, [["1", "5", "0.1"], ["1", "6", "0.1"], ["2", "5", "0.1"], ["2", "6", "0.1"]]);
        assert_eq!(Axis::product(&[]), [[]], "no axes: one point");
        assert_eq!(axes[2].option("0.1").unwrap(), ("lr".to_string(), Value::Float(0.1)));
    }

    #[test]
    fn what_cannot_be_varied_is_refused() {
        for (text, reason) in [
            ("lr", "KEY=VALUE"),
            ("lr=1,,2", "KEY=VALUE"),
            ("lr=fast", "`fast` is not a number"),
            ("epochs=1.5", "whole number"),
            ("temprature=1", "did you mean `temperature`"),
            ("seed=1,2", "`seed` cannot be varied"),
            ("teacher-epochs=1", "cannot be varied"),
        ] {
            let error = Axis::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
