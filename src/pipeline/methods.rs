//! From `--method` and `--set` to terms of a loss, and from a configuration to the plan of a training.

use crate::distill::{check_weight, find_method, Plan, Scheduled, Settings, Term, TermConfig, Value, FORMS};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use toml::Table;

const HINTON: &str = "hinton";
const BASELINE: &str = "hard-labels";
const TEMPERATURE: &str = "temperature";

/// `hard · cross-entropy + soft · Hinton's term + Σ terms`.
///
/// # Errors
/// A value is out of range, or nothing has a weight.
pub(super) fn plan(
    hard_weight: Scheduled,
    soft_weight: Scheduled,
    temperature: Scheduled,
    terms: &[TermConfig],
) -> Result<Plan> {
    check_weight("soft-weight", soft_weight)?;
    let settings = BTreeMap::from([(TEMPERATURE.to_string(), temperature.into())]);
    let hinton = find_method(HINTON)?;
    let soft = Term { weight: soft_weight, settings: Settings::new(hinton, &settings)?, ..Term::new(hinton) };
    let others = terms.iter().map(Term::from_config).collect::<Result<Vec<_>>>()?;
    Plan::new(hard_weight, [soft].into_iter().chain(others).collect())
}

/// Takes the shorthand `method` and `set` out of a configuration and returns the defaults that it stands for: the terms and the
/// weights beside them.
///
/// # Errors
/// An unknown method, a malformed assignment, or both a shorthand and `[[term]]`.
pub(super) fn take_choice(given: &mut Table) -> Result<Table> {
    let mut text = |key: &str| match given.remove(key) {
        None => Ok(None),
        Some(toml::Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Error::Config(format!("{key} must be a string, found {other}"))),
    };
    let (methods, assignments) = (text("method")?, text("set")?);
    let assignments = assignments.as_deref().map(split_assignments).transpose()?.unwrap_or_default();
    let Some(methods) = methods else {
        return match assignments.first() {
            None => Ok(Table::new()),
            Some((key, _)) => {
                Err(Error::argument("set", format!("`{key}` belongs to a method; name it with --method")))
            }
        };
    };
    if given.contains_key("term") {
        let reason = "is given besides [[term]]; leave one of them out, or write it as another [[term]]";
        return Err(Error::argument("method", reason));
    }
    let names: Vec<&str> = methods.split(',').map(str::trim).collect();
    let mut terms = names.iter().map(|name| default_term(name, given)).collect::<Result<Vec<_>>>()?;
    for (key, value) in assignments {
        let (method, key) = match (key.split_once('.'), &terms[..]) {
            (Some((method, key)), _) => (method.to_string(), key.to_string()),
            (None, [only]) => (only.method.clone(), key),
            (None, _) => {
                let reason = format!("which method's `{key}` is meant? Write METHOD.{key}=VALUE");
                return Err(Error::argument("set", reason));
            }
        };
        let term = terms.iter_mut().find(|term| term.method == method);
        let term = term.ok_or_else(|| Error::argument("set", format!("`{method}` is not among --method {methods}")))?;
        assign(term, &key, value)?;
    }
    terms.iter().try_for_each(|term| Term::from_config(term).map(drop))?;
    defaults(terms)
}

/// A method with its defaults, and the temperature that was asked for beside it, if it has one.
fn default_term(name: &str, given: &Table) -> Result<TermConfig> {
    let mut term = Term::new(find_method(name)?);
    if let Some(temperature) = given.get(TEMPERATURE) {
        term.settings.set(TEMPERATURE, value_of(temperature)?);
    }
    Ok(term.to_config())
}

/// A number or a schedule from a configuration.
fn value_of(given: &toml::Value) -> Result<Value> {
    let wrong =
        |_| Error::argument(TEMPERATURE, format!("must be a number or a schedule, found {given}; write {FORMS}"));
    given.clone().try_into::<Value>().map_err(wrong)
}

/// The configuration that terms stand for. Hinton's term and the labels have keys of their own.
fn defaults(terms: Vec<TermConfig>) -> Result<Table> {
    let mut table = Table::new();
    let mut scheduled = |key: &str, value: Scheduled| {
        table.insert(key.to_string(), toml::Value::try_from(value).expect("a number or a string"));
    };
    let leading = terms.iter().find(|term| ![HINTON, BASELINE].contains(&term.method.as_str())).or(terms.first());
    let soft = terms.iter().find(|term| term.method == HINTON);
    scheduled("soft-weight", soft.and_then(|term| term.weight).unwrap_or(0.0.into()));
    if let Some(temperature) = soft.and_then(|term| term.values.get(TEMPERATURE)) {
        scheduled(TEMPERATURE, temperature.clone().try_into()?);
    }
    if let Some(leading) = leading {
        scheduled("hard-weight", find_method(&leading.method)?.hard_weight.into());
    }
    let others = terms.iter().filter(|term| ![HINTON, BASELINE].contains(&term.method.as_str()));
    let others = others.map(|term| Table::try_from(term).expect("plain values").into()).collect();
    table.insert("term".to_string(), toml::Value::Array(others));
    Ok(table)
}

fn split_assignments(text: &str) -> Result<Vec<(String, String)>> {
    let one = |part: &str| match part.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
            Ok((key.trim().to_string(), value.trim().to_string()))
        }
        _ => Err(Error::argument("set", format!("`{part}` is not KEY=VALUE; an example: --set power=2,weight=500"))),
    };
    text.split(',').map(one).collect()
}

fn assign(term: &mut TermConfig, key: &str, value: String) -> Result<()> {
    let taps = |value: &str| value.split('+').map(|tap| tap.trim().to_string()).collect();
    match key {
        "weight" => term.weight = Some(Scheduled::parse(&value)?),
        "student-taps" => term.student_taps = taps(&value),
        "teacher-taps" => term.teacher_taps = taps(&value),
        _ => {
            let value = value.parse().map(Value::Number).unwrap_or(Value::Text(value));
            term.values.insert(key.to_string(), value);
        }
    }
    Ok(())
}
