//! Every number of a run, resolved. Field names, configuration keys and command-line flags are the same words.

use crate::backend::open_device;
use crate::backend::precision::Precision;
use crate::compress::Compression;
use crate::data::{AugmentConfig, Classes, View};
use crate::distill::{Scheduled, Term, TermConfig};
use crate::error::{Error, Result};
use crate::optim::OptimizerConfig;
use crate::recipes::{RecipeChoice, RecipeConfig};
use crate::suggest::nearest;
use crate::tensor::Device;
use crate::train::Regime;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use toml::{Table, Value};

/// A run's configuration; see [`crate::pipeline::options`] for what each value means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each field is documented once, in `options`
pub struct RunConfig {
    pub data: String,
    pub data_dir: Option<PathBuf>,
    pub train_limit: usize,
    pub teacher_limit: usize,
    pub teacher_view: String,
    pub student_view: String,
    pub student_classes: String,
    pub normalize: bool,
    pub shift: f64,
    pub rotate: f64,
    pub crop: usize,
    pub flip: bool,
    pub cutout: usize,
    pub mixup: f64,
    pub curriculum: f64,

    pub teacher_model: String,
    pub student_model: String,
    pub teacher: Option<PathBuf>,

    pub epochs: usize,
    pub teacher_epochs: usize,
    pub batch_size: usize,
    pub eval_batch_size: usize,
    pub optimizer: String,
    pub lr: f64,
    pub momentum: f64,
    pub rmsprop_alpha: f64,
    pub weight_decay: f64,
    pub schedule: String,
    pub warmup_epochs: f64,
    pub clip_norm: Option<f64>,
    pub quantize: String,
    pub prune: String,

    pub temperature: Scheduled,
    pub hard_weight: Scheduled,
    pub soft_weight: Scheduled,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub term: Vec<TermConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<RecipeConfig>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grid: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub space: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trials: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub studies: Option<String>,

    pub sweep_temperatures: Vec<f64>,
    pub sweep_epochs: usize,
    pub ablation_weights: Vec<f64>,
    pub ablation_epochs: usize,
    pub soft_temperatures: Vec<f64>,

    pub seed: u64,
    pub seeds: usize,
    pub device: String,
    pub precision: String,
    pub threads: usize,
}

impl RunConfig {
    /// The notebook's values.
    fn notebook(data: &str) -> RunConfig {
        RunConfig {
            data: data.to_string(),
            data_dir: None,
            train_limit: 0,
            teacher_limit: 0,
            teacher_view: "identity".to_string(),
            student_view: "identity".to_string(),
            student_classes: "same".to_string(),
            normalize: false,
            shift: 0.0,
            rotate: 0.0,
            crop: 0,
            flip: false,
            cutout: 0,
            mixup: 0.0,
            curriculum: 0.0,
            teacher_model: "teacher_net".to_string(),
            student_model: "student_net".to_string(),
            teacher: None,
            epochs: 10,
            teacher_epochs: 10,
            batch_size: 128,
            eval_batch_size: 1000,
            optimizer: "adam".to_string(),
            lr: 1e-3,
            momentum: 0.9,
            rmsprop_alpha: 0.99,
            weight_decay: 0.0,
            schedule: "constant".to_string(),
            warmup_epochs: 0.0,
            clip_norm: None,
            quantize: String::new(),
            prune: String::new(),
            temperature: 3.0.into(),
            hard_weight: 0.5.into(),
            soft_weight: 0.5.into(),
            term: Vec::new(),
            methods: None,
            set: None,
            grid: Vec::new(),
            space: Vec::new(),
            budget: None,
            trials: None,
            strategy: None,
            validation: None,
            studies: None,
            recipe: None,
            sweep_temperatures: vec![1.0, 2.0, 3.0, 5.0, 10.0],
            sweep_epochs: 5,
            ablation_weights: vec![0.1, 0.3, 0.7, 0.9],
            ablation_epochs: 5,
            soft_temperatures: vec![1.0, 3.0, 10.0],
            seed: 0,
            seeds: 1,
            device: "cpu".to_string(),
            precision: "f32".to_string(),
            threads: 0,
        }
    }

