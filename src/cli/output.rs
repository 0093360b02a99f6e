//! What goes to the terminal, and in which colours.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU8, Ordering};

/// The roles of text that stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// The word before an error.
    Error,
    /// What a stage is called.
    Stage,
    /// Good news.
    Good,
    /// What can be skipped.
    Faint,
}

/// `text` in its colour, if standard error is a terminal and `NO_COLOR` is not set.
pub fn paint(style: Style, text: &str) -> String {
    let code = match style {
        Style::Error => "1;31",
        Style::Stage => "1",
        Style::Good => "32",
        Style::Faint => "2",
    };
    match colours() {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_string(),
    }
}

fn colours() -> bool {
    let disabled = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !disabled && io::stderr().is_terminal()
}

/// How much is said on the way: 0 nothing (`-q`), 1 stages and epochs, 2 also details (`-v`).
static VERBOSITY: AtomicU8 = AtomicU8::new(1);

/// Sets how much is said on the way.
pub fn set_verbosity(level: u8) {
    VERBOSITY.store(level, Ordering::Relaxed);
}

/// How much is said on the way.
pub fn verbosity() -> u8 {
    VERBOSITY.load(Ordering::Relaxed)
}

/// A byte count in the unit that fits: `6.2 MB`.
pub fn bytes(n: usize) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_scaled() {
        assert_eq!([bytes(999), bytes(6_220_000), bytes(2_000_000_000)], ["999 B", "6.2 MB", "2.00 GB"]);
    }
}
