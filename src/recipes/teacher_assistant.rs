//! Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", 2020: where the teacher is much larger than the student, a
//! network between the two learns from the teacher and teaches the student; several form a chain.

use super::lab::task_of;
use super::{Lab, Prospect, Recipe, RecipeInfo};
use crate::distill::{Family, Hyperparameter, Needs, Settings};
use crate::error::{Error, Result};
use crate::models::{architecture, Model, Task, ARCHITECTURES};
use crate::nn::Module;
use crate::report::AccuracyTable;
use crate::tensor::{Device, Rng};
use crate::train::{JobResult, Pupil};
use std::sync::Arc;

/// Stands for a network between teacher and student.
const AUTO: &str = "auto";

pub(super) static INFO: RecipeInfo = RecipeInfo {
    name: "teacher-assistant",
    paper: "Mirzadeh et al. 2020",
    family: Family::Teachers,
    about: "a chain of networks of decreasing size from the teacher to the student",
    formula: "assistant k: hard · CE + soft · T² · KL(softmax(z_{k−1}/T) ‖ softmax(z_k/T)), z_0 the teacher's; the student is the last",
    needs: Needs::LOGITS,
    weight: 0.5,
    hard_weight: 0.5,
    cost: 4.0,
    when: "When the teacher is so much larger than the student that plain distillation gains little.",
    traps: &[
        "The assistants cost their trainings; compare with a plain student that is trained as long.",
        "A chain is at most as good as its worst link: an assistant that is barely better than the student teaches little.",
    ],
    hyperparameters: &[
        Hyperparameter::names(
            "assistants",
            AUTO,
            "architectures from the teacher's side to the student's; auto: the one whose size is nearest the geometric mean of both",
        ),
        Hyperparameter::temperature(3.0, "T of Hinton's term"),
    ],
    build: |settings| Ok(Box::new(Chain { assistants: named_assistants(settings)? })),
    specs: &[],
};

/// The assistants that were named, if any.
fn named_assistants(settings: &Settings) -> Result<Option<Vec<String>>> {
    match &settings.names("assistants")[..] {
        [AUTO] => Ok(None),
        names => {
            let known = names.iter().map(|name| architecture(name).map(|found| found.name.to_string()));
            known.collect::<Result<_>>().map(Some)
        }
    }
}

struct Chain {
    assistants: Option<Vec<String>>,
}

impl Chain {
    /// The assistants between two architectures.
    fn between(&self, teacher: &str, student: &str, task: Task) -> Result<Vec<String>> {
        match &self.assistants {
            Some(named) => Ok(named.clone()),
            None => Ok(vec![nearest_the_middle(teacher, student, task)?.to_string()]),
        }
    }
}

/// The architecture whose number of parameters is nearest the geometric mean of two others' and strictly between them.
fn nearest_the_middle(teacher: &str, student: &str, task: Task) -> Result<&'static str> {
    let size = |name: &str| Ok((Model::new(name, task, Rng::new(0, 0), Device::Cpu)?.parameter_count() as f64).ln());
    let (large, small) = (size(teacher)?, size(student)?);
    let mut best: Option<(f64, &'static str)> = None;
    for candidate in ARCHITECTURES.iter().map(|architecture| architecture.name) {
        // An architecture that cannot take these images is no candidate.
        let Ok(size) = size(candidate) else { continue };
        let distance = (size - (large + small) / 2.0).abs();
        if small < size && size < large && best.is_none_or(|(nearest, _)| distance < nearest) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, name)| name).ok_or_else(|| {
        let reason =
            format!("no architecture lies between {teacher} and {student} in size; name some: --set assistants=A+B");
        Error::argument("teacher-assistant: assistants", reason)
    })
}

impl Recipe for Chain {
    fn check(&self, prospect: &Prospect) -> Result<()> {
        let (teacher, student) = (&prospect.teacher.model, &prospect.student.model);
        let assistants = self.between(teacher, student, task_of(&prospect.student.images))?;
        let chain: Vec<&String> = [teacher].into_iter().chain(&assistants).chain([student]).collect();
        chain.windows(2).try_for_each(|link| prospect.check_learning(link[1], link[0]))
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let mut above = lab.teacher()?;
        let assistants = self.between(above.name(), &lab.student.model, task_of(&lab.student.images))?;
        let mut table = AccuracyTable::new(format!("{} and its assistants", lab.student.job), &["test images"]);
        for (k, model) in assistants.into_iter().enumerate() {
            let assistant = Pupil { model, ..lab.student.named(&format!("assistant{}", k + 1)) };
            let (model, result) = lab.train(&assistant, Some(&above))?;
            table.row(format!("assistant {}, {}", k + 1, assistant.model), &[result.accuracy()]);
            above = Arc::new(model);
        }
        let (model, result) = lab.train(&lab.student.clone(), Some(&above))?;
        table.row("student", &[result.accuracy()]);
        lab.extras.tables.push(table);
        Ok((model, result))
    }
}
