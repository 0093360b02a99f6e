//! Losses of networks that learn from each other or from their own past. What drives them (several students, a moving average) is a
//! procedure; here are the formulas.
//!
//! Deep mutual learning (Zhang et al. 2018, eq. 6): `L_i = CE_i + T² · mean over j ≠ i of KL(p_j ‖ p_i)`, the partners as constants.
//! Mean teacher (Tarvainen & Valpola 2017, eq. 2): `teacher ← m · teacher + (1 − m) · student`, which teaches by Hinton's loss.

use super::cases::labelled_logits;
use super::math::soft_targets;
use super::pairwise::sum_over;
use crate::backend::params::HintonKd;
use crate::error::{Error, Result};
use crate::ops::case::{sample_extent, sample_labels, sample_normal};
use crate::ops::{Case, OpSpec};
use crate::tensor::Tensor;

/// The loss of each of two or more students that learn from one another.
///
/// # Errors
/// Fewer than two students, or shapes that differ.
pub fn mutual_learning(students: &[Tensor], labels: &Tensor, temperature: f64) -> Result<Vec<Tensor>> {
    if students.len() < 2 {
        return Err(Error::argument("dml", format!("{} student has no partner; train at least 2", students.len())));
    }
    let loss = |(i, student): (usize, &Tensor)| {
        let partners = students.iter().enumerate().filter(|(j, _)| *j != i);
        let sum = sum_over("dml", partners, |(_, partner)| soft_targets(student, &partner.detach(), temperature))?;
        student.cross_entropy(labels, 0.0)?.add(&sum.affine(1.0 / (students.len() - 1) as f64, 0.0)?)
    };
    students.iter().enumerate().map(loss).collect()
}

/// `momentum · teacher + (1 − momentum) · student`.
///
/// # Errors
/// The shapes differ.
pub fn moving_average(teacher: &Tensor, student: &Tensor, momentum: f64) -> Result<Tensor> {
    teacher.detach().affine(momentum, 0.0)?.add(&student.detach().affine(1.0 - momentum, 0.0)?)
}

/// The names of the outputs and inputs of up to this many students.
const STUDENTS: [(&str, &str); 4] =
    [("student0", "logits0"), ("student1", "logits1"), ("student2", "logits2"), ("student3", "logits3")];

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "dml",
        run: |case| {
            if !case.detached().is_empty() {
                case.require("detached", "partners")?;
            }
            let names = &STUDENTS[..case.count("students")?.min(STUDENTS.len())];
            let logits = names.iter().map(|(_, input)| case.tensor(input)).collect::<Result<Vec<_>>>()?;
            let losses = mutual_learning(&logits, &case.tensor("labels")?, case.number("temperature")?)?;
            let total = sum_over("dml", &losses, |loss| Ok(loss.clone()))?;
            let each = names.iter().zip(&losses).map(|((name, _), loss)| (*name, loss.detach()));
            Ok(each.chain([("total", total)]).collect())
        },
        sample: None, // Partners are constants to the gradient but not to a finite difference.
    },
    OpSpec {
        name: "ema_online",
        run: |case| {
            let p = HintonKd {
                temperature: case.number("temperature")?,
                hard_weight: case.number("hard_weight")?,
                soft_weight: case.number("soft_weight")?,
            };
            let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
            let loss = student.hinton_kd(&teacher, &case.tensor("labels")?, p)?;
            Ok(vec![("hard", loss.hard), ("soft", loss.soft), ("total", loss.total)])
        },
        sample: Some(|random| {
            labelled_logits(random).attr("temperature", 4.0).attr("hard_weight", 1.0).attr("soft_weight", 1.0)
        }),
    },
    OpSpec {
        name: "ema_update",
        run: |case| {
            let (teacher, student) = (case.tensor("teacher")?, case.tensor("student")?);
            Ok(vec![("teacher", moving_average(&teacher, &student, case.number("momentum")?)?)])
        },
        sample: None,
    },
    OpSpec {
        name: "dml_of_one_student",
        run: |case| {
            let partners = [case.tensor("logits")?, case.tensor("partner")?.detach()];
            let losses = mutual_learning(&partners, &case.tensor("labels")?, case.number("temperature")?)?;
            Ok(vec![("loss", losses[0].clone())])
        },
        sample: Some(|random| {
            let (n, classes) = (sample_extent(random, 1, 4), sample_extent(random, 2, 5));
            Case::new()
                .input("logits", sample_normal(random, &[n, classes]))
                .input("partner", sample_normal(random, &[n, classes]))
                .input("labels", sample_labels(random, &[n], classes))
                .attr("temperature", 3.0)
                .attr("detached", vec!["partner"])
        }),
    },
];
