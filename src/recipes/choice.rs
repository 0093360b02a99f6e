//! The recipe that a configuration chooses, with its hyperparameters.

use super::{find_recipe, Recipe, RecipeInfo};
use crate::distill::{Scheduled, Settings, Value};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A recipe as a configuration file has it (`[recipe]`): its name, and its hyperparameters by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RecipeConfig {
    /// The recipe's name.
    pub method: String,
    /// Hyperparameters; the recipe's defaults if absent.
    #[serde(flatten)]
    pub values: BTreeMap<String, Value>,
}

/// A recipe with every value known.
#[derive(Clone)]
pub struct RecipeChoice {
    /// The recipe.
    pub info: &'static RecipeInfo,
    /// Its hyperparameters.
    pub settings: Settings,
}

/// The hyperparameter that is also a key of the configuration: the temperature of Hinton's term.
pub const TEMPERATURE: &str = "temperature";

impl RecipeChoice {
    /// The recipe that a configuration describes.
    ///
    /// # Errors
    /// There is no such recipe, it has no such hyperparameter, or a value is out of range.
    pub fn from_config(config: &RecipeConfig) -> Result<RecipeChoice> {
        let info = find_recipe(&config.method)?;
        Ok(RecipeChoice { info, settings: Settings::new(info, &config.values)? })
    }

    /// The same recipe at another temperature, if it has one.
    pub fn at_temperature(mut self, temperature: Scheduled) -> RecipeChoice {
        self.settings.set(TEMPERATURE, temperature.into());
        self
    }

    /// The temperature of Hinton's term that the recipe asks for, if it does.
    pub fn temperature(&self) -> Option<Scheduled> {
        self.settings.values().contains_key(TEMPERATURE).then(|| self.settings.scheduled(TEMPERATURE))
    }

    /// The configuration with every value written out.
    pub fn to_config(&self) -> RecipeConfig {
        RecipeConfig { method: self.info.name.to_string(), values: self.settings.values().clone() }
    }

    /// The recipe, ready to run.
    ///
    /// # Errors
    /// Its hyperparameters do not fit one another.
    pub fn build(&self) -> Result<Box<dyn Recipe>> {
        (self.info.build)(&self.settings)
    }
}
