//! The leaderboard: one teacher, the same seeds, a student for each entrant and seed. Students of a seed start from the same weights and
//! see the same batches, so that their differences are the methods'.
//!
//! A student is a job of its own, so a board can be stopped and resumed anywhere, and resumed with more methods or seeds: what is there
//! is loaded, what is missing is trained.

mod entrants;

use entrants::Entrant;
pub(super) use entrants::{entrants, only_entrant, with_setting};

use super::clock::Clock;
use super::compare::{describe_model, evaluate_student, evaluate_teacher};
use super::session::{Session, Teacher};
use crate::error::{Error, Result};
use crate::report::{Cost, Leaderboard, Refusal, Role, Score, Standing};
use crate::train::{step_cost, Evaluation, JobResult};
use std::path::PathBuf;
use std::time::Instant;

/// Trains what is missing, and writes the report: after the first seed, and at the end.
///
/// # Errors
/// Ctrl-C, or something that is no method's fault. A method that cannot be used is listed with its reason instead.
pub(super) fn run(session: &mut Session, teacher: &Teacher) -> Result<PathBuf> {
    let judge = evaluate_teacher(session, teacher)?;
    let result = teacher.result.as_ref();
    let row = describe_model(session, Role::Teacher, &teacher.model, result, &teacher.file, &judge, &judge)?;
    session.summary.models = vec![row];
    let mut board = Board::new(session, entrants(&session.config)?);
    for seed in 0..session.config.seeds {
        board.seed(session, teacher, &judge, seed)?;
        if seed == 0 {
            board.write(session)?;
        }
    }
    board.measure(session, teacher)?;
    board.write(session)
}

/// A board under way.
struct Board {
    entrants: Vec<(Entrant, Vec<Student>, Option<Cost>)>,
    refused: Vec<Refusal>,
    seeds: usize,
    clock: Clock,
}

/// A trained student and its epochs.
struct Student {
    score: Score,
    history: Vec<f64>,
}

impl Board {
    /// Lists methods that cannot use the networks as refused.
    fn new(session: &Session, all: Vec<Entrant>) -> Board {
        let seeds = session.config.seeds;
        let mut board = Board { entrants: Vec::new(), refused: Vec::new(), seeds, clock: Clock::default() };
        for entrant in all {
            match session.check(&entrant.config) {
                Ok(()) => board.entrants.push((entrant, Vec::new(), None)),
                Err(error) => board.refuse(entrant.name, &error),
            }
        }
        let entrants = || board.entrants.iter().map(|(entrant, ..)| entrant);
        let students = (0..seeds).flat_map(|seed| entrants().map(move |entrant| (entrant, seed)));
        let missing = students.filter(|(entrant, seed)| !session.is_finished(&entrant.job(*seed)));
        board.clock = Clock::new(missing.map(|(entrant, _)| entrant.cost()).sum());
        board
    }

    fn refuse(&mut self, name: String, error: &Error) {
        self.refused.push(Refusal { name, reason: error.to_string() });
    }

    /// A student of every entrant.
    fn seed(&mut self, session: &mut Session, teacher: &Teacher, judge: &Evaluation, seed: usize) -> Result<()> {
        let count = self.entrants.len();
        for i in 0..count {
            let entrant = self.entrants[i].0.clone();
            let missing = !session.is_finished(&entrant.job(seed));
            if missing {
                let number = seed * count + i + 1;
                let of_seeds = format!("seed {} of {}", seed + 1, self.seeds);
                let left = self.clock.estimate();
                session.progress.stage(&format!(
                    "student {number} of {}: {}, {of_seeds}{left}",
                    count * self.seeds,
                    entrant.name
                ));
            }
            let started = Instant::now();
            match train(session, teacher, judge, &entrant, seed) {
                Ok(student) => self.entrants[i].1.push(student),
                // What is wrong with one method does not stop the others.
                Err(error @ (Error::Argument { .. } | Error::Shape { .. } | Error::NonFinite(_))) => {
                    let name = format!("{}, seed {}", entrant.name, seed + 1);
                    session.progress.note(&format!("{name}: {error}"));
                    self.refuse(name, &error);
                }
                Err(error) => return Err(error),
            }
            if missing {
                self.clock.tick(entrant.cost(), started.elapsed());
            }
        }
        Ok(())
    }

    /// Times a step of every method.
    fn measure(&mut self, session: &mut Session, teacher: &Teacher) -> Result<()> {
        session.progress.stage("timing a step of each method");
        for (entrant, students, cost) in &mut self.entrants {
            if students.is_empty() {
                continue;
            }
            let measured = session.with_config(&entrant.config, |session| session.rehearse(teacher, step_cost))?;
            *cost = measured.map(|measured| Cost {
                step_ms: measured.ms,
                relative: measured.relative(),
                peak_bytes: measured.peak_bytes,
            });
        }
        Ok(())
    }

    fn write(&self, session: &mut Session) -> Result<PathBuf> {
        let trained = self.entrants.iter().filter(|(_, students, _)| !students.is_empty());
        let rows = trained.map(|(entrant, students, cost)| standing(entrant, students, *cost)).collect();
        session.summary.leaderboard = Some(Leaderboard::new(self.seeds, rows, self.refused.clone()));
        session.write_report()
    }
}

impl Entrant {
    /// The folder of one of its students. Taps and words may hold what a file name must not.
    fn job(&self, seed: usize) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "+-_.,=@".contains(c) { c } else { '_' };
        format!("{}-{}", self.name.chars().map(safe).collect::<String>(), seed + 1)
    }
}

/// Trains one student, or loads it, and judges it.
fn train(
    session: &mut Session,
    teacher: &Teacher,
    judge: &Evaluation,
    entrant: &Entrant,
    seed: usize,
) -> Result<Student> {
    // What a recipe has to say about its student is for that student's own report.
    let extras = std::mem::take(&mut session.summary.extras);
    let trained: Result<(_, JobResult)> = session.with_config(&entrant.config, |session| {
        let mut plan = session.student_plan();
        plan.seed += seed as u64;
        session.student(&entrant.job(seed), plan, teacher)
    });
    session.summary.extras = extras;
    let (model, result) = trained?;
    let evaluation = evaluate_student(session, &model)?;
    let history: Vec<f64> = result.history.iter().map(|epoch| epoch.test_accuracy).collect();
    let score = Score {
        seed: session.config.seed + seed as u64,
        last: result.accuracy(),
        best: history.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        agreement: evaluation.agreement(judge),
        calibration_error: evaluation.calibration_error(),
    };
    Ok(Student { score, history })
}

fn standing(entrant: &Entrant, students: &[Student], cost: Option<Cost>) -> Standing {
    let epochs = students.iter().map(|student| student.history.len()).min().unwrap_or(0);
    let mean = |epoch: usize| students.iter().map(|s| s.history[epoch]).sum::<f64>() / students.len() as f64;
    Standing {
        name: entrant.name.clone(),
        training: entrant.training.clone(),
        part: entrant.part,
        students: students.iter().map(|student| student.score).collect(),
        curve: (0..epochs).map(mean).collect(),
        cost,
        ..Standing::default()
    }
}
