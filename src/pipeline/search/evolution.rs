//! Regularised evolution (Real et al. 2019, "Regularized evolution for image classifier architecture search"): the best of a few living
//! trials has a child that differs from it in one thing, and with each child the oldest trial dies, however good it was.

use super::candidates::Candidate;
use super::space::{self, Dimension, Values};
use crate::report::Trial;
use crate::tensor::random::Sequence;

/// The trials that live: the latest ones. So many are drawn from the space before the first child.
pub(super) const POPULATION: usize = 8;
/// Those of them that compete to be a parent.
const TOURNAMENT: usize = 3;

/// What the next trial is: a child, or a draw while nothing lives.
pub(super) fn propose(trained: &[(&Candidate, &Trial)], space: &[Dimension], random: &mut Sequence) -> Values {
    match parent(trained, random) {
        Some(parent) => space::mutate(space, &parent.values, random),
        None => space::draw(space, random),
    }
}

/// The best of a few that live; of equally good ones the younger.
fn parent<'a>(trained: &[(&'a Candidate, &Trial)], random: &mut Sequence) -> Option<&'a Candidate> {
    let living: Vec<_> = trained.iter().filter(|(_, trial)| trial.accuracy().is_finite()).collect();
    let living = &living[living.len().saturating_sub(POPULATION)..];
    if living.is_empty() {
        return None;
    }
    let competing = (0..TOURNAMENT).map(|_| living[random.below(living.len() as u32) as usize]);
    let merit = |(_, trial): &&(&Candidate, &Trial)| (trial.accuracy(), trial.number);
    let best = competing.max_by(|a, b| {
        let ((a, a_number), (b, b_number)) = (merit(a), merit(b));
        a.total_cmp(&b).then(a_number.cmp(&b_number))
    });
    best.map(|(candidate, _)| *candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::RunConfig;
    use crate::report::Rung;
    use crate::tensor::Rng;

    /// Parents of many children of trials with these accuracies; a trial without one could not be trained.
    fn parents(accuracies: &[Option<f64>]) -> Vec<usize> {
        let candidate = |number| Candidate {
            number,
            values: vec![None],
            settings: String::new(),
            config: RunConfig::defaults("digits"),
            cost: None,
        };
        let candidates: Vec<Candidate> = (1..=accuracies.len()).map(candidate).collect();
        let trial = |(i, accuracy): (usize, &Option<f64>)| Trial {
            number: i + 1,
            rungs: accuracy.iter().map(|&accuracy| Rung { epochs: 1, accuracy }).collect(),
            ..Trial::default()
        };
        let trials: Vec<Trial> = accuracies.iter().enumerate().map(trial).collect();
        let trained: Vec<_> = candidates.iter().zip(&trials).collect();
        let mut random = Rng::new(3, 1).sequence();
        (0..400).filter_map(|_| parent(&trained, &mut random)).map(|candidate| candidate.number).collect()
    }

    #[test]
    fn the_better_has_more_children_and_the_worst_hardly_any() {
        let parents = parents(&[10.0, 20.0, 30.0, 40.0].map(Some));
        let of = |number| parents.iter().filter(|parent| **parent == number).count();
        assert!(of(4) > of(3) && of(3) > of(2) && of(2) > of(1), "{parents:?}");
        assert!(of(1) < 20, "the worst is a parent only if it is drawn three times");
    }

    #[test]
    fn the_oldest_dies_however_good_it_was_and_what_failed_never_lived() {
        let mut accuracies = vec![Some(99.0), None];
        accuracies.extend([Some(50.0); POPULATION]);
        let parents = parents(&accuracies);
        assert!(parents.len() == 400 && parents.iter().all(|number| *number > 2), "{parents:?}");
    }

    #[test]
    fn without_parents_there_are_no_children() {
        assert_eq!(parents(&[None, None]), [0; 0]);
    }
}
