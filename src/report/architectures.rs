//! What the students of a search cost, and which accuracy that bought.

use super::chart::{LineChart, Mark, Series};
use super::plots::Plot;
use super::search::{SearchResult, Trial};
use super::table::thousands;
use serde::{Deserialize, Serialize};

/// What can be limited about an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Trainable values.
    Parameters,
    /// Floating-point operations for one image; a multiplication and an addition are two.
    Flops,
    /// The median time of a forward pass of one image on this machine, in milliseconds.
    LatencyMs,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Quantity; 3] = [Quantity::Parameters, Quantity::Flops, Quantity::LatencyMs];

    /// As `--budget` names it.
    pub fn name(self) -> &'static str {
        match self {
            Quantity::Parameters => "parameters",
            Quantity::Flops => "flops",
            Quantity::LatencyMs => "latency-ms",
        }
    }

    /// Over a table's column and along an axis.
    fn heading(self) -> &'static str {
        match self {
            Quantity::Parameters => "parameters",
            Quantity::Flops => "MFLOPs",
            Quantity::LatencyMs => "latency of one image, ms",
        }
    }

    /// A value in the unit of the heading.
    fn scaled(self, value: f64) -> f64 {
        match self {
            Quantity::Flops => value / 1e6,
            _ => value,
        }
    }

    /// A value as a table has it.
    fn cell(self, value: f64) -> String {
        match self {
            Quantity::Parameters => thousands(value),
            Quantity::Flops => format!("{:.3}", self.scaled(value)),
            Quantity::LatencyMs => format!("{value:.4}"),
        }
    }

    /// A value in a sentence: `18,220 parameters`.
    pub fn written(self, value: f64) -> String {
        let unit = match self {
            Quantity::Parameters => "parameters",
            Quantity::Flops => "MFLOPs an image",
            Quantity::LatencyMs => "ms an image",
        };
        format!("{} {unit}", self.cell(value))
    }
}

/// The most that a student may cost of something.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Of what.
    pub quantity: Quantity,
    /// How much.
    pub most: f64,
}

/// What an architecture costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArchitectureCost {
    /// The architecture.
    pub model: String,
    /// Trainable values.
    pub parameters: usize,
    /// Floating-point operations for one image; a multiplication and an addition are two.
    pub flops: f64,
    /// The median time of a forward pass of one image, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
}

impl ArchitectureCost {
    /// How much of something it costs; `None` if that was not measured.
    pub fn of(&self, quantity: Quantity) -> Option<f64> {
        match quantity {
            Quantity::Parameters => Some(self.parameters as f64),
            Quantity::Flops => Some(self.flops),
            Quantity::LatencyMs => self.latency_ms,
        }
    }

    /// All that is known of it: `18,220 parameters, 0.830 MFLOPs an image`.
    pub fn written(&self) -> String {
        let known = Quantity::ALL.into_iter().filter_map(|quantity| Some(quantity.written(self.of(quantity)?)));
        known.collect::<Vec<_>>().join(", ")
    }
}

/// Whether there is anything to say about costs: there is a budget, or trials have different architectures.
pub(super) fn matter(search: &SearchResult) -> bool {
    let mut models = search.trials.iter().filter_map(|trial| Some(&trial.cost.as_ref()?.model));
    let first = models.next();
    !search.budget.is_empty() || models.any(|model| Some(model) != first)
}

/// The quantities that some trial has a number for.
fn known(search: &SearchResult) -> Vec<Quantity> {
    let of_any = |quantity: &Quantity| search.trials.iter().any(|trial| cost(trial, *quantity).is_some());
    Quantity::ALL.into_iter().filter(of_any).collect()
}

fn cost(trial: &Trial, quantity: Quantity) -> Option<f64> {
    trial.cost.as_ref()?.of(quantity)
}

/// The headings of the columns about costs.
pub(super) fn columns(search: &SearchResult) -> Vec<String> {
    known(search).into_iter().map(|quantity| quantity.heading().to_string()).collect()
}

/// What stands below them for one trial.
pub(super) fn cells(search: &SearchResult, trial: &Trial) -> Vec<String> {
    let cell = |quantity: Quantity| cost(trial, quantity).map_or("–".to_string(), |value| quantity.cell(value));
    known(search).into_iter().map(cell).collect()
}

/// What the winner costs, and how much of the budget that is.
pub(super) fn remark(search: &SearchResult) -> String {
    let winner = search.trials.iter().find(|trial| trial.number == search.winner);
    let Some(spent) = winner.and_then(|trial| trial.cost.as_ref()) else { return String::new() };
    let share = |limit: &Limit| {
        let part = 100.0 * spent.of(limit.quantity)? / limit.most;
        Some(format!("{part:.0} % of the {} that it may have", limit.quantity.written(limit.most)))
    };
    let shares: Vec<String> = search.budget.iter().filter_map(share).collect();
    let used = if shares.is_empty() { String::new() } else { format!(": {}", shares.join(", ")) };
    let excluded = search.over_budget.as_ref().map_or(String::new(), |cost| {
        format!(" The settings as they come ({}: {}) are over the budget and took no part.", cost.model, cost.written())
    });
    format!("It is {}, {}{used}.{excluded}", spent.model, spent.written())
}

