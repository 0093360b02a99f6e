//! How long the rest of many trainings will take.

use std::time::Duration;

/// Counts trainings by how long they should take, relative to one another, and what they took.
#[derive(Default)]
pub(super) struct Clock {
    left: f64,
    trained: f64,
    spent: Duration,
}

impl Clock {
    /// Before the first of trainings whose shares sum to `left`.
    pub(super) fn new(left: f64) -> Clock {
        Clock { left, ..Clock::default() }
    }

    /// One of this share is done.
    pub(super) fn tick(&mut self, share: f64, took: Duration) {
        self.left = (self.left - share).max(0.0);
        self.trained += share;
        self.spent += took;
    }

    /// In words, once there is something to go by.
    pub(super) fn estimate(&self) -> String {
        if self.trained == 0.0 {
            return String::new();
        }
        let seconds = self.spent.as_secs_f64() / self.trained * self.left;
        match seconds {
            s if s < 90.0 => format!("; about {s:.0} s left"),
            s if s < 5400.0 => format!("; about {:.0} min left", s / 60.0),
            s => format!("; about {:.1} h left", s / 3600.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_weighed_by_what_it_costs() {
        let mut clock = Clock::new(1.0 + 1.5 + 40.0);
        assert_eq!(clock.estimate(), "", "nothing to go by");
        clock.tick(1.0, Duration::from_secs(2));
        assert_eq!(clock.estimate(), "; about 83 s left");
        clock.tick(1.5, Duration::from_secs(3));
        assert_eq!(clock.estimate(), "; about 80 s left", "one that costs forty times as much");
        clock.tick(40.0, Duration::from_secs(60));
        assert_eq!(clock.estimate(), "; about 0 s left");
    }
}
