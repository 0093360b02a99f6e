//! Random inputs for the gradient checks of losses.

use crate::ops::case::{sample_away_from_zero, sample_extent, sample_labels, sample_normal};
use crate::ops::Case;
use crate::tensor::random::Sequence;

/// Logits of two networks, the teacher's detached.
pub(super) fn logits_pair(random: &mut Sequence) -> Case {
    let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 2, 6));
    Case::new()
        .input("student_logits", sample_normal(random, &[n, classes]))
        .input("teacher_logits", sample_normal(random, &[n, classes]))
        .attr("detached", vec!["teacher_logits"])
}

/// As [`logits_pair`], with labels.
pub(super) fn labelled_logits(random: &mut Sequence) -> Case {
    let case = logits_pair(random);
    let shape = *case.inputs()["student_logits"].shape();
    let labels = sample_labels(random, &[shape[0]], shape[1]);
    case.input("labels", labels)
}

/// Feature vectors of two networks with different widths, the teacher's detached.
pub(super) fn vectors(random: &mut Sequence) -> Case {
    let n = sample_extent(random, 2, 5);
    let widths = [sample_extent(random, 2, 5), sample_extent(random, 2, 5)];
    Case::new()
        .input("student", sample_normal(random, &[n, widths[0]]))
        .input("teacher", sample_normal(random, &[n, widths[1]]))
        .attr("detached", vec!["teacher"])
}

/// Feature vectors of two networks with the same width, the teacher's detached.
pub(super) fn equal_vectors(random: &mut Sequence) -> Case {
    let dims = [sample_extent(random, 2, 4), sample_extent(random, 2, 5)];
    let (student, teacher) = (sample_normal(random, &dims), sample_normal(random, &dims));
    Case::new().input("student", student).input("teacher", teacher).attr("detached", vec!["teacher"])
}

/// Feature maps of two networks, away from 0, with channels `c` and side `side` each; the teacher's detached.
pub(super) fn maps(random: &mut Sequence, c: [usize; 2], side: [usize; 2]) -> Case {
    let n = sample_extent(random, 1, 3);
    Case::new()
        .input("student", sample_away_from_zero(random, &[n, c[0], side[0], side[0]], 0.1))
        .input("teacher", sample_away_from_zero(random, &[n, c[1], side[1], side[1]], 0.1))
        .attr("detached", vec!["teacher"])
}

/// A positive number for a hyperparameter.
pub(super) fn positive(random: &mut Sequence) -> f64 {
    f64::from(random.uniform_in(0.5, 4.0))
}
