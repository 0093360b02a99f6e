//! The temperature sweep: one student for each temperature, all from the same seed.

use super::session::{Session, StudentPlan, Teacher};
use crate::error::Result;
use crate::report::SweepPoint;

/// Trains the sweep's students and puts their accuracies into the summary.
pub(super) fn sweep(session: &mut Session, teacher: &Teacher) -> Result<()> {
    let mut points = Vec::new();
    for temperature in session.config.sweep_temperatures.clone() {
        let plan = session.student_plan().at_temperature(temperature);
        let plan = StudentPlan { epochs: session.config.sweep_epochs, ..plan };
        let (_, result) = session.student(&format!("sweep-t{temperature}"), plan, teacher)?;
        points.push(SweepPoint { temperature, accuracy: result.accuracy() });
    }
    session.summary.sweep = points;
    Ok(())
}
