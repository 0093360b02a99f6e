//! What a search draws from.

use super::super::grid::{Axis, Target};
use crate::distill::Domain;
use crate::error::{Error, Result};
use crate::recipes::{find, Named};
use crate::tensor::random::Sequence;

/// One thing that is searched: `KEY=VALUE,VALUE,…`, or `KEY=LOW..HIGH`.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Dimension {
    pub(super) axis: Axis,
    /// Values in between, instead of the axis's own.
    range: Option<Range>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    low: f64,
    high: f64,
    whole: bool,
}

/// A range whose ends differ by this factor or more is drawn from evenly on a logarithmic scale.
const DECADE: f64 = 10.0;

impl Dimension {
    /// Reads `KEY=VALUE,VALUE,…` or `KEY=LOW..HIGH`.
    ///
    /// # Errors
    /// It is of neither form, or the key is nothing that students can differ in.
    pub(in super::super) fn parse(text: &str) -> Result<Dimension> {
        let Some((key, (low, high))) =
            text.split_once('=').and_then(|(key, v)| Some((key.trim(), v.split_once("..")?)))
        else {
            return Ok(Dimension { axis: Axis::parse(text)?, range: None });
        };
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|x| x.is_finite());
        let (Some(low), Some(high)) = (number(low), number(high)) else {
            return Err(Error::argument(
                "space",
                format!("`{text}` is not KEY=LOW..HIGH; an example: temperature=1..10"),
            ));
        };
        if low >= high {
            return Err(Error::argument("space", format!("`{text}` is empty: the first number must be the smaller")));
        }
        let whole = is_whole(key);
        // The axis checks the key and what kind of value it takes.
        let end = |x: f64| if whole { format!("{x:.0}") } else { x.to_string() };
        let axis = Axis::parse(&format!("{key}={},{}", end(low), end(high)))?;
        Ok(Dimension { axis, range: Some(Range { low, high, whole }) })
    }

    /// One value.
    pub(super) fn draw(&self, random: &mut Sequence) -> String {
        let Some(Range { low, high, whole }) = self.range else {
            return self.axis.values[random.below(self.axis.values.len() as u32) as usize].clone();
        };
        let u = f64::from(random.uniform());
        let value = match low > 0.0 && high / low >= DECADE {
            true => (low.ln() + u * (high.ln() - low.ln())).exp(),
            false => low + u * (high - low),
        };
        match whole {
            true => format!("{:.0}", value.round()),
            // Three digits say all that a draw does, and can be typed again.
            false => format!("{value:.2e}").parse::<f64>().unwrap_or(value).clamp(low, high).to_string(),
        }
    }
}

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
pub(super) fn draw<'a>(space: &'a [Dimension], random: &mut Sequence) -> Vec<(&'a Axis, String)> {
    space.iter().map(|dimension| (&dimension.axis, dimension.draw(random))).collect()
}

/// Whether nothing is searched that a student without a teacher would not have: a search of training alone.
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
    fn spaces_that_cannot_be_drawn_from_are_refused() {
        for (text, reason) in [
            ("temperature=5..1", "is empty"),
            ("temperature=a..b", "is not KEY=LOW..HIGH"),
            ("temprature=1..2", "did you mean `temperature`"),
            ("optimizer", "KEY=VALUE"),
        ] {
            let error = Dimension::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
