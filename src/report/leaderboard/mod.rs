//! A leaderboard: many methods, one teacher, the same seeds; who gained what, and whether that is more than chance.

mod plots;
mod table;

pub(super) use plots::all as plots;
pub use table::{leaderboard_csv, leaderboard_text};
pub(super) use table::{refusals, remarks, standings};

use super::statistics::{holm, mean, paired_t_test, standard_deviation};
use serde::{Deserialize, Serialize};

/// Students of many methods, best first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Leaderboard {
    /// How many seeds were asked for.
    pub seeds: usize,
    /// One for each entrant, sorted by mean accuracy of the last epoch.
    pub rows: Vec<Standing>,
    /// What could not be trained, and why.
    pub refused: Vec<Refusal>,
}

/// An entrant and its students.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The methods, and what a grid set: `at+hinton`, `at@at.weight=100`.
    pub name: String,
    /// How it was trained where a grid varies that (`lr=0.01`); entrants are compared with those trained alike.
    pub training: String,
    /// Its part in comparisons.
    pub part: Part,
    /// One for each seed.
    pub students: Vec<Score>,
    /// Mean test accuracy over seeds after each epoch, in percent.
    pub curve: Vec<f64>,
    /// Against labels alone; absent for labels alone.
    pub over_labels: Option<Gain>,
    /// Against plain hinton; absent for plain hinton.
    pub over_hinton: Option<Gain>,
    /// What a step costs; absent where it was not measured.
    pub cost: Option<Cost>,
}

/// What an entrant is compared for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Labels alone: what every method has to beat.
    Labels,
    /// Plain hinton: what every other method has to beat.
    Hinton,
    /// Any other.
    #[default]
    Entrant,
}

/// A student. Students of the same seed start from the same weights and see the same batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Its seed.
    pub seed: u64,
    /// Test accuracy after the last epoch, in percent.
    pub last: f64,
    /// The best test accuracy after any epoch, in percent.
    pub best: f64,
    /// Percent of test images on which it says what the teacher says.
    pub agreement: f64,
    /// Expected calibration error in percent.
    pub calibration_error: f64,
}

/// A difference of accuracies after the last epoch, over the seeds that both have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gain {
    /// The mean, in points.
    pub mean: f64,
    /// Its standard deviation over seeds; absent for one seed.
    pub sd: Option<f64>,
    /// Of the paired t-test; absent for one seed, and where all seeds differ alike.
    pub p: Option<f64>,
    /// The same, corrected for all comparisons of this kind on the board (Holm 1979).
    pub p_holm: Option<f64>,
}

/// What a training step costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Milliseconds.
    pub step_ms: f64,
    /// Relative to a step on labels alone.
    pub relative: f64,
    /// The most bytes of a step besides weights, optimiser, batch and the teacher's answers.
    pub peak_bytes: usize,
}

/// What could not be trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The entrant.
    pub name: String,
    /// Why, and what to do.
    pub reason: String,
}

impl Standing {
    /// One number of every student.
    pub fn values(&self, of: impl Fn(&Score) -> f64) -> Vec<f64> {
        self.students.iter().map(of).collect()
    }

    /// Mean accuracy after the last epoch, in percent.
    pub fn accuracy(&self) -> f64 {
        mean(&self.values(|student| student.last))
    }

    /// The difference to another entrant, student by student of the same seed; `None` if they have no seed in common.
    fn gain_over(&self, other: &Standing) -> Option<Gain> {
        let difference = |student: &Score| {
            other.students.iter().find(|rival| rival.seed == student.seed).map(|rival| student.last - rival.last)
        };
        let differences: Vec<f64> = self.students.iter().filter_map(difference).collect();
        (!differences.is_empty()).then(|| Gain {
            mean: mean(&differences),
            sd: standard_deviation(&differences),
            p: paired_t_test(&differences),
            p_holm: None,
        })
    }
}

impl Leaderboard {
    /// Compares entrants with labels alone and with plain hinton, corrects for the number of comparisons, and sorts.
    pub fn new(seeds: usize, mut rows: Vec<Standing>, refused: Vec<Refusal>) -> Leaderboard {
        let all = rows.clone();
        let rival = |row: &Standing, part: Part| {
            let other = all.iter().find(|other| other.part == part && other.training == row.training);
            other.filter(|_| row.part != part).and_then(|other| row.gain_over(other))
        };
        for row in &mut rows {
            row.over_labels = rival(row, Part::Labels);
            // Labels alone are compared with plain hinton the other way round already.
            row.over_hinton = (row.part != Part::Labels).then(|| rival(row, Part::Hinton)).flatten();
        }
        correct(rows.iter_mut().filter_map(|row| row.over_labels.as_mut()));
        correct(rows.iter_mut().filter_map(|row| row.over_hinton.as_mut()));
        rows.sort_by(|a, b| b.accuracy().total_cmp(&a.accuracy()));
        Leaderboard { seeds, rows, refused }
    }
}

/// Holm's correction of the p-values of a family of comparisons.
fn correct<'a>(gains: impl Iterator<Item = &'a mut Gain>) {
    let tested: Vec<&mut Gain> = gains.filter(|gain| gain.p.is_some()).collect();
    let p_values: Vec<f64> = tested.iter().filter_map(|gain| gain.p).collect();
    for (gain, corrected) in tested.into_iter().zip(holm(&p_values)) {
        gain.p_holm = Some(corrected);
    }
}

#[cfg(test)]
mod tests;
