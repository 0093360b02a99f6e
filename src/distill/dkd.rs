//! Zhao et al., "Decoupled Knowledge Distillation", 2022: Hinton's divergence splits into one between the probabilities of target and
//! non-target (TCKD) and one among the non-target classes (NCKD), which Hinton's loss weighs by the teacher's doubt. Weighed freely (eq. 7):
//! `L = T² · [α · KL(b_t ‖ b_s) + β · KL(q_t ‖ q_s)]`, with `b = (p_y, 1 − p_y)` and `q` the softmax over the classes other than y, all
//! at temperature T.

use super::cases::{labelled_logits, positive};
use super::info::{Family, Hyperparameter, MethodInfo, Needs, NON_NEGATIVE};
use super::math::one_hot;
use super::method::times;
use super::{Loss, Method, Scheduled, StepInputs};
use crate::error::{Error, Result};
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "dkd",
    paper: "Zhao et al. 2022",
    family: Family::Response,
    about: "Hinton's divergence, its target and non-target parts weighed apart",
    formula: "T² · [α · KL(b_t ‖ b_s) + β · KL(q_t ‖ q_s)], b = (p_y, 1 − p_y), q = softmax over the other classes",
    needs: Needs::LOGITS_AND_LABELS,
    weight: 1.0,
    hard_weight: 1.0,
    cost: 1.2,
    when: "When the teacher is sure of its answers: hinton then hears little of the wrong classes, dkd still does.",
    traps: &[
        "β is large (1 to 8) and the early steps are wild without the warm-up.",
        "With two classes there is one other class, and the second part is always 0.",
    ],
    hyperparameters: &[
        Hyperparameter::between("alpha", NON_NEGATIVE, 1.0, "weight of the target part (TCKD)"),
        Hyperparameter::between("beta", NON_NEGATIVE, 8.0, "weight of the non-target part (NCKD)"),
        Hyperparameter::temperature(4.0, "T of all distributions"),
        Hyperparameter::count(
            "warm-up-epochs",
            [0, 100000],
            20,
            "epochs over which the term grows from 0 to its full weight",
        ),
    ],
    build: |setup| {
        Ok(Box::new(Dkd {
            alpha: setup.settings.number("alpha"),
            beta: setup.settings.number("beta"),
            temperature: setup.settings.scheduled("temperature"),
            warm_up: setup.settings.count("warm-up-epochs"),
        }))
    },
    specs: SPECS,
};

/// Far below every logit, so that its exponential is 0, and finite, so that 0 times it is 0.
const HIDDEN: f64 = -1e30;

/// Both parts of the decoupled divergence, each times T² and averaged over samples: (target, non-target).
///
/// # Errors
/// Shapes that do not fit, a label that is no class, or a temperature that is not above 0.
pub fn dkd(student: &Tensor, teacher: &Tensor, labels: &Tensor, temperature: f64) -> Result<(Tensor, Tensor)> {
    let [_, classes] = student.shape()[..] else {
        let found = format!("{:?}", student.shape());
        return Err(Error::Shape { op: "dkd", arg: "logits", expected: "[n, classes]".to_string(), found });
    };
    let target = one_hot(labels, classes, student)?;
    let [student, teacher] = [student, &teacher.detach()].map(|z| Split::new(z, &target, temperature));
    let (student, teacher) = (student?, teacher?);
    let scale = temperature * temperature;
    let part = |log_q: &Tensor, log_p: &Tensor| log_q.kl_div_batchmean(&log_p.exp()?)?.affine(scale, 0.0);
    Ok((part(&student.binary, &teacher.binary)?, part(&student.others, &teacher.others)?))
}

/// Log-probabilities of one network.
struct Split {
    /// Of (target, not target), `[n, 2]`.
    binary: Tensor,
    /// Of the classes other than the target, `[n, classes]`; that of the target is hidden.
    others: Tensor,
}

impl Split {
    fn new(logits: &Tensor, target: &Tensor, temperature: f64) -> Result<Split> {
        let masked = logits.add(&target.affine(HIDDEN, 0.0)?)?;
        let others = masked.log_softmax(temperature)?;
        // The logarithm of the sum over other classes is z_j/T − log q_j for each of them; weighed by q itself, whose sum is 1.
        let each = masked.affine(1.0 / temperature, 0.0)?.sub(&others)?;
        let rest = each.mul(&others.detach().exp()?)?.sum(&[1], true)?;
        let own = logits.mul(target)?.sum(&[1], true)?.affine(1.0 / temperature, 0.0)?;
        Ok(Split { binary: Tensor::concat(&[&own, &rest], 1)?.log_softmax(1.0)?, others })
    }
}

struct Dkd {
    alpha: f64,
    beta: f64,
    temperature: Scheduled,
    warm_up: usize,
}

impl Method for Dkd {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let teacher = inputs.teacher_logits()?;
        let (tckd, nckd) = dkd(inputs.student_logits, teacher, inputs.labels, inputs.now(self.temperature))?;
        let loss = Loss::weighted(vec![("tckd", self.alpha, tckd), ("nckd", self.beta, nckd)])?;
        let grown = (inputs.epoch as f64 / self.warm_up.max(1) as f64).min(1.0);
        Ok(Loss { total: times(&loss.total, grown)?, ..loss })
    }
}

const SPECS: &[OpSpec] = &[OpSpec {
    name: "dkd",
    run: |case| {
        let (student, teacher) = (case.tensor("student_logits")?, case.tensor("teacher_logits")?);
        let (tckd, nckd) = dkd(&student, &teacher, &case.tensor("labels")?, case.number("temperature")?)?;
        let total = tckd.affine(case.number("alpha")?, 0.0)?.add(&nckd.affine(case.number("beta")?, 0.0)?)?;
        Ok(vec![("tckd", tckd.detach()), ("nckd", nckd.detach()), ("total", total)])
    },
    sample: Some(|random| {
        let temperature = positive(random);
        labelled_logits(random).attr("temperature", temperature).attr("alpha", 0.7).attr("beta", 2.0)
    }),
}];
