//! Training: one job (a model, a method, a data set) from fresh weights to a saved model, and what is measured on the way.

mod checkpoint;
mod cohort;
mod cost;
mod diagnose;
mod evaluate;
mod fit;
pub mod interrupt;
mod job;
mod measure;
mod metrics_log;
mod progress;
mod regime;
mod run_dir;
pub mod streams;
mod taken;
mod teacher;
mod test_set;
mod trainee;

pub use checkpoint::{load_model, save_model, Checkpoint, Position};
pub use cost::{step_cost, Rehearsal, StepCost};
pub use evaluate::{evaluate, evaluate_with, Evaluation};
pub use fit::{fit, fit_together, Lesson, Member, Setting, Update};
pub use job::{EpochRecord, Job, JobResult};
pub use measure::{measure, quantile, single_latency, Footprint, Latency};
pub use metrics_log::{MetricsLog, StepRecord};
pub use progress::{Progress, Silent};
pub use regime::{Pupil, Regime};
pub use run_dir::RunDir;
pub use teacher::{TeacherCache, TeacherOutputs};
pub use test_set::TestSet;
pub(crate) use trainee::{prefixed, under};
