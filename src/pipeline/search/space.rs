//! What a search draws from.

use super::super::grid::{Axis, Target};
use super::pattern::{self, Pattern};
use crate::distill::Domain;
use crate::error::{Error, Result};
use crate::recipes::{find, Named};
use crate::tensor::random::Sequence;

/// One thing that is searched: `KEY=VALUE,VALUE,…`, `KEY=LOW..HIGH`, or `student-model=` and names with ranges in them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dimension {
    pub(super) axis: Axis,
    source: Source,
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    /// The axis's own.
    Listed,
    /// Those in between.
    Between(Range),
    /// Architectures of any of these kinds.
    Names(Vec<Pattern>),
}

/// Numbers between two ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    low: f64,
    high: f64,
    whole: bool,
}

/// A range whose ends differ by this factor or more is drawn from evenly on a logarithmic scale.
const DECADE: f64 = 10.0;

impl Range {
    /// From `low` to `high`; `text` is what the range stands in.
    ///
    /// # Errors
    /// It is empty.
    pub(super) fn new(text: &str, low: f64, high: f64, whole: bool) -> Result<Range> {
        match low < high {
            true => Ok(Range { low, high, whole }),
            false => {
                let reason = format!("`{text}` is empty: the first number must be the smaller");
                Err(Error::argument("space", reason))
            }
        }
    }

    fn written(self, value: f64) -> String {
        match self.whole {
            true => format!("{value:.0}"),
            false => value.to_string(),
        }
    }

    /// The smaller end.
    pub(super) fn low(&self) -> String {
        self.written(self.low)
    }

    /// The larger end.
    pub(super) fn high(&self) -> String {
        self.written(self.high)
    }

    /// Whether a number lies between the ends.
    pub(super) fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// A number.
    pub(super) fn draw(&self, random: &mut Sequence) -> String {
        let Range { low, high, whole } = *self;
        let u = f64::from(random.uniform());
        let value = match low > 0.0 && high / low >= DECADE {
            true => (low.ln() + u * (high.ln() - low.ln())).exp(),
            false => low + u * (high - low),
        };
        match whole {
            true => self.written(value.round()),
            // Three digits say all that a draw does, and can be typed again.
            false => self.written(format!("{value:.2e}").parse::<f64>().unwrap_or(value).clamp(low, high)),
        }
    }
}

impl Dimension {
    /// Reads a dimension.
    ///
    /// # Errors
    /// It is of none of the forms, or the key is nothing that students can differ in.
    pub(super) fn parse(text: &str) -> Result<Dimension> {
        let (key, values) = text.split_once('=').map_or((text, ""), |(key, values)| (key.trim(), values));
        if key == "student-model" {
            let axis = Axis::parse(text)?;
            let names = axis.values.iter().map(|name| Pattern::parse(name)).collect::<Result<_>>()?;
            return Ok(Dimension { axis, source: Source::Names(names) });
        }
        let Some((low, high)) = values.split_once("..") else {
            return Ok(Dimension { axis: Axis::parse(text)?, source: Source::Listed });
        };
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|x| x.is_finite());
        let (Some(low), Some(high)) = (number(low), number(high)) else {
            return Err(Error::argument(
                "space",
                format!("`{text}` is not KEY=LOW..HIGH; an example: temperature=1..10"),
            ));
        };
        let range = Range::new(text, low, high, is_whole(key))?;
        // The axis checks the key and what kind of value it takes.
        let axis = Axis::parse(&format!("{key}={},{}", range.low(), range.high()))?;
        Ok(Dimension { axis, source: Source::Between(range) })
    }

    /// One value.
    pub(super) fn draw(&self, random: &mut Sequence) -> String {
        match &self.source {
            Source::Listed => self.axis.values[random.below(self.axis.values.len() as u32) as usize].clone(),
            Source::Between(range) => range.draw(random),
            Source::Names(patterns) => pattern::draw(patterns, random),
        }
    }

    /// Another value: of an architecture's sizes, one.
    fn mutate(&self, value: &str, random: &mut Sequence) -> String {
        match &self.source {
            Source::Names(patterns) => pattern::mutate(patterns, value, random),
            _ => self.draw(random),
        }
    }
}

