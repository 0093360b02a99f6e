//! What a student is to learn from: `hard_weight · cross-entropy + Σ weight · method`, as configuration says it, before any network is
//! known.

use super::info::MethodInfo;
use super::method::TwoStages;
use super::taps::{pair_taps, TapPair, TeacherFeature};
use super::{find_method, Scheduled, Settings, Value};
use crate::error::{Error, Result};
use crate::models::TapShape;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One term as a configuration file has it (`[[term]]`): the method, its weight, its taps, and its hyperparameters by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TermConfig {
    /// The method's name.
    pub method: String,
    /// What its loss is multiplied by; the method's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Scheduled>,
    /// The student's feature maps; the method's default if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub student_taps: Vec<String>,
    /// The teacher's feature maps, as many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teacher_taps: Vec<String>,
    /// Hyperparameters; the method's defaults if absent.
    #[serde(flatten)]
    pub values: BTreeMap<String, Value>,
}

/// One term of a loss, with every value known.
#[derive(Clone)]
pub struct Term {
    /// The method.
    pub info: &'static MethodInfo,
    /// What its loss is multiplied by.
    pub weight: Scheduled,
    /// Its hyperparameters.
    pub settings: Settings,
    /// The student's feature maps; the method's default if empty.
    pub student_taps: Vec<String>,
    /// The teacher's feature maps.
    pub teacher_taps: Vec<String>,
}

impl Term {
    /// A method with its defaults.
    pub fn new(info: &'static MethodInfo) -> Term {
        let settings = Settings::new(info, &BTreeMap::new()).unwrap_or_default();
        Term { info, weight: info.weight.into(), settings, student_taps: Vec::new(), teacher_taps: Vec::new() }
    }

    /// The term that a configuration describes.
    ///
    /// # Errors
    /// There is no such method, it has no such hyperparameter, or a value is out of range.
    pub fn from_config(config: &TermConfig) -> Result<Term> {
        let info = find_method(&config.method)?;
        let weight = config.weight.unwrap_or(info.weight.into());
        check_weight(&format!("{}: weight", info.name), weight)?;
        Ok(Term {
            info,
            weight,
            settings: Settings::new(info, &config.values)?,
            student_taps: config.student_taps.clone(),
            teacher_taps: config.teacher_taps.clone(),
        })
    }

    /// The configuration with every value written out.
    pub fn to_config(&self) -> TermConfig {
        TermConfig {
            method: self.info.name.to_string(),
            weight: Some(self.weight),
            student_taps: self.student_taps.clone(),
            teacher_taps: self.teacher_taps.clone(),
            values: self.settings.values().clone(),
        }
    }

    /// The feature maps that it compares in two networks.
    ///
    /// # Errors
    /// A network does not have them.
    pub fn pairs(&self, student: &[TapShape], teacher: &[TapShape]) -> Result<Vec<TapPair>> {
        let named = [&self.student_taps[..], &self.teacher_taps[..]];
        pair_taps(self.info.name, self.info.needs, student, teacher, named)
    }
}

/// A whole loss: the labels' cross-entropy and any number of terms.
#[derive(Clone)]
pub struct Plan {
    /// What the cross-entropy with the labels is multiplied by.
    pub hard_weight: Scheduled,
    /// What is added to it.
    pub terms: Vec<Term>,
}

impl Plan {
    /// Training on labels alone.
    pub fn labels() -> Plan {
        Plan { hard_weight: 1.0.into(), terms: Vec::new() }
    }

    /// Checks weights and drops terms that weigh nothing.
    ///
    /// # Errors
    /// A weight is out of range (see [`check_weight`]), or all are 0.
    pub fn new(hard_weight: impl Into<Scheduled>, mut terms: Vec<Term>) -> Result<Plan> {
        let hard_weight = hard_weight.into();
        check_weight("hard-weight", hard_weight)?;
        terms.retain(|term| !term.weight.is_zero());
        match hard_weight.is_zero() && terms.is_empty() {
            true => Err(Error::argument("hard-weight and soft-weight", "are both 0: nothing would be learned")),
            false => Ok(Plan { hard_weight, terms }),
        }
    }

    /// Checks that what changes from epoch to epoch can do so in this many.
    ///
    /// # Errors
    /// See [`Scheduled::check_epochs`].
    pub fn check_epochs(&self, epochs: usize) -> Result<()> {
        self.hard_weight.check_epochs("hard-weight", epochs)?;
        self.terms.iter().try_for_each(|term| {
            term.weight.check_epochs(&format!("{}: weight", term.info.name), epochs)?;
            TwoStages::check_epochs(&term.settings, term.info.name, epochs)?;
            term.settings.check_epochs(term.info, epochs)
        })
    }

    /// The methods' names, for reports: `at+hinton`.
    pub fn name(&self) -> String {
        match self.terms.is_empty() {
            true => "hard-labels".to_string(),
            false => self.terms.iter().map(|term| term.info.name).collect::<Vec<_>>().join("+"),
        }
    }

    /// Whether there must be a teacher.
    pub fn needs_teacher(&self) -> bool {
        self.terms.iter().any(|term| term.info.needs.teacher())
    }

    /// What is needed of the teacher's feature maps, each once.
    ///
    /// # Errors
    /// A network does not have what a method compares.
    pub fn teacher_features(&self, student: &[TapShape], teacher: &[TapShape]) -> Result<Vec<TeacherFeature>> {
        let mut features = Vec::new();
        for term in self.terms.iter().filter(|term| term.info.needs.teacher()) {
            for pair in term.pairs(student, teacher)? {
                let whole = || TeacherFeature::whole(&pair.teacher);
                let feature = term.info.needs.digest.map_or_else(whole, |digest| digest(&term.settings, &pair));
                if !features.contains(&feature) {
                    features.push(feature);
                }
            }
        }
        Ok(features)
    }

    /// The taps of the teacher that these are made from, each once.
    ///
    /// # Errors
    /// A network does not have what a method compares.
    pub fn teacher_taps(&self, student: &[TapShape], teacher: &[TapShape]) -> Result<Vec<String>> {
        let mut taps: Vec<String> = Vec::new();
        for TeacherFeature { tap, .. } in self.teacher_features(student, teacher)? {
            if !taps.contains(&tap) {
                taps.push(tap);
            }
        }
        Ok(taps)
    }
}

/// Far beyond every weight in use; the loss of a term times this is still a number in `f32`.
const LARGEST_WEIGHT: f64 = 1e9;

/// A weight is 0 or more and no larger than what `f32` can compute with, in every epoch.
pub fn check_weight(what: &str, weight: Scheduled) -> Result<()> {
    match weight.ends().iter().all(|end| (0.0..=LARGEST_WEIGHT).contains(end)) {
        true => Ok(()),
        false => Err(Error::argument(what, format!("must be 0 to {LARGEST_WEIGHT:e}, found {weight}"))),
    }
}
