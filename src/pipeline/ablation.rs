//! What each term of the loss is worth: labels only, soft targets only, both, and other weights.

use super::session::{Session, StudentPlan, Teacher};
use crate::error::Result;
use crate::report::AblationRow;
use crate::train::JobResult;

/// Trains the ablation's students and puts their accuracies into the summary.
pub(super) fn ablate(session: &mut Session, teacher: &Teacher) -> Result<()> {
    let epochs = session.config.ablation_epochs;
    let base = StudentPlan { epochs, terms: Vec::new(), recipe: None, ..session.student_plan() };
    let plan =
        |hard: f64, soft: f64| StudentPlan { hard_weight: hard.into(), soft_weight: soft.into(), ..base.clone() };
    let mut rows = vec![
        ("labels only".to_string(), base.on_labels_alone()),
        ("soft targets only".to_string(), plan(0.0, 1.0)),
        ("both".to_string(), base.clone()),
    ];
    for &soft in &session.config.ablation_weights {
        // Without the rounding, 1 − 0.9 would be written as 0.09999999999999998.
        let hard = ((1.0 - soft) * 1e9).round() / 1e9;
        rows.push((format!("soft {soft}"), plan(hard, soft)));
    }
    let job = |name: &str| format!("ablate-{}", name.replace(' ', "-"));
    let students = rows.iter().map(|(name, plan)| (job(name), plan.clone())).collect();
    let results = session.students(students, teacher)?;
    let row = |((name, plan), result): ((String, StudentPlan), JobResult)| {
        let StudentPlan { hard_weight, soft_weight, .. } = plan;
        AblationRow { name, hard_weight, soft_weight, accuracy: result.accuracy() }
    };
    let results = rows.into_iter().zip(results).map(row).collect();
    session.summary.ablation = results;
    Ok(())
}
