//! A search for good settings of one student, its architecture included: random (Bergstra & Bengio 2012), successive halving (Jamieson &
//! Talwalkar 2016), or regularised evolution (Real et al. 2019).
//!
//! Trials are judged by images that were taken out of the training images before anything was trained: neither the teacher nor any
//! student learns from them. The test set has no part in the choice; it is read once, at the end, for the winner.
//!
//! The first trial has the settings as they come, so that a search never ends below them unnoticed; under a budget only if they are within
//! it: what is over the budget is drawn again and never trained. All trials share one seed: initial weights and batch order. Each is a job
//! of its own, so a search can be stopped and resumed anywhere, and resumed with more trials.

mod budget;
mod candidates;
mod evolution;
mod pattern;
mod prices;
mod space;

use candidates::{Candidate, Sampler};
use prices::Prices;

use super::clock::Clock;
use super::session::{Session, StudentPlan, Teacher};
use super::RunConfig;
use crate::error::{Error, Result};
use crate::models::{Model, Task};
use crate::report::{Rung, SearchResult, Trial};
use crate::train::{evaluate, JobResult};
use std::path::PathBuf;
use std::time::Instant;

/// Of each rung of successive halving, the best third goes on with three times the epochs.
const SURVIVING: usize = 3;
/// The strategy that trains most trials for few epochs.
const HALVING: &str = "halving";
/// The strategy whose trials are not all known before the first is trained.
const EVOLUTION: &str = "evolution";
/// Strategies by name.
const STRATEGIES: [&str; 3] = ["random", HALVING, EVOLUTION];

