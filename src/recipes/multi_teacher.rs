//! Several teachers of one student: the run's own, and others that start from different weights, or come from files. Their logits are
//! combined: equally, by weights, or sample by sample by how sure each is of the right class (CA-MKD, Zhang, Chen & Wang 2022).

use super::{Accepts, Lab, Prospect, Recipe, RecipeInfo};
use crate::distill::{Combine, Family, Hyperparameter, Needs, Settings};
use crate::error::{Error, Result};
use crate::models::Model;
use crate::report::AccuracyTable;
use crate::train::{load_model, Evaluation, JobResult, TeacherOutputs};
use std::path::PathBuf;
use std::sync::Arc;

/// Stand for no names given.
const NO_FILES: &str = "none";
const EQUAL: &str = "equal";

pub(super) static INFO: RecipeInfo = RecipeInfo {
    name: "multi-teacher",
    paper: "You et al. 2017; CA-MKD 2022",
    family: Family::Teachers,
    about: "several teachers whose logits are combined",
    formula: "hard · CE + soft · T² · KL(softmax(z̄/T) ‖ softmax(z_s/T)), z̄ = Σ w_k z_k",
    needs: Needs::LOGITS,
    weight: 0.5,
    hard_weight: 0.5,
    cost: 1.2,
    when: "When several good models exist already, or the ensemble of them is clearly better than each.",
    traps: &[
        "Averaged logits are not averaged probabilities: a teacher with large logits counts more.",
        "Each further teacher costs its own training (once a run); teachers of one architecture and data say much the same.",
        "Only logits are combined: methods that compare feature maps need one teacher.",
    ],
    hyperparameters: &[
        Hyperparameter::count("teachers", [2, 64], 3, "the run's own, and others trained alike from other seeds; without files"),
        Hyperparameter::names("files", NO_FILES, "further teachers from files (.safetensors) instead of training them"),
        Hyperparameter::choice("combine", &["mean", "weighted", "confidence"], "how logits are combined"),
        Hyperparameter::names("weights", EQUAL, "with combine=weighted: a number for each teacher, the run's own first"),
        Hyperparameter::constant_temperature(3.0, "T of Hinton's term"),
    ],
    build: |settings| {
        let files = settings.names("files").into_iter().filter(|file| *file != NO_FILES).map(PathBuf::from).collect();
        let mut recipe = Committee { teachers: settings.count("teachers"), files, combine: Combine::Confidence };
        if !settings.is("combine", "confidence") {
            recipe.combine = Combine::Weighted(recipe.weights(settings)?);
        }
        Ok(Box::new(recipe))
    },
    specs: &[],
};

struct Committee {
    teachers: usize,
    files: Vec<PathBuf>,
    combine: Combine,
}

impl Committee {
    /// Teachers, the run's own among them.
    fn size(&self) -> usize {
        if self.files.is_empty() {
            self.teachers
        } else {
            self.files.len() + 1
        }
    }

    /// The weight of each teacher.
    fn weights(&self, settings: &Settings) -> Result<Vec<f64>> {
        let given = settings.names("weights");
        let weights: Vec<f64> = match (settings.is("combine", "weighted"), &given[..]) {
            (false, _) | (true, [EQUAL]) => vec![1.0; self.size()],
            // What is no number leaves too few of them.
            (true, given) => given.iter().map(|w| w.parse()).collect::<std::result::Result<_, _>>().unwrap_or_default(),
        };
        let sum: f64 = weights.iter().sum();
        match weights.len() == self.size() && weights.iter().all(|w| *w >= 0.0) && sum > 0.0 && sum.is_finite() {
            true => Ok(weights),
            false => {
                let (size, given) = (self.size(), given.join("+"));
                let reason = format!("must be {size} numbers of 0 or more, not all 0, as 2+1+1; found {given}");
                Err(Error::argument("multi-teacher: weights", reason))
            }
        }
    }

    /// The teachers besides the run's own.
    fn others(&self, lab: &mut Lab) -> Result<Vec<Arc<Model>>> {
        let task = lab.teacher()?.task();
        let from_files = self.files.iter().map(|file| load_model(file, None, task, lab.device).map(Arc::new));
        let mut others = from_files.collect::<Result<Vec<_>>>()?;
        for k in 2..=self.size() - others.len() {
            // They are jobs of the run, not of this student: every student of the run has the same teachers, whatever a grid varies.
            let pupil = lab.teacher_pupil.reseeded(k - 1).named(&k.to_string());
            others.push(Arc::new(lab.train_teacher(&pupil)?.0));
        }
        Ok(others)
    }
}

impl Recipe for Committee {
    fn accepts(&self) -> Accepts {
        Accepts::MethodsOfLogits
    }

    fn check(&self, prospect: &Prospect) -> Result<()> {
        self.accepts().check("multi-teacher", &prospect.student.plan)?;
        if let Some(missing) = self.files.iter().find(|file| !file.is_file()) {
            return Err(Error::argument("multi-teacher: files", format!("there is no file {}", missing.display())));
        }
        prospect.check_learning(&prospect.student.model, &prospect.teacher.model)
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let mut teachers = vec![lab.teacher()?];
        teachers.extend(self.others(lab)?);
        let pupil = lab.student.clone();
        let parts = teachers.iter().map(|teacher| lab.ask(teacher, &pupil)).collect::<Result<Vec<_>>>()?;
        let answers = TeacherOutputs::committee(parts, self.combine.clone())?;
        let (model, result) = lab.train_with(&pupil, Some(&answers))?;
        let judged = teachers.iter().map(|teacher| lab.evaluate(teacher)).collect::<Result<Vec<Evaluation>>>()?;
        let mut table = AccuracyTable::new(format!("{} and its teachers", lab.student.job), &["test images"]);
        for (k, teacher) in judged.iter().enumerate() {
            table.row(format!("teacher {}", k + 1), &[teacher.accuracy()]);
        }
        table.row("mean of all teachers' probabilities", &[Evaluation::ensemble(&judged)?.accuracy()]);
        table.row("student", &[result.accuracy()]);
        lab.extras.tables.push(table);
        Ok((model, result))
    }
}
