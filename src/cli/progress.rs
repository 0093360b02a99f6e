//! Progress of jobs: a bar with speed, loss and time left on a terminal, plain lines elsewhere.

use super::output::{paint, verbosity, Style};
use crate::train::{EpochRecord, Job, Progress, StepRecord};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::Instant;

/// Shows jobs on standard error.
pub struct TerminalProgress {
    bar: ProgressBar,
    interactive: bool,
    job_started: Instant,
    images: usize,
    epochs: usize,
}

impl TerminalProgress {
    /// Nothing is shown before the first job.
    pub fn new() -> TerminalProgress {
        let interactive = io::stderr().is_terminal() && verbosity() > 0;
        TerminalProgress { bar: ProgressBar::hidden(), interactive, job_started: Instant::now(), images: 0, epochs: 0 }
    }

    /// A new bar at `first` of `steps`, if there is a terminal.
    fn show_bar(&mut self, first: u64, steps: u64) {
        if self.interactive {
            self.bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("  {wide_bar} {percent:>3} %  {msg}  {eta} left")
                .expect("a valid template");
            self.bar.set_style(style);
            self.bar.set_position(first);
            self.bar.reset_eta();
        }
    }

    fn say(&self, text: &str) {
        if verbosity() > 0 {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }
}

impl Progress for TerminalProgress {
    fn job_started(&mut self, job: &Job, first_step: u64, steps: u64) {
        self.job_started = Instant::now();
        self.images = 0;
        self.epochs = job.epochs;
        let going_on = if first_step > 0 { format!(", going on at step {first_step}") } else { String::new() };
        let line = format!("{} ({}, {} epochs of {}{going_on})", job.name, job.model, job.epochs, job.plan.name());
        self.say(&paint(Style::Stage, &line));
        self.show_bar(first_step, steps);
    }

    fn step(&mut self, record: &StepRecord, images: usize) {
        self.images += images;
        if self.interactive {
            let speed = self.images as f64 / self.job_started.elapsed().as_secs_f64().max(1e-9);
            self.bar.set_message(format!("loss {:.4}  {speed:.0} images/s", record.loss));
            self.bar.set_position(record.step);
        }
    }

    fn epoch(&mut self, _: &Job, record: &EpochRecord) {
        let elapsed = self.job_started.elapsed().as_secs_f64();
        let left = record.seconds * (self.epochs - record.epoch) as f64;
        let speed = self.images as f64 / elapsed.max(1e-9);
        let mut line = format!(
            "  epoch {:>2}/{}  loss {:.4}  accuracy {:.2} %  {:.1} s",
            record.epoch, self.epochs, record.train_loss, record.test_accuracy, record.seconds
        );
        if verbosity() > 1 || !self.interactive {
            line += &format!("  {speed:.0} images/s");
        }
        if left >= 1.0 && !self.interactive {
            line += &format!("  {left:.0} s left");
        }
        self.say(&line);
    }

    fn job_finished(&mut self, _: &Job) {
        self.bar.finish_and_clear();
    }

    fn stage(&mut self, what: &str) {
        self.say(&paint(Style::Faint, what));
    }

    fn advanced(&mut self, what: &str, done: u64, of: u64) {
        if self.bar.length() != Some(of) {
            self.show_bar(done, of);
        }
        self.bar.set_message(what.to_string());
        self.bar.set_position(done);
        if done == of {
            self.bar.finish_and_clear();
        }
    }

    fn note(&mut self, text: &str) {
        self.say(text);
    }
}
