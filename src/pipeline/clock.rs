//! How long the rest of many trainings will take.

use std::time::Duration;

/// Counts trainings, and what they took.
#[derive(Default)]
pub(super) struct Clock {
    left: usize,
    trained: u32,
    spent: Duration,
}

impl Clock {
    /// Before the first of `left` trainings.
    pub(super) fn new(left: usize) -> Clock {
        Clock { left, ..Clock::default() }
    }

    /// One is done.
    pub(super) fn tick(&mut self, took: Duration) {
        self.left = self.left.saturating_sub(1);
        self.trained += 1;
        self.spent += took;
    }

    /// In words, once there is something to go by.
    pub(super) fn estimate(&self) -> String {
        if self.trained == 0 {
            return String::new();
        }
        let seconds = (self.spent / self.trained).as_secs_f64() * self.left as f64;
        match seconds {
            s if s < 90.0 => format!("; about {s:.0} s left"),
            s if s < 5400.0 => format!("; about {:.0} min left", s / 60.0),
            s => format!("; about {:.1} h left", s / 3600.0),
        }
    }
}