/// A value for each dimension; `None` where it stays as it comes.
pub(super) type Values = Vec<Option<String>>;

/// Whether only whole numbers are values of an option or a hyperparameter.
fn is_whole(key: &str) -> bool {
    use super::super::options::{Kind, OPTIONS};
    match key.split_once('.') {
        None => OPTIONS.iter().any(|option| option.name == key && option.kind == Kind::Count),
        Some((method, key)) => {
            let hyperparameters = match find(method) {
                Ok(Named::Method(info)) => info.hyperparameters,
                Ok(Named::Recipe(info)) => info.hyperparameters,
                Err(_) => &[],
            };
            hyperparameters.iter().any(|h| h.name == key && matches!(h.domain, Domain::Count { .. }))
        }
    }
}

/// A value for each dimension.
pub(super) fn draw(space: &[Dimension], random: &mut Sequence) -> Values {
    space.iter().map(|dimension| Some(dimension.draw(random))).collect()
}

/// The same values but for one dimension's.
pub(super) fn mutate(space: &[Dimension], values: &Values, random: &mut Sequence) -> Values {
    let at = random.below(space.len() as u32) as usize;
    let mut values = values.clone();
    values[at] = Some(match &values[at] {
        Some(value) => space[at].mutate(value, random),
        None => space[at].draw(random),
    });
    values
}

/// The methods whose hyperparameters are searched.
pub(super) fn methods_of(space: &[Dimension]) -> impl Iterator<Item = &str> {
    let hyperparameters = space.iter().filter(|dimension| dimension.axis.target == Target::Hyperparameter);
    hyperparameters.filter_map(|dimension| dimension.axis.key.split_once('.').map(|(method, _)| method))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Rng;

    fn draws(text: &str) -> Vec<f64> {
        let dimension = Dimension::parse(text).unwrap();
        let mut random = Rng::new(1, 2).sequence();
        (0..400).map(|_| dimension.draw(&mut random).parse().unwrap()).collect()
    }

    #[test]
    fn draws_lie_within_their_range_and_over_decades_evenly_by_their_logarithm() {
        let weights = draws("at.weight=10..1000");
        assert!(weights.iter().all(|w| (10.0..=1000.0).contains(w)));
        let below = weights.iter().filter(|w| **w < 100.0).count();
        assert!((160..240).contains(&below), "{below} of 400 below the geometric middle");
        let temperatures = draws("temperature=1..9");
        let below = temperatures.iter().filter(|t| **t < 5.0).count();
        assert!((160..240).contains(&below), "{below} of 400 below the middle");
        assert!(draws("epochs=2..5").iter().all(|e| e.fract() == 0.0 && (2.0..=5.0).contains(e)));
        assert!(draws("reviewkd.mid-channels=1..3").iter().all(|c| c.fract() == 0.0));
        let choices = draws("temperature=1,4");
        assert!(choices.contains(&1.0) && choices.contains(&4.0) && choices.iter().all(|t| [1.0, 4.0].contains(t)));
    }

    #[test]
    fn a_mutation_changes_one_dimension() {
        let space = ["temperature=1..9", "student-model=cnn-4..32-fc16..128", "lr=0.1,0.2"];
        let space = space.map(|text| Dimension::parse(text).unwrap());
        let mut random = Rng::new(1, 2).sequence();
        let parent = draw(&space, &mut random);
        for _ in 0..100 {
            let child = mutate(&space, &parent, &mut random);
            assert!(child.iter().zip(&parent).filter(|(now, before)| now != before).count() <= 1, "{child:?}");
        }
        let child = mutate(&space, &vec![None; 3], &mut random);
        assert_eq!(child.iter().flatten().count(), 1, "the other dimensions stay as they come");
    }

    #[test]
    fn spaces_that_cannot_be_drawn_from_are_refused() {
        for (text, reason) in [
            ("temperature=5..1", "is empty"),
            ("temperature=a..b", "is not KEY=LOW..HIGH"),
            ("temprature=1..2", "did you mean `temperature`"),
            ("optimizer", "KEY=VALUE"),
            ("student-model=", "KEY=VALUE"),
            ("student-model=cnn-4..8,mlp-x", "such as mlp-20-20"),
        ] {
            let error = Dimension::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
