//! Zagoruyko & Komodakis, "Paying More Attention to Attention", 2017: the student looks where the teacher looks. A feature map's attention
//! is `A(F) = mean_c |F_c|^p`, flattened and divided by its length; `L = Σ over stages of mean (A_s − A_t)²`, as in the authors' code
//! (their eq. 2 has the length of the difference instead, without the square).
//!
//! The notebook's form sums over channels, which is the same after the division, and guards it as `a / (‖a‖ + 1e-8)`.

use super::cases::maps;
use super::info::{Family, Hyperparameter, MethodInfo, Needs, Taps};
use super::math::{lengths, pooled_to, same_size, unit_vectors};
use super::pairwise::sum_over;
use super::taps::{Attention, TapPair, TeacherFeature};
use super::{Loss, Method, Settings, StepInputs};
use crate::error::Result;
use crate::ops::OpSpec;
use crate::tensor::Tensor;

pub(super) static INFO: MethodInfo = MethodInfo {
    name: "at",
    paper: "Zagoruyko & Komodakis 2017",
    family: Family::Feature,
    about: "look where the teacher looks: attention maps",
    formula: "Σ over stages of mean (A(F_s) − A(F_t))², A(F) = mean_c |F_c|^p, flattened, length 1",
    needs: Needs::features(Taps::Stages).digested(digest),
    weight: 1000.0,
    hard_weight: 1.0,
    cost: 1.3,
    when: "When teacher and student are convolutional and have stages of equal size; no trained adapter is needed.",
    traps: &[
        "It fails between very different architectures: on CIFAR-100, vgg13 → MobileNetV2 it is 5 points below no distillation.",
        "The mean runs over positions as well, so the weight is large.",
    ],
    hyperparameters: &[
        Hyperparameter::between("power", [1.0, 8.0], 2.0, "p, the power of a channel's activation"),
        Hyperparameter::choice("form", &["paper", "notebook"], "which guard against a map of zeros"),
    ],
    build: |setup| {
        setup.pairs.iter().try_for_each(|pair| pair.require_maps(INFO.name))?;
        Ok(Box::new(At { pairs: setup.pairs.clone(), settings: setup.settings.clone() }))
    },
    specs: SPECS,
};

struct At {
    pairs: Vec<TapPair>,
    settings: Settings,
}

impl Method for At {
    fn loss(&self, inputs: &StepInputs) -> Result<Loss> {
        let (power, guard) = (self.settings.number("power"), Guard::of(&self.settings));
        let sum = sum_over(INFO.name, &self.pairs, |pair| {
            let student =
                pooled_to(inputs.student_feature(&pair.student)?, sizes(guard, pair)[0])?.attention_map(power)?;
            let teacher = inputs.teacher_feature(&digest(&self.settings, pair))?;
            let [of_student, of_teacher] = pair.channels();
            guard.unit(&student, of_student)?.mse_loss(&guard.unit(&teacher, of_teacher)?)
        })?;
        Ok(Loss::single(INFO.name, sum))
    }
}

/// The teacher's attention map: all that there is to know of its feature map.
fn digest(settings: &Settings, pair: &TapPair) -> TeacherFeature {
    let attention = Attention { power: settings.number("power"), size: sizes(Guard::of(settings), pair)[1] };
    TeacherFeature { tap: pair.teacher.clone(), attention: Some(attention) }
}

/// The sizes at which the student's and the teacher's maps are compared: equal ones in the paper's form.
fn sizes(guard: Guard, pair: &TapPair) -> [[usize; 2]; 2] {
    let of = |shape: &[usize]| match *shape {
        [_, h, w] => [h, w],
        _ => [1, 1],
    };
    let [student, teacher] = [of(&pair.student_shape), of(&pair.teacher_shape)];
    let smaller = [student[0].min(teacher[0]), student[1].min(teacher[1])];
    match guard {
        Guard::Bound => [smaller; 2],
        Guard::Added(_) => [student, teacher],
    }
}

/// What keeps the attention of a map of zeros finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guard {
    /// `mean_c`, divided by `max(‖a‖₂, 1e-12)`: the paper's code.
    Bound,
    /// `Σ_c`, divided by `‖a‖₂ + ε`: the notebook.
    Added(f64),
}

impl Guard {
    fn of(settings: &Settings) -> Guard {
        if settings.is("form", "notebook") {
            Guard::Added(1e-8)
        } else {
            Guard::Bound
        }
    }

    /// The sum over so many channels, divided by its length.
    fn unit(self, sum: &Tensor, channels: usize) -> Result<Tensor> {
        match self {
            Guard::Bound => unit_vectors(&sum.affine(1.0 / channels.max(1) as f64, 0.0)?),
            Guard::Added(eps) => sum.div(&lengths(sum)?.affine(1.0, eps)?),
        }
    }
}

/// The mean squared difference of two attention maps. In the paper's form, maps of two sizes are first brought to the smaller.
///
/// # Errors
/// Not feature maps, a power below 1, or (in the notebook's form) sizes that differ.
pub fn attention_transfer(student: &Tensor, teacher: &Tensor, power: f64, guard: Guard) -> Result<Tensor> {
    let teacher = teacher.detach();
    let (student, teacher) = match guard {
        Guard::Bound => same_size(student, &teacher)?,
        Guard::Added(_) => (student.clone(), teacher),
    };
    let attention = |maps: &Tensor| guard.unit(&maps.attention_map(power)?, maps.shape()[1]);
    attention(&student)?.mse_loss(&attention(&teacher)?)
}

const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "attention_transfer_paper",
        run: |case| {
            case.require("eps", 1e-12)?;
            let (student, teacher) = (case.tensor("student")?, case.tensor("teacher")?);
            Ok(vec![("loss", attention_transfer(&student, &teacher, case.number("p")?, Guard::Bound)?)])
        },
        sample: Some(|random| {
            let sides = [[3, 3], [4, 2], [2, 3]][random.below(3) as usize];
            maps(random, [2, 3], sides).attr("p", 2.0).attr("eps", 1e-12)
        }),
    },
    OpSpec {
        name: "attention_transfer",
        run: |case| {
            let (student, teacher) = (case.tensor("student")?, case.tensor("teacher")?);
            let guard = Guard::Added(case.number("eps")?);
            Ok(vec![("loss", attention_transfer(&student, &teacher, case.number("p")?, guard)?)])
        },
        sample: Some(|random| {
            let power = [1.0, 2.0, 3.0][random.below(3) as usize];
            maps(random, [2, 3], [3, 3]).attr("p", power).attr("eps", 1e-8)
        }),
    },
];
