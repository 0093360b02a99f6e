//! A step of every method, outside any run: what `bench methods` times.

use super::leaderboard::entrants;
use super::session::{Session, Teacher};
use super::RunConfig;
use crate::error::{Error, Result};
use crate::folders::Scratch;
use crate::models::Model;
use crate::tensor::Rng;
use crate::train::{streams, Rehearsal, Silent};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Table;

/// What the steps are taken on.
#[derive(Clone, Debug, Default)]
pub struct Bench {
    /// Options as a configuration file has them: `data`, `batch-size`, `device`, …
    pub options: Table,
    /// Entrants as `--methods` has them; `all` is every method.
    pub methods: String,
}

/// Images at most; steps are timed on a few batches.
const IMAGES: i64 = 2000;

/// What is done with a method: its name, and its steps or why there are none.
type Visit<'a> = dyn FnMut(&str, Result<(&mut Rehearsal, &mut Rehearsal)>) -> Result<()> + 'a;

/// Hands `work` each method's name with steps on labels alone and steps of the method over the same batches, the teacher's answers at
/// hand; or the reason why the method cannot use the networks, or that a recipe's training is more than one kind of step. The teacher is
/// not trained: its answers cost the same.
///
/// # Errors
/// An unknown method or option, no data, or what `work` returns.
pub fn for_each_method(bench: &Bench, work: &mut Visit<'_>) -> Result<()> {
    let mut options = bench.options.clone();
    options.insert("methods".to_string(), bench.methods.clone().into());
    // A folder may have fewer.
    if !options.get("data").and_then(|data| data.as_str()).is_some_and(|data| Path::new(data).is_dir()) {
        options.entry("train-limit").or_insert(IMAGES.into());
    }
    let config = RunConfig::resolve(Table::new(), options)?;
    let folder = Scratch::new("kdengine-bench")?;
    let mut progress = Silent;
    let mut session = Session::open("bench", config, &folder.path().join("run"), false, &mut progress)?;
    let task = session.sides.student.task();
    let weights = Rng::new(session.config.seed, streams::WEIGHTS);
    let model = Model::new(&session.config.teacher_model, task, weights, session.device)?;
    let teacher = Teacher { model: Arc::new(model), result: None, file: PathBuf::new() };
    for entrant in entrants(&session.config)? {
        match session.check(&entrant.config) {
            Err(error @ (Error::Argument { .. } | Error::Shape { .. })) => work(&entrant.name, Err(error))?,
            Err(error) => return Err(error),
            Ok(()) => {
                let timed = session.with_config(&entrant.config, |session| {
                    session.rehearse(&teacher, |labels, method| work(&entrant.name, Ok((labels, method))))
                })?;
                if timed.is_none() {
                    let reason = "is several trainings, without one kind of step to time";
                    work(&entrant.name, Err(Error::argument(&entrant.name, reason)))?;
                }
            }
        }
    }
    Ok(())
}