/// Checks what a search needs to know before anything is trained.
///
/// # Errors
/// More than one student, an unknown key or strategy, no trials, or no images left on one side.
pub(super) fn validate(config: &RunConfig) -> Result<()> {
    let mut sampler = Sampler::new(config, None)?;
    for method in space::methods_of(&sampler.space) {
        if !sampler.method.as_deref().is_some_and(|name| name.split('+').any(|part| part == method)) {
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
    sampler.draw(trials(config)).map(drop)
}

/// How many trials there are to be.
fn trials(config: &RunConfig) -> usize {
    config.trials.unwrap_or(1)
}

/// How many of them are drawn before anything is trained.
fn drawn_first(config: &RunConfig) -> usize {
    match config.strategy.as_deref() {
        Some(EVOLUTION) => trials(config).min(evolution::POPULATION),
        _ => trials(config),
    }
}

/// Refuses a budget of parameters or operations that nothing fits, before the run has a folder.
///
/// # Errors
/// There is no student for this task within the budget.
pub(super) fn check_budget(config: &RunConfig, task: Task) -> Result<()> {
    Sampler::new(config, Some(Prices::counted(task)))?.draw(drawn_first(config)).map(drop)
}

/// How many trials are trained for how many epochs, one rung after the other.
fn rungs(strategy: &str, trials: usize, epochs: usize) -> Vec<(usize, usize)> {
    let mut rungs = vec![(trials, epochs)];
    if strategy != HALVING {
        return rungs;
    }
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

/// A search under way.
pub(super) struct Search {
    strategy: String,
    /// How many there are to be.
    of: usize,
    sampler: Sampler,
    candidates: Vec<Candidate>,
    /// What came of each candidate.
    results: Vec<Trial>,
    clock: Clock,
}

impl Search {
    /// Draws what is drawn before anything is trained.
    ///
    /// # Errors
    /// Nothing is within the budget.
    pub(super) fn prepare(session: &mut Session) -> Result<Search> {
        let prices = Prices::measured(session.sides.student.task(), session.device, session.run.path())?;
        let mut sampler = Sampler::new(&session.config, Some(prices))?;
        let first = drawn_first(&session.config);
        let candidates = sampler.draw(first)?;
        if let Some(cost) = &sampler.over_budget {
            let note = format!("{} is over the budget: {}; the first trial is a draw", cost.model, cost.written());
            session.progress.note(&note);
        }
        let of = trials(&session.config) - (first - candidates.len());
        if candidates.len() < first {
            session.progress.note(&format!("{of} trials: the space has no more that differ and are within the budget"));
        }
        let strategy = session.config.strategy.clone().unwrap_or_default();
        let results = candidates.iter().map(untrained).collect();
        Ok(Search { strategy, of, sampler, candidates, results, clock: Clock::default() })
    }

    /// Trains the trials that are missing, chooses, and writes the report.
    ///
    /// # Errors
    /// Ctrl-C, or something that is no setting's fault; a trial that cannot be trained is listed with its reason.
    pub(super) fn run(mut self, session: &mut Session, teacher: &Teacher) -> Result<PathBuf> {
        let rungs = rungs(&self.strategy, self.of, session.config.epochs);
        // A rung's trainings take as long as they have epochs.
        self.clock = Clock::new(rungs.iter().map(|(count, epochs)| (count * epochs) as f64).sum());
        let mut alive: Vec<usize> = (0..self.candidates.len()).collect();
        for (i, &(count, epochs)) in rungs.iter().enumerate() {
            alive.truncate(count);
            let rung = if rungs.len() > 1 { format!(" (rung {} of {})", i + 1, rungs.len()) } else { String::new() };
            for &at in &alive {
                self.trial(session, teacher, at, epochs, &rung)?;
            }
            if self.strategy == EVOLUTION {
                self.evolve(session, teacher, epochs)?;
                alive = (0..self.candidates.len()).collect();
            }
            alive.retain(|&at| self.results[at].failed.is_none());
            // The best first; of equally good ones the earlier trial.
            let accuracy = |at: usize| self.results[at].accuracy();
            alive.sort_by(|&a, &b| accuracy(b).total_cmp(&accuracy(a)).then(a.cmp(&b)));
        }
        let winner = *alive
            .first()
            .ok_or_else(|| Error::argument("search", "no trial could be trained; see the reasons above"))?;
        let epochs = rungs.last().map_or(session.config.epochs, |rung| rung.1);
        self.conclude(session, teacher, winner, epochs)
    }

    /// The trials after the first population, each a child of those before it.
    fn evolve(&mut self, session: &mut Session, teacher: &Teacher, epochs: usize) -> Result<()> {
        for number in evolution::POPULATION + 1..=trials(&session.config) {
            let trained: Vec<_> = self.candidates.iter().zip(&self.results).collect();
            let propose = |space: &[_], random: &mut _| evolution::propose(&trained, space, random);
            let Some(child) = self.sampler.candidate(number, &self.candidates, propose)? else { continue };
            self.results.push(untrained(&child));
            self.candidates.push(child);
            self.trial(session, teacher, self.candidates.len() - 1, epochs, "")?;
        }
        Ok(())
    }

    /// Trains a candidate, or loads it, and notes what came of it.
    fn trial(&mut self, session: &mut Session, teacher: &Teacher, at: usize, epochs: usize, rung: &str) -> Result<()> {
        let candidate = &self.candidates[at];
        let (number, of, left) = (candidate.number, self.of, self.clock.estimate());
        let settings = if candidate.settings.is_empty() { "the settings as they come" } else { &candidate.settings };
        session.progress.stage(&format!("trial {number} of {of}{rung}: {settings}{left}"));
        let started = Instant::now();
        match train(session, teacher, candidate, epochs) {
            Ok((_, result)) => {
                let rung = Rung { epochs: result.history.len(), accuracy: result.accuracy() };
                self.results[at].rungs.push(rung);
            }
            Err(error @ (Error::Argument { .. } | Error::Shape { .. } | Error::NonFinite(_))) => {
                session.progress.note(&format!("trial {number}: {error}"));
                self.results[at].failed = Some(error.to_string());
            }
            Err(error) => return Err(error),
        }
        self.clock.tick(epochs as f64, started.elapsed());
        Ok(())
    }

    /// Judges the winner by the test set, and writes the report.
    fn conclude(self, session: &mut Session, teacher: &Teacher, winner: usize, epochs: usize) -> Result<PathBuf> {
        let winner = &self.candidates[winner];
        let (model, _) = train(session, teacher, winner, epochs)?;
        let method = StudentPlan::of(&winner.config).name()?;
        let test =
            session.sides.untouched.as_ref().ok_or_else(|| Error::argument("search", "has no validation images"))?;
        let judged = evaluate(&model, test, session.config.eval_batch_size, session.device)?;
        session.summary.search = Some(SearchResult {
            method,
            strategy: self.strategy,
            validation: session.sides.student.test.len(),
            given_teacher: session.config.teacher.is_some(),
            winner: winner.number,
            test_accuracy: judged.accuracy(),
            budget: self.sampler.budget.limits,
            over_budget: self.sampler.over_budget,
            trials: self.results,
        });
        session.write_report()
    }
}

/// A candidate's entry in the report before it is trained.
fn untrained(candidate: &Candidate) -> Trial {
    let Candidate { number, settings, cost, .. } = candidate;
    Trial { number: *number, settings: settings.clone(), cost: cost.clone(), ..Trial::default() }
}

/// Trains one trial for so many epochs, or loads it.
fn train(session: &mut Session, teacher: &Teacher, candidate: &Candidate, epochs: usize) -> Result<(Model, JobResult)> {
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