    /// The defaults for a data set: the notebook's; for the embedded `digits` shorter, and with few labels for the students, which is
    /// where a teacher is worth something.
    pub fn defaults(data: &str) -> RunConfig {
        let notebook = RunConfig::notebook(data);
        match data {
            "digits" => RunConfig {
                train_limit: 2000,
                epochs: 60,
                teacher_epochs: 5,
                sweep_epochs: 20,
                ablation_epochs: 20,
                seeds: 3,
                ..notebook
            },
            _ => notebook,
        }
    }

    /// What to tell a user whose temperature nothing of the student has.
    pub(super) fn unheard_temperature(&self) -> Option<String> {
        let of_terms = self.term.iter().map(|term| &term.values).chain(self.recipe.iter().map(|recipe| &recipe.values));
        let heard =
            !self.soft_weight.is_zero() || of_terms.into_iter().any(|values| values.contains_key("temperature"));
        let usual = self.temperature == RunConfig::defaults(&self.data).temperature;
        (!heard && !usual && !self.is_leaderboard()).then(|| {
            let t = self.temperature;
            format!("temperature {t} changes nothing: no part of the student's loss has one; --soft-weight adds Hinton's term")
        })
    }

    /// What to tell a user whose student is trained for fewer epochs than a term takes to grow to its weight.
    pub(super) fn cut_warm_up(&self) -> Option<String> {
        const WARM_UP: &str = "warm-up-epochs";
        let longer = |term: &&TermConfig| match term.values.get(WARM_UP) {
            Some(&crate::distill::Value::Number(epochs)) => epochs > self.epochs as f64,
            _ => false,
        };
        let term = self.term.iter().find(longer).filter(|_| !self.is_leaderboard())?;
        let (method, epochs, fewer) = (&term.method, self.epochs, (self.epochs / 4).max(1));
        Some(format!("{method} grows to its full weight over more than the {epochs} epochs of this run: --set {method}.{WARM_UP}={fewer}"))
    }

    /// Defaults, then the configuration file, then the command line: the last one that names a value wins.
    ///
    /// # Errors
    /// An unknown key (names the nearest known one), a value of the wrong type, or one out of its range.
    pub fn resolve(file: Table, command_line: Table) -> Result<RunConfig> {
        let (mut given, mut command_line) = (file, command_line);
        super::grid::settle(&mut given)?;
        let several = super::methods::settle_entrants(&mut given, &mut command_line)?;
        let chosen = match command_line.contains_key("method") {
            false => {
                given.extend(command_line);
                if several {
                    Table::new()
                } else {
                    super::methods::take_choice(&mut given)?
                }
            }
            true => {
                let chosen = super::methods::take_choice(&mut command_line)?;
                for key in chosen.keys().map(String::as_str).chain(["method", "set", "term", "recipe"]) {
                    given.remove(key);
                }
                given.extend(command_line);
                chosen
            }
        };
        let data = given.get("data").and_then(Value::as_str).unwrap_or("digits");
        let mut table = Table::try_from(RunConfig::defaults(data)).expect("defaults are plain values");
        let options = super::options::OPTIONS.iter().map(|option| option.name);
        let known: Vec<&str> = options.chain(["term", "recipe"]).collect();
        if let Some(unknown) = given.keys().find(|key| !known.contains(&key.as_str())) {
            let hint = nearest(unknown, &known).map(|n| format!("did you mean `{n}`?"));
            let hint = hint.unwrap_or_else(|| format!("known keys: {}", known.join(", ")));
            return Err(Error::Config(format!("unknown key `{unknown}`; {hint}")));
        }
        if let Some(epochs) = given.get("epochs") {
            table.insert("teacher-epochs".to_string(), epochs.clone());
        }
        table.extend(chosen);
        table.extend(given);
        let table = table.into_iter().map(|(key, value)| (key.clone(), widen(&key, value))).collect::<Table>();
        let mut config: RunConfig =
            table.try_into().map_err(|e: toml::de::Error| Error::Config(e.to_string().trim().replace('\n', " ")))?;
        if config.is_search() {
            config.trials.get_or_insert(16);
            config.strategy.get_or_insert_with(|| "random".to_string());
            config.validation.get_or_insert(0.2);
        }
        for term in &mut config.term {
            super::methods::check_term(&term.method)?;
            *term = Term::from_config(term)?.to_config();
        }
        if let Some(recipe) = &mut config.recipe {
            *recipe = RecipeChoice::from_config(recipe)?.at_temperature(config.temperature).to_config();
        }
        config.validate()?;
        Ok(config)
    }

