//! Names of architectures with ranges where their sizes stand: `cnn-4..32-8..64-fc16..128`.

use super::space::Range;
use crate::error::{Error, Result};
use crate::models::architecture;
use crate::tensor::random::Sequence;

/// A name in which any number may be a range. A name without one stands for itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern {
    /// Each range, and what stands before it.
    ranges: Vec<(String, Range)>,
    /// What stands behind the last one.
    end: String,
}

/// The digits at the beginning of a text, and the rest.
fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len())
}

impl Pattern {
    /// Reads a name with `LOW..HIGH` in it.
    ///
    /// # Errors
    /// A range has no whole numbers for its ends or is empty, or its smallest or largest sizes make no architecture's name.
    pub(super) fn parse(text: &str) -> Result<Pattern> {
        let (mut ranges, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("..") {
            let words = before.trim_end_matches(|c: char| c.is_ascii_digit());
            let (high, tail) = split_digits(after);
            let number = |digits: &str| digits.parse::<u32>().ok().map(f64::from);
            let (Some(low), Some(high)) = (number(&before[words.len()..]), number(high)) else {
                let reason =
                    format!("`{text}` has no LOW..HIGH of whole numbers; an example: cnn-4..32-8..64-fc16..128");
                return Err(Error::argument("space", reason));
            };
            ranges.push((words.to_string(), Range::new(text, low, high, true)?));
            rest = tail;
        }
        let pattern = Pattern { ranges, end: rest.to_string() };
        for end in [Range::low, Range::high] {
            architecture(&pattern.with(pattern.ranges.iter().map(|(_, range)| end(range)).collect()))?;
        }
        Ok(pattern)
    }

    /// The name with these numbers.
    fn with(&self, numbers: Vec<String>) -> String {
        let parts = self.ranges.iter().zip(numbers).map(|((words, _), number)| format!("{words}{number}"));
        parts.chain([self.end.clone()]).collect()
    }

    /// A name, each number drawn from its range.
    pub(super) fn draw(&self, random: &mut Sequence) -> String {
        self.with(self.ranges.iter().map(|(_, range)| range.draw(random)).collect())
    }

    /// The numbers that make the pattern this name; `None` if none do.
    fn numbers(&self, name: &str) -> Option<Vec<String>> {
        let mut rest = name;
        let mut numbers = Vec::new();
        for (words, range) in &self.ranges {
            let (digits, tail) = split_digits(rest.strip_prefix(words.as_str())?);
            if !range.contains(digits.parse().ok()?) {
                return None;
            }
            numbers.push(digits.to_string());
            rest = tail;
        }
        (rest == self.end).then_some(numbers)
    }
}

/// One of the patterns, with its numbers drawn.
pub(super) fn draw(patterns: &[Pattern], random: &mut Sequence) -> String {
    patterns[random.below(patterns.len() as u32) as usize].draw(random)
}

/// The name with one of its numbers drawn again; where there are several patterns, that is as likely as another draw of all.
pub(super) fn mutate(patterns: &[Pattern], name: &str, random: &mut Sequence) -> String {
    let own = patterns.iter().find_map(|pattern| Some((pattern, pattern.numbers(name)?)));
    let Some((pattern, mut numbers)) = own else { return draw(patterns, random) };
    let changes = numbers.len() + usize::from(patterns.len() > 1);
    let change = random.below(changes.max(1) as u32) as usize;
    match numbers.get_mut(change) {
        None => return draw(patterns, random),
        Some(number) => *number = pattern.ranges[change].1.draw(random),
    }
    pattern.with(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Rng;
    use std::collections::BTreeSet;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn every_number_may_be_a_range_and_every_family_is_drawn() {
        let space = patterns(&["cnn-4..40-8-fc16..17", "mlp-2..3", "student_net"]);
        let mut random = Rng::new(1, 2).sequence();
        let drawn: Vec<String> = (0..600).map(|_| draw(&space, &mut random)).collect();
        assert!(drawn.iter().all(|name| space.iter().any(|pattern| pattern.numbers(name).is_some())), "{drawn:?}");
        let names: BTreeSet<&String> = drawn.iter().collect();
        for name in ["mlp-2", "mlp-3", "student_net"] {
            assert!(names.iter().any(|drawn| *drawn == name), "{name}");
        }
        let channels = drawn.iter().filter_map(|name| space[0].numbers(name)).map(|n| n[0].parse::<f64>().unwrap());
        let channels: Vec<f64> = channels.collect();
        let below = channels.iter().filter(|c| **c < 12.65).count() as f64 / channels.len() as f64;
        assert!((0.4..0.6).contains(&below), "{below} of a decade lie below its geometric middle");
    }

    #[test]
    fn a_mutation_changes_one_number_or_the_family() {
        let mut random = Rng::new(1, 3).sequence();
        let one = patterns(&["cnn-4..32-8..64-fc16..128"]);
        for _ in 0..100 {
            let numbers = one[0].numbers(&mutate(&one, "cnn-10-20-fc30", &mut random)).unwrap();
            let changed = numbers.iter().zip(["10", "20", "30"]).filter(|(now, before)| now != before).count();
            assert!(changed <= 1, "{numbers:?}");
        }
        let several = patterns(&["cnn-4..32", "mlp-8..16"]);
        let children: Vec<String> = (0..100).map(|_| mutate(&several, "mlp-8", &mut random)).collect();
        assert!(children.iter().any(|name| name.starts_with("cnn-")));
        assert!(children.iter().filter(|name| name.starts_with("mlp-")).count() > 50);
        assert_eq!(mutate(&patterns(&["student_net"]), "student_net", &mut random), "student_net");
        assert!(mutate(&one, "student_net", &mut random).starts_with("cnn-"), "what is not of the space becomes so");
    }

    #[test]
    fn patterns_that_name_nothing_are_refused() {
        for (text, reason) in [
            ("cnn-..32", "no LOW..HIGH of whole numbers"),
            ("cnn-4..", "no LOW..HIGH"),
            ("cnn-4..8..16", "no LOW..HIGH"),
            ("cnn-4.5..8", "names no convolutional network"),
            ("cnn-32..4", "is empty"),
            ("cnn-0..4", "such as cnn-16-32-fc64"),
            ("mlp-4..99999", "such as mlp-20-20"),
            ("student_nat", "did you mean `student_net`"),
        ] {
            let error = Pattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
