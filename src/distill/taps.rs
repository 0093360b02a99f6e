//! Which feature map of the student is compared with which one of the teacher.

use super::info::{Needs, Taps};
use super::math::pooled_to;
use crate::error::{Error, Result};
use crate::models::TapShape;
use crate::nn::PRE_ACTIVATION;
use crate::suggest::nearest;
use crate::tensor::Tensor;

/// Two feature maps that are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapPair {
    /// The student's tap.
    pub student: String,
    /// The teacher's tap.
    pub teacher: String,
    /// The shape of one sample of the student's, `[c, h, w]` or `[features]`.
    pub student_shape: Vec<usize>,
    /// The shape of one sample of the teacher's.
    pub teacher_shape: Vec<usize>,
}

/// One of the teacher's feature maps, or what a method needs of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherFeature {
    /// The teacher's tap.
    pub tap: String,
    /// Its attention map instead, averaged down to a size first.
    pub attention: Option<Attention>,
}

/// `Σ_c |x|^power` of a feature map of `size`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// At least 1.
    pub power: f64,
    /// Height and width.
    pub size: [usize; 2],
}

impl TeacherFeature {
    /// A whole feature map.
    pub fn whole(tap: &str) -> TeacherFeature {
        TeacherFeature { tap: tap.to_string(), attention: None }
    }

    /// The name under which it stands among [`Features`](super::Features): the tap's for a whole one.
    pub fn name(&self) -> String {
        match self.attention {
            None => self.tap.clone(),
            Some(Attention { power, size: [h, w] }) => format!("{}.attention-{power}-{h}x{w}", self.tap),
        }
    }

    /// How many numbers it has for a sample whose feature map has this shape.
    pub fn numbers(&self, map: &[usize]) -> usize {
        self.attention.map_or(map.iter().product(), |attention| attention.size.iter().product())
    }

    /// It, of the feature map `[n, …]`: the map itself, or `[n, h·w]`.
    ///
    /// # Errors
    /// There is no attention in something without height and width.
    pub fn of(&self, map: &Tensor) -> Result<Tensor> {
        match self.attention {
            None => Ok(map.clone()),
            Some(Attention { power, size }) => pooled_to(map, size)?.attention_map(power),
        }
    }
}

const PENULTIMATE: &str = "penultimate";

/// The pairs that a method compares: those that were named, else those of its default.
///
/// # Errors
/// A tap that a network does not have, lists of unequal length, or a network that has no feature map of the wanted kind.
pub fn pair_taps(
    method: &str,
    needs: Needs,
    student: &[TapShape],
    teacher: &[TapShape],
    named: [&[String]; 2],
) -> Result<Vec<TapPair>> {
    let wanted = needs.taps;
    if wanted.of_student_alone() {
        return own_taps(method, wanted, student, named);
    }
    let [named_student, named_teacher] = named;
    if named_student.is_empty() != named_teacher.is_empty() || named_student.len() != named_teacher.len() {
        let reason = format!(
            "student-taps names {} and teacher-taps {}; name as many of each",
            named_student.len(),
            named_teacher.len()
        );
        return Err(Error::argument(method, reason));
    }
    if wanted == Taps::None {
        return match named_student.is_empty() {
            true => Ok(Vec::new()),
            false => Err(Error::argument(method, "compares no feature maps; leave student-taps and teacher-taps out")),
        };
    }
    if !named_student.is_empty() {
        let pair = |(s, t): (&String, &String)| {
            Ok(TapPair::new(&find(method, "student", student, s)?, &find(method, "teacher", teacher, t)?))
        };
        return named_student.iter().zip(named_teacher).map(pair).collect();
    }
    let stages = || by_size(method, student, teacher);
    let penultimate = || {
        let student = find(method, "student", student, PENULTIMATE)?;
        Ok::<_, Error>(TapPair::new(&student, &find(method, "teacher", teacher, PENULTIMATE)?))
    };
    let mut pairs = match wanted {
        Taps::None | Taps::OwnStages | Taps::OwnTrunk => Vec::new(),
        Taps::Penultimate => vec![penultimate()?],
        Taps::LastStage => stages()?.pop().into_iter().collect(),
        Taps::MiddleStage => {
            let mut stages = stages()?;
            vec![stages.swap_remove(stages.len() / 2)]
        }
        Taps::Stages => stages()?,
        Taps::StagesAndPenultimate => {
            let mut pairs = stages()?;
            pairs.push(penultimate()?);
            pairs
        }
    };
    if needs.pre_activation {
        for pair in &mut pairs {
            for (name, taps) in [(&mut pair.student, student), (&mut pair.teacher, teacher)] {
                if taps.iter().any(|tap| tap.name == *name && tap.rectified) {
                    name.push_str(PRE_ACTIVATION);
                }
            }
        }
    }
    Ok(pairs)
}

