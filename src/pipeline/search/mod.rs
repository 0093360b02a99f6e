//! A search for good settings of one student: random (Bergstra & Bengio 2012), or successive halving (Jamieson & Talwalkar 2016).
//!
//! Trials are judged by images that were taken out of the training images before anything was trained: neither the teacher nor any
//! student learns from them. The test set has no part in the choice; it is read once, at the end, for the winner.
//!
//! The first trial has the settings as they come, so that a search never ends below them unnoticed. All trials share one seed: initial
//! weights and batch order. Each is a job of its own, so a search can be stopped and resumed anywhere, and resumed with more trials.

mod space;

pub(super) use space::Dimension;

use super::clock::Clock;
use super::leaderboard::{only_entrant, with_setting};
use super::session::{Session, StudentPlan, Teacher};
use super::RunConfig;
use crate::error::{Error, Result};
use crate::report::{Rung, SearchResult, Trial};
use crate::tensor::Rng;
use crate::train::{evaluate, streams, JobResult};
use std::path::PathBuf;
use std::time::Instant;

/// Of each rung of successive halving, the best third goes on with three times the epochs.
const SURVIVING: usize = 3;
/// Draws of one trial before the space counts as used up.
const ATTEMPTS: usize = 50;
/// Strategies by name.
const STRATEGIES: [&str; 2] = ["random", "halving"];

/// Checks what a search needs to know before anything is trained.
///
/// # Errors
/// More than one student, an unknown key or strategy, no trials, or no images left on one side.
pub(super) fn validate(config: &RunConfig) -> Result<()> {
    let space = config.space.iter().map(|text| Dimension::parse(text)).collect::<Result<Vec<_>>>()?;
    let entrant = only_entrant(config)?;
    for method in space::methods_of(&space) {
        if !entrant.as_deref().is_some_and(|name| name.split('+').any(|part| part == method)) {
            return Err(Error::argument(
                "space",
                format!("`{method}` is searched but not used; name it with --method"),
            ));
        }
    }
    let strategy = config.strategy.as_deref().unwrap_or(STRATEGIES[0]);
    if !STRATEGIES.contains(&strategy) {
        return Err(Error::argument("strategy", format!("must be {}, found `{strategy}`", STRATEGIES.join(" or "))));
    }
    if config.trials == Some(0) {
        return Err(Error::argument("trials", "must be at least 1, found 0"));
    }
    if config.validation.is_some_and(|share| !(share > 0.0 && share < 1.0)) {
        return Err(Error::argument("validation", "must be a share between 0 and 1; 0.2 is usual"));
    }
    // Every value that can be drawn is checked when it is drawn; a first draw finds wrong names and kinds now.
    trials(config).map(drop)
}

/// One choice of settings.
struct Candidate {
    number: usize,
    settings: String,
    config: RunConfig,
}

/// The settings as they come, then draws; each once. Trial n is a function of the seed, the space and n.
fn trials(config: &RunConfig) -> Result<Vec<Candidate>> {
    let space = config.space.iter().map(|text| Dimension::parse(text)).collect::<Result<Vec<_>>>()?;
    let method = only_entrant(config)?;
    let mut trials: Vec<Candidate> = Vec::new();
    for number in 1..=config.trials.unwrap_or(1) {
        let mut random = Rng::new(config.seed, streams::SEARCH).derive(number as u64).sequence();
        for _ in 0..ATTEMPTS {
            let drawn = if number == 1 { Vec::new() } else { space::draw(&space, &mut random) };
            let point: Vec<_> = drawn.iter().map(|(axis, value)| (*axis, value.as_str())).collect();
            let candidate = with_setting(config, method.as_deref(), &point)?;
            if !trials.iter().any(|known| known.config == candidate) {
                let written = point.iter().map(|(axis, value)| format!("{}={value}", axis.key)).collect::<Vec<_>>();
                trials.push(Candidate { number, settings: written.join(" "), config: candidate });
                break;
            }
        }
    }
    Ok(trials)
}

/// How many trials are trained for how many epochs, one rung after the other.
fn rungs(strategy: &str, trials: usize, epochs: usize) -> Vec<(usize, usize)> {
    if strategy == "random" {
        return vec![(trials, epochs)];
    }
    let mut rungs = vec![(trials, epochs)];
    while rungs[0].0 > 0 && rungs[0].1 > 1 && SURVIVING.pow(rungs.len() as u32) <= trials {
        let shorter = rungs[0].1.div_ceil(SURVIVING);
        rungs.insert(0, (trials, shorter));
    }
    let mut left = trials;
    for rung in &mut rungs {
        rung.0 = left;
        left = left.div_ceil(SURVIVING);
    }
    rungs
}

