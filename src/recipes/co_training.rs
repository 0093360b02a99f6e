//! Teacher and student trained at the same time: at every batch the teacher learns from the labels, and the student from the labels and
//! from what the teacher says at that moment. The student so follows the teacher's whole path, easy answers first, and not only its end.
//!
//! There is no reference implementation. The teacher starts from fresh weights of the run's teacher's architecture, sees the student's
//! images, and answers as it is in training, with dropout; the run's own teacher takes no part.

use super::{Cohort, Lab, Recipe, RecipeInfo};
use crate::distill::{Family, Hyperparameter, Needs, Plan};
use crate::error::Result;
use crate::models::Model;
use crate::report::AccuracyTable;
use crate::train::{JobResult, Lesson, Pupil, Update};

pub(super) static INFO: RecipeInfo = RecipeInfo {
    name: "co-training",
    paper: "no single paper",
    family: Family::Mutual,
    about: "teacher and student trained together, the student from the teacher of the moment",
    formula: "teacher: CE; student: CE + T² · KL(softmax(z_t/T) ‖ softmax(z_s/T)), z_t as of this batch",
    needs: Needs::NOTHING,
    weight: 0.5,
    hard_weight: 0.5,
    cost: 12.0,
    when: "When both networks have to be trained anyway and the gap between them is large.",
    traps: &["The teacher sees only the student's images; with --train-limit it is worse than one trained on all."],
    hyperparameters: &[Hyperparameter::temperature(3.0, "T of Hinton's term")],
    build: |_| Ok(Box::new(CoTraining)),
    specs: &[],
};

struct CoTraining;

impl Recipe for CoTraining {
    fn cohort(&self, lab: &Lab) -> Option<Cohort> {
        let teacher =
            Pupil { model: lab.teacher_pupil.model.clone(), plan: Plan::labels(), ..lab.student.named("teacher") };
        let members = vec![(lab.student.clone(), Lesson::Members(vec![1])), (teacher, Lesson::Teacher)];
        Some(Cohort { members, update: Update::AtOnce })
    }

    fn run(&self, lab: &mut Lab) -> Result<(Model, JobResult)> {
        let mut trained = lab.train_together(&self.cohort(lab).expect("two networks"), None)?;
        let mut table = AccuracyTable::new(format!("{} and its teacher", lab.student.job), &["test images"]);
        table.row("student", &[trained[0].1.accuracy()]);
        table.row("teacher trained with it", &[trained[1].1.accuracy()]);
        lab.extras.tables.push(table);
        Ok(trained.swap_remove(0))
    }
}
