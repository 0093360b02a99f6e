//! Who takes part in a leaderboard: methods, each with every setting of a grid, and what they are compared with.

use super::super::grid::{Axis, Target};
use super::super::methods::{split_assignments, BASELINE, HINTON, TEMPERATURE};
use super::super::session::StudentPlan;
use super::super::RunConfig;
use crate::distill::METHODS;
use crate::error::{Error, Result};
use crate::recipes::{find, Named, RECIPES};
use crate::report::Part;
use toml::Table;

/// A student to be trained once for each seed.
#[derive(Clone, Debug)]
pub(in super::super) struct Entrant {
    /// The methods, and what the grid set: `at+hinton`, `at@at.weight=100,lr=0.01`. It decides everything about the student but the
    /// seed, within a run.
    pub(in super::super) name: String,
    /// What the grid set that is not a matter of methods: `lr=0.01`.
    pub(super) training: String,
    /// What it is compared for.
    pub(super) part: Part,
    /// The run's configuration with this entrant's method and settings.
    pub(in super::super) config: RunConfig,
}

impl Entrant {
    /// How long a training of it should take beside others, by what the registry says of its methods and by its epochs.
    pub(super) fn cost(&self) -> f64 {
        let plan = StudentPlan::of(&self.config);
        // A configuration that is checked has a name.
        let name = plan.name().unwrap_or_default();
        // What is said of a recipe includes Hinton's term; whatever else is added to the loss adds to every step.
        let parts = name.split('+').filter(|part| plan.recipe.is_none() || *part != HINTON);
        let extra = |part| match find(part) {
            Ok(Named::Method(info)) => info.cost - 1.0,
            Ok(Named::Recipe(info)) => info.cost - 1.0,
            Err(_) => 0.0,
        };
        plan.epochs as f64 * (1.0 + parts.map(extra).sum::<f64>())
    }
}

/// Every method by name, for `--methods all`.
const ALL: &str = "all";

/// All entrants of a board, each once: labels alone and plain hinton first, then the methods in their order, with every setting of
/// the grid.
///
/// # Errors
/// A name or a setting that nobody knows.
pub(in super::super) fn entrants(config: &RunConfig) -> Result<Vec<Entrant>> {
    let axes = config.grid.iter().map(|axis| Axis::parse(axis)).collect::<Result<Vec<_>>>()?;
    let assignments = config.set.as_deref().map(split_assignments).transpose()?.unwrap_or_default();
    let names = names(config);
    let keys = assignments.iter().map(|(key, _)| key).chain(axes.iter().map(|axis| &axis.key));
    for (method, key) in keys.filter_map(|key| key.split_once('.')) {
        if !names.iter().any(|name| has_part(name, method)) {
            let reason = format!("`{method}.{key}` is set, but `{method}` is not among --methods {}", names.join(","));
            return Err(Error::argument("methods", reason));
        }
    }
    if let Some((key, _)) = assignments.iter().find(|(key, _)| !key.contains('.')) {
        return Err(Error::argument("set", format!("which method's `{key}` is meant? Write METHOD.{key}=VALUE")));
    }
    let training: Vec<&Axis> = axes.iter().filter(|axis| axis.target == Target::Training).collect();
    let mut all = Vec::new();
    for (name, part) in [(BASELINE, Part::Labels), (HINTON, Part::Hinton)] {
        all.extend(expand(config, Some(name), part, &training)?);
    }
    let every: Vec<&Axis> = axes.iter().collect();
    match config.methods {
        None => all.extend(expand(config, None, Part::Entrant, &every)?),
        Some(_) => {
            for name in &names {
                all.extend(expand(config, Some(name), Part::Entrant, &every)?);
            }
        }
    }
    let mut distinct: Vec<Entrant> = Vec::new();
    for entrant in all {
        if !distinct.iter().any(|known| known.config == entrant.config) {
            distinct.push(entrant);
        }
    }
    Ok(distinct)
}

/// Whether `at+hinton` has `at`.
fn has_part(name: &str, method: &str) -> bool {
    name.split('+').any(|part| part == method)
}

/// The names of the entrants, without a grid.
fn names(config: &RunConfig) -> Vec<String> {
    let listed = config.methods.as_deref().unwrap_or_default();
    let listed = listed.split(',').map(|name| name.split('+').map(str::trim).collect::<Vec<_>>().join("+"));
    let methods = METHODS.iter().map(|info| info.name);
    let everyone = || methods.clone().chain(RECIPES.iter().map(|info| info.name)).map(String::from).collect();
    listed.filter(|name| !name.is_empty()).flat_map(|name| if name == ALL { everyone() } else { vec![name] }).collect()
}