    /// The file form.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration is plain values")
    }

    /// Checks every range.
    fn validate(&self) -> Result<()> {
        let positive = [
            ("epochs", self.epochs),
            ("teacher-epochs", self.teacher_epochs),
            ("batch-size", self.batch_size),
            ("eval-batch-size", self.eval_batch_size),
            ("seeds", self.seeds),
            ("sweep-epochs", self.sweep_epochs),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Error::argument(*name, "must be at least 1, found 0"));
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(Error::argument("lr", format!("must be above 0, found {}; 0.001 is usual for adam", self.lr)));
        }
        for (name, value) in [("weight-decay", self.weight_decay), ("warmup-epochs", self.warmup_epochs)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::argument(name, format!("must be 0 or more, found {value}")));
            }
        }
        if !(0.0..=1.0).contains(&self.curriculum) {
            let reason = format!("is a share of the epochs, 0 to 1; found {}", self.curriculum);
            return Err(Error::argument("curriculum", reason));
        }
        for (name, value) in [("momentum", self.momentum), ("rmsprop-alpha", self.rmsprop_alpha)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::argument(name, format!("must be in [0, 1), found {value}")));
            }
        }
        if self.clip_norm.is_some_and(|norm| !(norm > 0.0 && norm.is_finite())) {
            return Err(Error::argument("clip-norm", "must be above 0"));
        }
        let plan = super::methods::plan(self.hard_weight, self.soft_weight, self.temperature, &self.term)?;
        plan.check_epochs(self.epochs)?;
        if let Some(recipe) = &self.recipe {
            let recipe = RecipeChoice::from_config(recipe)?;
            recipe.settings.check_epochs(recipe.info, self.epochs)?;
        }
        for &t in self.sweep_temperatures.iter().chain(&self.soft_temperatures) {
            super::methods::plan(1.0.into(), 1.0.into(), t.into(), &[])?;
        }
        for &weight in &self.ablation_weights {
            if !(0.0..=1.0).contains(&weight) {
                return Err(Error::argument("ablation-weights", format!("must be in [0, 1], found {weight}")));
            }
        }
        View::named(&self.teacher_view)?;
        View::named(&self.student_view)?;
        Classes::named(&self.student_classes)?;
        if self.methods.is_some() {
            let usual = RunConfig::defaults(&self.data);
            let weights = |c: &RunConfig| [c.temperature, c.hard_weight, c.soft_weight];
            let named =
                ["temperature", "hard-weight", "soft-weight"].into_iter().zip(weights(self)).zip(weights(&usual));
            if let Some(((key, found), _)) = named.into_iter().find(|((_, found), usual)| found != usual) {
                let reason = format!(
                    "is {found}, but with --methods each method has its own; set it for all with --grid {key}={found}"
                );
                return Err(Error::argument(key, reason));
            }
        }
        if self.is_leaderboard() {
            super::leaderboard::entrants(self)?;
        }
        if let Some(studies) = &self.studies {
            super::analysis::studies(studies)?;
        }
        if self.is_search() {
            super::search::validate(self)?;
        }
        crate::models::architecture(&self.teacher_model)?;
        crate::models::architecture(&self.student_model)?;
        self.optimizer_config()?;
        self.compression()?;
        self.regime(Vec::new())?.schedule(1, 1)?;
        self.precision()?.check(self.device()?)
    }

    /// Whether students of several methods or settings are trained, and compared on a leaderboard.
    pub fn is_leaderboard(&self) -> bool {
        !self.is_search() && (self.methods.is_some() || !self.grid.is_empty())
    }

    /// Whether settings are searched.
    pub fn is_search(&self) -> bool {
        !self.space.is_empty()
    }

    /// The configuration of one student: the same with another method (`at+hinton`; `None` keeps it), with hyperparameters
    /// (`at.weight`) and with other options.
    ///
    /// # Errors
    /// As [`RunConfig::resolve`].
    pub(super) fn with_method(
        &self,
        method: Option<&str>,
        hyperparameters: &[(String, String)],
        options: Table,
    ) -> Result<RunConfig> {
        let mut table = Table::try_from(self).expect("a configuration is plain values");
        for key in ["methods", "set", "grid", "space", "budget", "trials", "strategy", "validation", "studies"] {
            table.remove(key);
        }
        let mut asked = options;
        if let Some(method) = method {
            asked.insert("method".to_string(), method.replace('+', ",").into());
            let set: Vec<String> = hyperparameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
            if !set.is_empty() {
                asked.insert("set".to_string(), set.join(",").into());
            }
        }
        RunConfig::resolve(table, asked)
    }

    /// Random changes to training images.
    pub fn augmentation(&self) -> AugmentConfig {
        let RunConfig { shift, rotate, crop, flip, cutout, mixup, .. } = *self;
        AugmentConfig { shift, rotate, crop, flip, cutout, mixup }
    }

    /// The device to compute on.
    pub fn device(&self) -> Result<Device> {
        open_device(&self.device)
    }

    /// What the operands of products are rounded to.
    ///
    /// # Errors
    /// An unknown name.
    pub fn precision(&self) -> Result<Precision> {
        Precision::named(&self.precision)
    }

    /// The optimiser of every job.
    pub fn optimizer_config(&self) -> Result<OptimizerConfig> {
        let named = OptimizerConfig::named(&self.optimizer, self.momentum, self.weight_decay)?;
        Ok(match named {
            OptimizerConfig::RmsProp { eps, momentum, weight_decay, .. } => {
                OptimizerConfig::RmsProp { alpha: self.rmsprop_alpha, eps, momentum, weight_decay }
            }
            other => other,
        })
    }

    /// What is done to the students' weights while they are trained.
    ///
    /// # Errors
    /// An unknown quantisation or pruning, or two that do not go together.
    pub fn compression(&self) -> Result<Compression> {
        Compression::parse(&self.quantize, &self.prune)
    }

    /// How every network is trained, with images normalised by these moments of their channels.
    ///
    /// # Errors
    /// An unknown optimiser.
    pub fn regime(&self, normalisation: Vec<[f32; 2]>) -> Result<Regime> {
        Ok(Regime {
            batch_size: self.batch_size,
            eval_batch_size: self.eval_batch_size,
            augment: self.augmentation(),
            optimizer: self.optimizer_config()?,
            schedule: self.schedule.clone(),
            lr: self.lr,
            warmup_epochs: self.warmup_epochs,
            clip_norm: self.clip_norm,
            normalisation,
            curriculum: self.curriculum,
        })
    }
}

/// Whole numbers are fine where a fraction could stand.
fn widen(key: &str, value: Value) -> Value {
    use super::options::{Kind, OPTIONS};
    let kind = OPTIONS.iter().find(|option| option.name == key).map(|option| option.kind);
    match (kind, value) {
        (Some(Kind::Number), Value::Integer(n)) => Value::Float(n as f64),
        (Some(Kind::Numbers), Value::Array(list)) => {
            let widened = list.into_iter().map(|v| v.as_integer().map_or(v, |n| Value::Float(n as f64)));
            Value::Array(widened.collect())
        }
        (_, value) => value,
    }
}
