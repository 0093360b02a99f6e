//! Soft targets: what the teacher says about a few test images at several temperatures.

use super::session::Session;
use crate::report::{Picture, SoftTarget};
use crate::train::Evaluation;

/// Images shown.
const SHOWN: usize = 4;

/// Shows the images that the teacher gets right but is least sure of: there the dark knowledge is visible.
pub(super) fn show(session: &mut Session, teacher: &Evaluation) {
    let confidence = |i: usize| teacher.probabilities(i, 1.0)[teacher.labels[i]];
    let correct = teacher.correct().enumerate().filter_map(|(i, correct)| correct.then_some(i));
    let mut unsure: Vec<usize> = correct.collect();
    unsure.sort_by(|&a, &b| confidence(a).total_cmp(&confidence(b)).then(a.cmp(&b)));
    // From quite unsure to quite sure.
    let step = (unsure.len() / SHOWN).max(1);
    let shown = (0..SHOWN).filter_map(|k| unsure.get((k * step) / 8).copied());
    let temperatures = &session.config.soft_temperatures;
    session.summary.soft_targets = shown
        .map(|i| SoftTarget {
            picture: Picture::of(&session.sides.teacher.test, i),
            label: teacher.labels[i],
            distributions: temperatures.iter().map(|&t| (t, teacher.probabilities(i, t))).collect(),
        })
        .collect();
}