/// The configuration of one student: `methods` (`None` keeps those of the configuration) with what `--set` says of them, and with a
/// setting of some axes, which replaces that.
///
/// # Errors
/// A value out of its range.
pub(in super::super) fn with_setting(
    config: &RunConfig,
    methods: Option<&str>,
    point: &[(&Axis, &str)],
) -> Result<RunConfig> {
    let (hyperparameters, options): (Vec<_>, Vec<_>) =
        point.iter().partition(|(axis, _)| axis.target == Target::Hyperparameter);
    let mut set = config.set.as_deref().map(split_assignments).transpose()?.unwrap_or_default();
    set.retain(|(key, _)| {
        // Without a method's name before it, a key belongs to the only one.
        let own = |name| key.split_once('.').is_none_or(|(method, _)| has_part(name, method));
        methods.is_some_and(own) && !hyperparameters.iter().any(|(axis, _)| axis.key == *key)
    });
    set.extend(hyperparameters.iter().map(|(axis, value)| (axis.key.clone(), value.to_string())));
    let options = options.into_iter().map(|(axis, value)| axis.option(value)).collect::<Result<_>>()?;
    config.with_method(methods, &set, options)
}

/// The one student of a search: its methods, or `None` for those of the configuration.
///
/// # Errors
/// There are several.
pub(in super::super) fn only_entrant(config: &RunConfig) -> Result<Option<String>> {
    match &names(config)[..] {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => {
            let reason = format!("a search is for one student, found {}; + joins terms of one", several.join(", "));
            Err(Error::argument("methods", reason))
        }
    }
}

/// What the student of the configuration itself is called: its methods, if they are as they come.
fn configured(config: &RunConfig) -> Result<String> {
    let name = StudentPlan::of(config).name()?;
    let plain = config.with_method(Some(&name), &[], Table::new())?;
    match plain == config.with_method(None, &[], Table::new())? {
        true => Ok(name),
        false => Ok("configured".to_string()),
    }
}

/// One entrant for each setting of the axes that concern it.
fn expand(config: &RunConfig, methods: Option<&str>, part: Part, axes: &[&Axis]) -> Result<Vec<Entrant>> {
    let is_part = |method: &str| methods.is_some_and(|name| has_part(name, method));
    let has_temperature = |method| {
        let hyperparameters = match find(method) {
            Ok(Named::Method(info)) => info.hyperparameters,
            Ok(Named::Recipe(info)) => info.hyperparameters,
            Err(_) => &[],
        };
        hyperparameters.iter().any(|h| h.name == TEMPERATURE)
    };
    let concerns = |axis: &&&Axis| match axis.target {
        Target::Training => true,
        Target::Loss if axis.key == TEMPERATURE => methods.is_none_or(|name| name.split('+').any(has_temperature)),
        Target::Loss => methods != Some(BASELINE),
        Target::Hyperparameter => axis.key.split_once('.').is_some_and(|(method, _)| is_part(method)),
    };
    let axes: Vec<&Axis> = axes.iter().filter(concerns).copied().collect();
    let base = match methods {
        Some(name) => name.to_string(),
        None => configured(config)?,
    };
    let mut entrants = Vec::new();
    for point in Axis::product(&axes) {
        let written = |wanted: &dyn Fn(Target) -> bool| {
            let settings = point.iter().filter(|(axis, _)| wanted(axis.target));
            settings.map(|(axis, value)| format!("{}={value}", axis.key)).collect::<Vec<_>>().join(",")
        };
        let (settings, training) = (written(&|_| true), written(&|target| target == Target::Training));
        let name = if settings.is_empty() { base.clone() } else { format!("{base}@{settings}") };
        let config = with_setting(config, methods, &point)?;
        entrants.push(Entrant { name, training, part, config });
    }
    Ok(entrants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entrant_costs_what_the_registry_says_of_its_parts_and_its_epochs() {
        let board = "data = 'digits'\nmethods = 'dafl,at+hinton'\nepochs = 2".parse().unwrap();
        let entrants = entrants(&RunConfig::resolve(board, Table::new()).unwrap()).unwrap();
        let cost = |name: &str| entrants.iter().find(|entrant| entrant.name == name).unwrap().cost();
        let of = |name: &str| match find(name).unwrap() {
            Named::Method(info) => info.cost,
            Named::Recipe(info) => info.cost,
        };
        assert_eq!(cost(BASELINE), 2.0);
        assert_eq!(cost("dafl"), 2.0 * of("dafl"), "Hinton's term is the recipe's own");
        let both = 2.0 * (1.0 + (of("at") - 1.0) + (of(HINTON) - 1.0));
        assert!((cost("at+hinton") - both).abs() < 1e-9, "{} instead of {both}", cost("at+hinton"));
    }
}
