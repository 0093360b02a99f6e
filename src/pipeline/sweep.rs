//! The temperature sweep: one student for each temperature, all from the same seed.

use super::session::{Session, StudentPlan, Teacher};
use crate::error::Result;
use crate::report::SweepPoint;
use crate::train::JobResult;

/// Trains the sweep's students and puts their accuracies into the summary.
pub(super) fn sweep(session: &mut Session, teacher: &Teacher) -> Result<()> {
    let temperatures = session.config.sweep_temperatures.clone();
    let student = |&temperature: &f64| {
        let plan = session.student_plan().at_temperature(temperature);
        (format!("sweep-t{temperature}"), StudentPlan { epochs: session.config.sweep_epochs, ..plan })
    };
    let students = temperatures.iter().map(student).collect();
    let results = session.students(students, teacher)?;
    let point = |(&temperature, result): (&f64, &JobResult)| SweepPoint { temperature, accuracy: result.accuracy() };
    let points = temperatures.iter().zip(&results).map(point).collect();
    session.summary.sweep = points;
    Ok(())
}
