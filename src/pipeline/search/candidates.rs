//! Which settings are tried: drawn from the space, within the budget, each once. Trial n is a function of the seed, the space, the budget
//! and the trials before it.

use super::budget::Budget;
use super::prices::Prices;
use super::space::{self, Dimension, Values};
use crate::error::{Error, Result};
use crate::pipeline::leaderboard::{only_entrant, with_setting};
use crate::pipeline::RunConfig;
use crate::report::ArchitectureCost;
use crate::tensor::random::Sequence;
use crate::tensor::Rng;
use crate::train::streams;

/// Draws of one trial before the space counts as used up.
const ATTEMPTS: usize = 300;

/// One choice of settings.
pub(super) struct Candidate {
    pub(super) number: usize,
    /// What the space says.
    pub(super) values: Values,
    /// The same in words; empty for the settings as they come.
    pub(super) settings: String,
    pub(super) config: RunConfig,
    /// `None` if the student cannot be built, or was not looked at.
    pub(super) cost: Option<ArchitectureCost>,
}

/// Makes candidates.
pub(super) struct Sampler {
    config: RunConfig,
    /// The student's methods, or `None` for those of the configuration.
    pub(super) method: Option<String>,
    pub(super) space: Vec<Dimension>,
    pub(super) budget: Budget,
    /// `None` to draw without looking at costs.
    prices: Option<Prices>,
    /// What the settings as they come cost, if that is over the budget.
    pub(super) over_budget: Option<ArchitectureCost>,
    /// How many draws were over the budget, and the one that was least so.
    refused: (usize, Option<ArchitectureCost>),
}

impl Sampler {
    /// For the space and the budget of a search.
    ///
    /// # Errors
    /// One of them makes no sense, or there are several students.
    pub(super) fn new(config: &RunConfig, prices: Option<Prices>) -> Result<Sampler> {
        Ok(Sampler {
            config: config.clone(),
            method: only_entrant(config)?,
            space: config.space.iter().map(|text| Dimension::parse(text)).collect::<Result<_>>()?,
            budget: config.budget.as_deref().map(Budget::parse).transpose()?.unwrap_or_default(),
            prices,
            over_budget: None,
            refused: (0, None),
        })
    }

    /// The settings as they come, unless they are over the budget, then draws: `count` trials, or as many as there are.
    ///
    /// # Errors
    /// A value that is out of its range, or nothing is within the budget.
    pub(super) fn draw(&mut self, count: usize) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for number in 1..=count {
            candidates.extend(self.candidate(number, &candidates, space::draw)?);
            if let (true, (refused, Some(least))) = (candidates.is_empty(), &self.refused) {
                let reason = format!(
                    "none of {refused} draws from the space has at most {}; the smallest of them, {}, has {}: allow more, or \
                     give the space smaller sizes, as in --space student-model=cnn-2..16-fc8..64",
                    self.budget.written(),
                    least.model,
                    least.written()
                );
                return Err(Error::argument("budget", reason));
            }
        }
        Ok(candidates)
    }

    /// Trial `number`, unlike the known ones and within the budget, as `propose` draws it; `None` if it proposes no such.
    ///
    /// # Errors
    /// A value that is out of its range.
    pub(super) fn candidate(
        &mut self,
        number: usize,
        known: &[Candidate],
        propose: impl Fn(&[Dimension], &mut Sequence) -> Values,
    ) -> Result<Option<Candidate>> {
        let mut random = Rng::new(self.config.seed, streams::SEARCH).derive(number as u64).sequence();
        for attempt in 0..ATTEMPTS {
            let as_it_comes = number == 1 && attempt == 0;
            let values = if as_it_comes { vec![None; self.space.len()] } else { propose(&self.space, &mut random) };
            let changed = self.space.iter().zip(&values);
            let point: Vec<_> = changed.filter_map(|(d, value)| Some((&d.axis, value.as_deref()?))).collect();
            let settings =
                point.iter().map(|(axis, value)| format!("{}={value}", axis.key)).collect::<Vec<_>>().join(" ");
            let config = with_setting(&self.config, self.method.as_deref(), &point)?;
            if known.iter().any(|candidate| candidate.config == config) {
                continue;
            }
            let cost = match &mut self.prices {
                Some(prices) => prices.of(&config.student_model, &self.budget)?,
                None => None,
            };
            match cost {
                Some(cost) if self.budget.share(&cost) > 1.0 => self.refuse(cost, as_it_comes),
                cost => return Ok(Some(Candidate { number, values, settings, config, cost })),
            }
        }
        Ok(None)
    }

    fn refuse(&mut self, cost: ArchitectureCost, as_it_comes: bool) {
        if as_it_comes {
            self.over_budget = Some(cost.clone());
        }
        let (refused, least) = &mut self.refused;
        *refused += 1;
        if least.as_ref().is_none_or(|least| self.budget.share(&cost) < self.budget.share(least)) {
            *least = Some(cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Task;

    const TASK: Task = Task { input: [1, 28, 28], classes: 10 };

    fn sampler(budget: &str, model: &str) -> Sampler {
        let text = format!(
            "data = 'digits'\nbudget = '{budget}'\nstudent-model = '{model}'\n\
             space = ['student-model=cnn-2..16-4..32-fc8..64,mlp-4..32']"
        );
        let config = RunConfig::resolve(text.parse().unwrap(), toml::Table::new()).unwrap();
        Sampler::new(&config, Some(Prices::counted(TASK))).unwrap()
    }

    #[test]
    fn every_trial_is_within_the_budget_and_is_the_same_however_many_there_are() {
        let mut sampler = sampler("parameters=10k,flops=400k", "student_net");
        let (few, many) = (sampler.draw(3).unwrap(), sampler.draw(12).unwrap());
        assert_eq!(many.len(), 12);
        for candidate in &many {
            let cost = candidate.cost.as_ref().unwrap();
            assert!(cost.parameters <= 10_000 && cost.flops <= 4e5, "{cost:?}");
            assert_eq!(cost.model, candidate.config.student_model);
        }
        assert!(few.iter().zip(&many).all(|(a, b)| a.config == b.config));
        assert_eq!(sampler.over_budget.unwrap().model, "student_net");
        assert!(many[0].settings.starts_with("student-model="), "the first is a draw: {}", many[0].settings);
    }

    #[test]
    fn the_settings_as_they_come_take_part_if_they_are_within_the_budget() {
        let mut sampler = sampler("parameters=10k", "mlp-5");
        assert_eq!(sampler.draw(2).unwrap()[0].settings, "");
        assert_eq!(sampler.over_budget, None);
    }

    #[test]
    fn a_budget_that_nothing_fits_is_refused_with_the_smallest_that_was_seen() {
        let error = sampler("parameters=1500", "student_net").draw(4).err().unwrap().to_string();
        assert!(error.contains("none of 300 draws") && error.contains("at most 1,500 parameters"), "{error}");
        assert!(error.contains("the smallest of them, mlp-4, has 3,190 parameters"), "{error}");
    }
}