/// Feature maps of the student, each with its last one: all before it, the one before it, or those that were named.
fn own_taps(method: &str, wanted: Taps, student: &[TapShape], named: [&[String]; 2]) -> Result<Vec<TapPair>> {
    let maps: Vec<&TapShape> = student.iter().filter(|tap| tap.shape.len() == 3).collect();
    let [named, named_teacher] = named;
    if !named_teacher.is_empty() {
        return Err(Error::argument(method, "learns from no teacher; leave teacher-taps out"));
    }
    let (Some((last, earlier)), true) = (maps.split_last(), maps.len() > 1) else {
        let reason =
            "needs a student with at least two feature maps that have height and width; choose another student";
        return Err(Error::argument(method, reason));
    };
    let chosen: Vec<TapShape> = match (named, wanted) {
        ([], Taps::OwnTrunk) => vec![earlier[earlier.len() - 1].clone()],
        ([], _) => earlier.iter().map(|&tap| tap.clone()).collect(),
        (named, _) => named.iter().map(|name| find(method, "student", student, name)).collect::<Result<_>>()?,
    };
    let pairs: Vec<TapPair> = chosen.iter().map(|tap| TapPair::new(tap, last)).collect();
    pairs.iter().try_for_each(|pair| pair.require_maps(method))?;
    match pairs.iter().find(|pair| pair.student == pair.teacher) {
        None => Ok(pairs),
        Some(pair) => {
            Err(Error::argument(method, format!("`{}` is the last feature map; name an earlier one", pair.student)))
        }
    }
}

impl TapPair {
    fn new(student: &TapShape, teacher: &TapShape) -> TapPair {
        TapPair {
            student: student.name.clone(),
            teacher: teacher.name.clone(),
            student_shape: student.shape.clone(),
            teacher_shape: teacher.shape.clone(),
        }
    }

    /// Numbers in a sample of the student's and of the teacher's features.
    pub fn widths(&self) -> [usize; 2] {
        [&self.student_shape, &self.teacher_shape].map(|shape| shape.iter().product())
    }

    /// Channels (or features) of both.
    pub fn channels(&self) -> [usize; 2] {
        [&self.student_shape, &self.teacher_shape].map(|shape| shape.first().copied().unwrap_or(1))
    }

    /// Refuses features that are not maps with height and width.
    ///
    /// # Errors
    /// One of them is not; it is named.
    pub fn require_maps(&self, method: &str) -> Result<()> {
        for (whose, name, shape) in
            [("student", &self.student, &self.student_shape), ("teacher", &self.teacher, &self.teacher_shape)]
        {
            if shape.len() != 3 {
                let reason = format!(
                    "needs feature maps [c, h, w], but the {whose}'s `{name}` is {shape:?}; choose another with {whose}-taps"
                );
                return Err(Error::argument(method, reason));
            }
        }
        Ok(())
    }
}

/// The tap of this name; with [`PRE_ACTIVATION`] behind it, of what its ReLU takes.
fn find(method: &str, whose: &str, taps: &[TapShape], name: &str) -> Result<TapShape> {
    let (tap, before_relu) = name.strip_suffix(PRE_ACTIVATION).map_or((name, false), |tap| (tap, true));
    match taps.iter().find(|known| known.name == tap) {
        Some(tap) if before_relu && !tap.rectified => {
            let reason = format!(
                "the {whose}'s `{}` is no ReLU's output and has no `{name}`; leave `{PRE_ACTIVATION}` out",
                tap.name
            );
            Err(Error::argument(method, reason))
        }
        Some(tap) => Ok(TapShape { name: name.to_string(), ..tap.clone() }),
        None => {
            let known: Vec<&str> = taps.iter().map(|tap| tap.name.as_str()).collect();
            let hint = nearest(tap, &known).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
            let reason = format!("the {whose} has no tap `{name}`; {hint}known: {}", known.join(", "));
            Err(Error::argument(method, reason))
        }
    }
}

/// Each feature map of the student, with the one of the teacher whose height and width are nearest (the deeper, if two are).
fn by_size(method: &str, student: &[TapShape], teacher: &[TapShape]) -> Result<Vec<TapPair>> {
    let maps = |whose: &str, taps: &[TapShape]| {
        let maps: Vec<TapShape> = taps.iter().filter(|tap| tap.shape.len() == 3).cloned().collect();
        match maps.is_empty() {
            true => {
                let reason = format!("the {whose} has no tap with height and width, which convolutional networks have; use one, or a method that needs none");
                Err(Error::argument(method, reason))
            }
            false => Ok(maps),
        }
    };
    let (student, teacher) = (maps("student", student)?, maps("teacher", teacher)?);
    let area = |tap: &TapShape| ((tap.shape[1] * tap.shape[2]).max(1) as f64).ln();
    let pair = |s: &TapShape| {
        let distance = |t: &&TapShape| (area(t) - area(s)).abs();
        let nearest = teacher.iter().rev().min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        Some(TapPair::new(s, nearest))
    };
    Ok(student.iter().filter_map(pair).collect())
}
