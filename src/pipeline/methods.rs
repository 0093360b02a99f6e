//! From `--method` and `--set` to terms of a loss and a recipe, and from a configuration to the plan of a training.

use crate::distill::{
    check_weight, find_method, Hyperparameter, Plan, Scheduled, Settings, Term, TermConfig, Value, FORMS,
};
use crate::error::{Error, Result};
use crate::recipes::{find, find_recipe, Named, RecipeChoice, RecipeConfig};
use std::collections::BTreeMap;
use toml::Table;

pub(super) const HINTON: &str = "hinton";
pub(super) const BASELINE: &str = "hard-labels";
pub(super) const TEMPERATURE: &str = "temperature";

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

/// Takes the shorthand `method` and `set` out of a configuration and returns the defaults that it stands for: the terms, the recipe, and
/// the weights beside them. A table `[recipe]` stands for its defaults likewise.
///
/// # Errors
/// An unknown method or recipe, a method twice, two recipes, a malformed assignment, or both a shorthand and a table.
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
            None => defaults_of_tables(given),
            Some((key, _)) => {
                Err(Error::argument("set", format!("`{key}` belongs to a method; name it with --method")))
            }
        };
    };
    if let Some(table) = ["term", "recipe"].into_iter().find(|table| given.contains_key(*table)) {
        let both = if table == "term" { "[[term]]" } else { "[recipe]" };
        let reason = format!("is given besides {both}; leave one of them out, or write it as another table");
        return Err(Error::argument("method", reason));
    }
    let mut choice = Choice::default();
    for name in methods.split([',', '+']).map(str::trim) {
        match (find(name)?, &choice.recipe) {
            (Named::Method(info), _) if choice.terms.iter().any(|term| term.method == info.name) => {
                let reason = format!(
                    "names {0} twice; once is enough, --set {0}.weight=W makes more of it; for two with settings of their \
                     own write [[term]] tables in a --config file",
                    info.name
                );
                return Err(Error::argument("method", reason));
            }
            (Named::Method(_), _) => choice.terms.push(default_term(name, given)?),
            (Named::Recipe(info), None) => {
                choice.recipe = Some(RecipeConfig { method: info.name.to_string(), values: BTreeMap::new() });
            }
            (Named::Recipe(info), Some(other)) => {
                let reason = format!("{} and {} are both recipes; a student has one at most", other.method, info.name);
                return Err(Error::argument("method", reason));
            }
        }
    }
    for (key, value) in assignments {
        let (owner, key) = match key.split_once('.') {
            Some((owner, key)) => (owner.to_string(), key.to_string()),
            None => (choice.owner_of(&key)?, key),
        };
        choice.assign(&owner, &key, value, &methods)?;
    }
    choice.terms.iter().try_for_each(|term| Term::from_config(term).map(drop))?;
    choice.defaults()
}

/// What a `[recipe]` without `[[term]]` stands for.
fn defaults_of_tables(given: &Table) -> Result<Table> {
    let recipe = given.get("recipe").filter(|_| !given.contains_key("term")).cloned();
    let Some(recipe) = recipe else { return Ok(Table::new()) };
    let recipe = recipe
        .try_into()
        .map_err(|e: toml::de::Error| Error::Config(format!("recipe: {}", e.to_string().trim().replace('\n', " "))))?;
    Choice { terms: Vec::new(), recipe: Some(recipe) }.defaults()
}

/// What `--method` names.
#[derive(Default)]
struct Choice {
    terms: Vec<TermConfig>,
    recipe: Option<RecipeConfig>,
}

impl Choice {
    /// The only one of the methods and the recipe that `key` can belong to.
    fn owner_of(&self, key: &str) -> Result<String> {
        let mut names: Vec<&str> = self.terms.iter().map(|term| term.method.as_str()).collect();
        names.extend(self.recipe.iter().map(|recipe| recipe.method.as_str()));
        let knows = |name: &&&str| {
            let known = |hyperparameters: &[Hyperparameter]| hyperparameters.iter().any(|h| h.name == key);
            match find(name) {
                Ok(Named::Method(info)) => OF_ANY_TERM.contains(&key) || known(info.hyperparameters),
                Ok(Named::Recipe(info)) => known(info.hyperparameters),
                Err(_) => false,
            }
        };
        match (&names.iter().filter(knows).collect::<Vec<_>>()[..], &names[..]) {
            ([owner], _) => Ok(owner.to_string()),
            ([], [only]) => Ok(only.to_string()),
            _ => Err(Error::argument("set", format!("which method's `{key}` is meant? Write METHOD.{key}=VALUE"))),
        }
    }

    /// Gives a hyperparameter of one of the methods, or of the recipe, its value.
    fn assign(&mut self, owner: &str, key: &str, value: String, methods: &str) -> Result<()> {
        if let Some(recipe) = self.recipe.as_mut().filter(|recipe| recipe.method == owner) {
            recipe.values.insert(key.to_string(), number_or_text(value));
            return Ok(());
        }
        let term = self.terms.iter_mut().find(|term| term.method == owner);
        let term = term.ok_or_else(|| Error::argument("set", format!("`{owner}` is not among --method {methods}")))?;
        assign(term, key, value)
    }