/// The trials that no other one beats: none is as good and cheaper, or better and as cheap. The cheapest first.
fn front(search: &SearchResult, quantity: Quantity) -> Vec<(f64, &Trial)> {
    let priced = search.trials.iter().filter_map(|trial| Some((cost(trial, quantity)?, trial)));
    let mut trials: Vec<(f64, &Trial)> = priced.filter(|(_, trial)| trial.accuracy().is_finite()).collect();
    trials.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.accuracy().total_cmp(&a.1.accuracy())));
    let mut best = f64::NEG_INFINITY;
    trials.retain(|(_, trial)| {
        let better = trial.accuracy() > best;
        best = best.max(trial.accuracy());
        better
    });
    trials
}

/// Accuracy against what the budget limits, or against parameters where nothing is limited.
pub(super) fn plots(search: &SearchResult) -> Vec<Plot> {
    if !matter(search) {
        return Vec::new();
    }
    match &search.budget[..] {
        [] => vec![plot(search, Quantity::Parameters)],
        limits => limits.iter().map(|limit| plot(search, limit.quantity)).collect(),
    }
}

fn plot(search: &SearchResult, quantity: Quantity) -> Plot {
    let place = |value: f64, trial: &Trial| (quantity.scaled(value), trial.accuracy());
    let front = front(search, quantity);
    let trials = search.trials.iter().filter_map(|trial| Some(place(cost(trial, quantity)?, trial))).collect();
    let on_front = front.iter().map(|(value, trial)| place(*value, trial)).collect();
    let chart = LineChart {
        title: "Validation accuracy by what the student costs",
        x_label: quantity.heading(),
        y_label: "validation accuracy, %",
        series: vec![
            Series { name: "trial".to_string(), points: trials, mark: Mark::Scatter },
            Series { name: "Pareto front".to_string(), points: on_front, mark: Mark::Dots },
        ],
        categorical_x: false,
        log_y: false,
    };
    let names =
        front.iter().filter_map(|(_, trial)| Some(format!("{} ({})", trial.number, trial.cost.as_ref()?.model)));
    let names = names.collect::<Vec<_>>().join(", ");
    Plot {
        name: format!("search-{}", quantity.name()),
        heading: format!("What accuracy costs in {}", quantity.name()),
        svg: chart.svg(),
        remark: format!(
            "Each trial after its longest training. Nothing was both cheaper and as good as trial {names}."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::search::Rung;
    use super::*;

    fn trial(number: usize, model: &str, parameters: usize, accuracy: f64) -> Trial {
        let cost = ArchitectureCost { model: model.to_string(), parameters, flops: 1.5e6, latency_ms: None };
        let rungs = vec![Rung { epochs: 3, accuracy }];
        Trial { number, rungs, cost: Some(cost), ..Trial::default() }
    }

    fn search() -> SearchResult {
        let trials = vec![
            trial(1, "a", 9_000, 90.0),
            trial(2, "b", 3_000, 80.0),
            trial(3, "c", 5_000, 79.0),
            trial(4, "d", 9_000, 88.0),
            trial(5, "e", 4_000, f64::NAN),
        ];
        SearchResult { winner: 1, trials, ..SearchResult::default() }
    }

    #[test]
    fn the_front_is_what_no_other_trial_beats() {
        let search = search();
        let numbers: Vec<usize> = front(&search, Quantity::Parameters).iter().map(|(_, trial)| trial.number).collect();
        assert_eq!(numbers, [2, 1]);
        let plots = plots(&search);
        assert_eq!(plots[0].name, "search-parameters");
        assert!(plots[0].remark.ends_with("as good as trial 2 (b), 1 (a)."), "{}", plots[0].remark);
    }

    #[test]
    fn the_winner_is_said_to_use_a_share_of_each_limit() {
        let limit = |quantity, most| Limit { quantity, most };
        let budget = vec![limit(Quantity::Parameters, 10_000.0), limit(Quantity::Flops, 2e6)];
        let over = ArchitectureCost { model: "z".to_string(), parameters: 20_000, flops: 2e6, latency_ms: Some(0.5) };
        let search = SearchResult { budget, over_budget: Some(over), ..search() };
        assert_eq!(
            remark(&search),
            "It is a, 9,000 parameters, 1.500 MFLOPs an image: 90 % of the 10,000 parameters that it may have, 75 % of the 2.000 \
             MFLOPs an image that it may have. The settings as they come (z: 20,000 parameters, 2.000 MFLOPs an image, 0.5000 ms an \
             image) are over the budget and took no part."
        );
        assert_eq!(columns(&search), ["parameters", "MFLOPs"], "latency was not measured");
        let drawn: Vec<String> = plots(&search).into_iter().map(|plot| plot.name).collect();
        assert_eq!(drawn, ["search-parameters", "search-flops"]);
    }

    #[test]
    fn costs_are_left_out_where_all_trials_have_the_same() {
        let mut search = search();
        assert!(matter(&search));
        search.trials.iter_mut().for_each(|trial| trial.cost.as_mut().unwrap().model = "a".to_string());
        assert!(!matter(&search) && plots(&search).is_empty());
    }
}