/// Trains the trials that are missing, chooses, and writes the report.
///
/// # Errors
/// Ctrl-C, or something that is no setting's fault; a trial that cannot be trained is listed with its reason.
pub(super) fn run(session: &mut Session, teacher: &Teacher) -> Result<PathBuf> {
    let strategy = session.config.strategy.clone().unwrap_or_default();
    let candidates = trials(&session.config)?;
    let mut results: Vec<Trial> = candidates
        .iter()
        .map(|c| Trial { number: c.number, settings: c.settings.clone(), rungs: Vec::new(), failed: None })
        .collect();
    let rungs = rungs(&strategy, candidates.len(), session.config.epochs);
    let mut alive: Vec<usize> = (0..candidates.len()).collect();
    // A rung's trainings take as long as they have epochs.
    let mut clock = Clock::new(rungs.iter().map(|(count, epochs)| (count * epochs) as f64).sum());
    for (i, &(count, epochs)) in rungs.iter().enumerate() {
        alive.truncate(count);
        for &at in &alive {
            let candidate = &candidates[at];
            let (number, of, left) = (candidate.number, candidates.len(), clock.estimate());
            let settings =
                if candidate.settings.is_empty() { "the settings as they come" } else { &candidate.settings };
            let rung = format!("rung {} of {}", i + 1, rungs.len());
            session.progress.stage(&format!("trial {number} of {of} ({rung}): {settings}{left}"));
            let started = Instant::now();
            match train(session, teacher, candidate, epochs) {
                Ok((_, result)) => {
                    results[at].rungs.push(Rung { epochs: result.history.len(), accuracy: result.accuracy() })
                }
                Err(error @ (Error::Argument { .. } | Error::Shape { .. } | Error::NonFinite(_))) => {
                    session.progress.note(&format!("trial {number}: {error}"));
                    results[at].failed = Some(error.to_string());
                }
                Err(error) => return Err(error),
            }
            clock.tick(epochs as f64, started.elapsed());
        }
        alive.retain(|&at| results[at].failed.is_none());
        // The best first; of equally good ones the earlier trial.
        alive.sort_by(|&a, &b| results[b].accuracy().total_cmp(&results[a].accuracy()).then(a.cmp(&b)));
    }
    let winner =
        alive.first().ok_or_else(|| Error::argument("search", "no trial could be trained; see the reasons above"))?;
    let epochs = rungs.last().map_or(session.config.epochs, |rung| rung.1);
    let (model, _) = train(session, teacher, &candidates[*winner], epochs)?;
    let method = StudentPlan::of(&candidates[*winner].config).name()?;
    let test = session.sides.untouched.as_ref().ok_or_else(|| Error::argument("search", "has no validation images"))?;
    let judged = evaluate(&model, test, session.config.eval_batch_size, session.device)?;
    session.summary.search = Some(SearchResult {
        method,
        strategy,
        validation: session.sides.student.test.len(),
        given_teacher: session.config.teacher.is_some(),
        winner: candidates[*winner].number,
        test_accuracy: judged.accuracy(),
        trials: results,
    });
    session.write_report()
}

/// Trains one trial for so many epochs, or loads it.
fn train(
    session: &mut Session,
    teacher: &Teacher,
    candidate: &Candidate,
    epochs: usize,
) -> Result<(crate::models::Model, JobResult)> {
    // The epochs of a trial that searches them are shortened in proportion.
    let own = candidate.config.epochs * epochs;
    let epochs = own.div_ceil(session.config.epochs.max(1)).max(1);
    let job = format!("trial-{}-e{epochs}", candidate.number);
    session.with_config(&candidate.config, |session| {
        let plan = StudentPlan { epochs, ..session.student_plan() };
        session.student(&job, plan, teacher)
    })
}

#[cfg(test)]
mod tests {
    use super::rungs;

    #[test]
    fn halving_spends_few_epochs_on_many_and_many_on_few() {
        assert_eq!(rungs("random", 16, 9), [(16, 9)]);
        assert_eq!(rungs("halving", 9, 9), [(9, 1), (3, 3), (1, 9)]);
        assert_eq!(rungs("halving", 16, 60), [(16, 7), (6, 20), (2, 60)]);
        assert_eq!(rungs("halving", 2, 60), [(2, 60)], "too few to leave any out");
        assert_eq!(rungs("halving", 30, 2), [(30, 1), (10, 2)], "an epoch is the least");
    }
}