    /// The configuration that the choice stands for. Hinton's term and the labels have keys of their own; a recipe without terms is
    /// one of Hinton's.
    fn defaults(&self) -> Result<Table> {
        let mut table = match (&self.recipe, self.terms.is_empty()) {
            (Some(recipe), true) => defaults_of_recipe(recipe)?,
            _ => defaults(&self.terms)?,
        };
        if let Some(recipe) = &self.recipe {
            let recipe = RecipeChoice::from_config(recipe)?.to_config();
            table.insert("recipe".to_string(), Table::try_from(recipe).expect("plain values").into());
        }
        Ok(table)
    }
}

/// The weights and the temperature that a recipe brings along.
fn defaults_of_recipe(recipe: &RecipeConfig) -> Result<Table> {
    let (info, choice) = (find_recipe(&recipe.method)?, RecipeChoice::from_config(recipe)?);
    let mut table = Table::new();
    insert(&mut table, "soft-weight", info.weight.into());
    insert(&mut table, "hard-weight", info.hard_weight.into());
    if let Some(temperature) = choice.temperature() {
        insert(&mut table, TEMPERATURE, temperature);
    }
    Ok(table)
}

/// Whether several methods are asked for (`methods`), each a student of its own. A single `method` with a `grid` or
/// a `space` is such a list of one.
/// What the command line chooses replaces what the file chooses.
///
/// # Errors
/// Both one and several are asked for, or a value that every method has of its own.
pub(super) fn settle_entrants(file: &mut Table, command_line: &mut Table) -> Result<bool> {
    const METHOD: &str = "method";
    const METHODS: &str = "methods";
    if command_line.contains_key(METHOD) {
        [METHOD, METHODS, "set", "term", "recipe"].iter().for_each(|key| drop(file.remove(*key)));
    }
    if command_line.contains_key(METHODS) {
        file.remove(METHOD);
    }
    let varied = ["grid", "space"].iter().any(|key| file.contains_key(*key) || command_line.contains_key(*key));
    for table in [&mut *file, &mut *command_line] {
        match (table.contains_key(METHOD), table.contains_key(METHODS)) {
            (true, true) => {
                return Err(Error::argument(METHODS, "is given besides method; leave one of them out"));
            }
            (true, false) if varied => {
                if let Some(toml::Value::String(method)) = table.remove(METHOD) {
                    table.insert(METHODS.to_string(), method.replace(',', "+").into());
                }
            }
            _ => {}
        }
    }
    let tables = [&*file, &*command_line];
    if !tables.iter().any(|table| table.contains_key(METHODS)) {
        return Ok(false);
    }
    if tables.iter().any(|table| table.contains_key("term") || table.contains_key("recipe")) {
        let reason = "is given besides [[term]] or [recipe]; leave that out; NAME+NAME is a student of several";
        return Err(Error::argument(METHODS, reason));
    }
    Ok(true)
}

/// A `[[term]]` must be a method.
pub(super) fn check_term(name: &str) -> Result<()> {
    if find_recipe(name).is_ok() {
        let reason = format!("`{name}` is a recipe, which arranges trainings, and no term of a loss; write it as [recipe] method = \"{name}\"");
        return Err(Error::argument("method", reason));
    }
    Ok(())
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

/// The configuration that terms stand for.
fn defaults(terms: &[TermConfig]) -> Result<Table> {
    let mut table = Table::new();
    let leading = terms.iter().find(|term| ![HINTON, BASELINE].contains(&term.method.as_str())).or(terms.first());
    let soft = terms.iter().find(|term| term.method == HINTON);
    insert(&mut table, "soft-weight", soft.and_then(|term| term.weight).unwrap_or(0.0.into()));
    if let Some(temperature) = soft.and_then(|term| term.values.get(TEMPERATURE)) {
        insert(&mut table, TEMPERATURE, temperature.clone().try_into()?);
    }
    if let Some(leading) = leading {
        insert(&mut table, "hard-weight", find_method(&leading.method)?.hard_weight.into());
    }
    let others = terms.iter().filter(|term| ![HINTON, BASELINE].contains(&term.method.as_str()));
    let others = others.map(|term| Table::try_from(term).expect("plain values").into()).collect();
    table.insert("term".to_string(), toml::Value::Array(others));
    Ok(table)
}

fn insert(table: &mut Table, key: &str, value: Scheduled) {
    table.insert(key.to_string(), toml::Value::try_from(value).expect("a number or a string"));
}

/// `KEY=VALUE,…` as keys and values.
pub(super) fn split_assignments(text: &str) -> Result<Vec<(String, String)>> {
    let one = |part: &str| match part.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
            Ok((key.trim().to_string(), value.trim().to_string()))
        }
        _ => Err(Error::argument("set", format!("`{part}` is not KEY=VALUE; an example: --set power=2,weight=500"))),
    };
    text.split(',').map(one).collect()
}

/// What every term has besides its hyperparameters.
const OF_ANY_TERM: [&str; 3] = ["weight", "student-taps", "teacher-taps"];

fn number_or_text(value: String) -> Value {
    value.parse().map(Value::Number).unwrap_or(Value::Text(value))
}

fn assign(term: &mut TermConfig, key: &str, value: String) -> Result<()> {
    let taps = |value: &str| value.split('+').map(|tap| tap.trim().to_string()).collect();
    match key {
        "weight" => term.weight = Some(Scheduled::parse_as(&format!("{}: weight", term.method), &value)?),
        "student-taps" => term.student_taps = taps(&value),
        "teacher-taps" => term.teacher_taps = taps(&value),
        _ => {
            term.values.insert(key.to_string(), number_or_text(value));
        }
    }
    Ok(())
}
