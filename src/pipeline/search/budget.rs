//! What a student may cost: `parameters=20k,flops=1e6,latency-ms=0.05`.

use crate::error::{Error, Result};
use crate::report::{ArchitectureCost, Limit, Quantity};
use crate::suggest::nearest;

/// Limits, each of another quantity; none for a search without a budget.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Budget {
    pub(super) limits: Vec<Limit>,
}

impl Budget {
    /// Reads `KEY=AMOUNT,…`.
    ///
    /// # Errors
    /// An unknown key (the error names the nearest), one that stands twice, or an amount that is not above 0.
    pub(super) fn parse(text: &str) -> Result<Budget> {
        let wrong = |reason: String| Error::argument("budget", reason);
        let mut limits: Vec<Limit> = Vec::new();
        for part in text.split(',') {
            let example = "parameters=20k,flops=1e6,latency-ms=0.05";
            let (key, most) = part
                .split_once('=')
                .ok_or_else(|| wrong(format!("`{part}` is not KEY=AMOUNT; an example: {example}")))?;
            let (key, most) = (key.trim(), most.trim());
            let quantity = Quantity::ALL.into_iter().find(|quantity| quantity.name() == key).ok_or_else(|| {
                let known = Quantity::ALL.map(Quantity::name);
                let hint =
                    nearest(key, &known).map_or_else(|| ".".to_string(), |name| format!("; did you mean `{name}`?"));
                wrong(format!("`{key}` cannot be limited{hint} Known: {}", known.join(", ")))
            })?;
            let most = amount(most).ok_or_else(|| {
                wrong(format!("{key} must be an amount above 0, found `{most}`; 20000, 20k, 1.5M and 1e6 are amounts"))
            })?;
            if limits.iter().any(|limit| limit.quantity == quantity) {
                return Err(wrong(format!("{key} stands twice")));
            }
            limits.push(Limit { quantity, most });
        }
        Ok(Budget { limits })
    }

    /// Whether latencies must be measured.
    pub(super) fn limits_latency(&self) -> bool {
        self.limits.iter().any(|limit| limit.quantity == Quantity::LatencyMs)
    }

    /// The largest share of a limit that this costs: above 1 if it is over the budget. What was not measured is free.
    pub(super) fn share(&self, cost: &ArchitectureCost) -> f64 {
        let shares = self.limits.iter().filter_map(|limit| Some(cost.of(limit.quantity)? / limit.most));
        shares.fold(0.0, f64::max)
    }

    /// In words: `20,000 parameters and 1.000 MFLOPs an image`.
    pub(super) fn written(&self) -> String {
        let limits = self.limits.iter().map(|limit| limit.quantity.written(limit.most));
        limits.collect::<Vec<_>>().join(" and ")
    }
}

/// A finite number above 0, perhaps in thousands (k), millions (M) or thousands of millions (G).
fn amount(text: &str) -> Option<f64> {
    let units = [("k", 1e3), ("K", 1e3), ("M", 1e6), ("G", 1e9)];
    let scaled = units.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = scaled.unwrap_or((text, 1.0));
    let value = number.parse::<f64>().ok()? * factor;
    (value.is_finite() && value > 0.0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_any_usual_way() {
        let budget = Budget::parse("parameters=20k, flops = 1.5M,latency-ms=5e-2").unwrap();
        let most: Vec<f64> = budget.limits.iter().map(|limit| limit.most).collect();
        assert_eq!(most, [20_000.0, 1_500_000.0, 0.05]);
        assert!(budget.limits_latency() && !Budget::parse("flops=2G").unwrap().limits_latency());
        assert_eq!(budget.written(), "20,000 parameters and 1.500 MFLOPs an image and 0.0500 ms an image");
    }

    #[test]
    fn a_budget_is_kept_in_every_quantity_and_up_to_its_limit() {
        let budget = Budget::parse("parameters=1000,flops=4k").unwrap();
        let share = |parameters, flops| {
            let cost = ArchitectureCost { parameters, flops, latency_ms: Some(9.0), ..ArchitectureCost::default() };
            budget.share(&cost)
        };
        assert_eq!([share(1000, 1000.0), share(500, 6000.0), share(1100, 0.0)], [1.0, 1.5, 1.1]);
        assert_eq!(Budget::default().share(&ArchitectureCost { parameters: 9, ..ArchitectureCost::default() }), 0.0);
    }

    #[test]
    fn budgets_without_sense_are_refused() {
        for (text, reason) in [
            ("paramters=1", "did you mean `parameters`"),
            ("bytes=1", "Known: parameters, flops, latency-ms"),
            ("20000", "is not KEY=AMOUNT"),
            ("", "is not KEY=AMOUNT"),
            ("flops=0", "above 0, found `0`"),
            ("flops=-1", "above 0"),
            ("flops=nan", "above 0"),
            ("flops=inf", "above 0"),
            ("flops=1m", "above 0"),
            ("flops=1,flops=2", "stands twice"),
        ] {
            let error = Budget::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
