//! Conclusions in words.

/// Below this probability of being chance, a difference is called significant.
const SIGNIFICANT: f64 = 0.05;

/// What a difference of `gain` points between distilled and baseline students means, given its p-value over `seeds` seeds.
pub fn verdict(gain: f64, p_value: f64, seeds: usize) -> String {
    let size = format!("{:.2} points", gain.abs());
    let chance = match p_value {
        p if p < 0.001 => "p < 0.001".to_string(),
        p => format!("p = {p:.3}"),
    };
    let significant = p_value < SIGNIFICANT;
    let more = match seeds {
        1 => " One seed cannot tell how much another would differ: repeat with --seeds 5.",
        2..=4 if !significant => " More seeds (--seeds 5 or more) would tell more.",
        _ => "",
    };
    match (significant, gain > 0.0) {
        (true, true) => {
            format!("Distillation helped: the student gained {size} ({chance}), more than chance explains.{more}")
        }
        (true, false) => {
            format!("Distillation hurt: the student lost {size} ({chance}), more than chance explains.{more}")
        }
        (false, _) if gain == 0.0 => format!("Distilled and baseline students are equally good ({chance}).{more}"),
        (false, better) => {
            let direction = if better { "better" } else { "worse" };
            format!(
                "The distilled student is {size} {direction}, but that is within noise ({chance}): on these data no benefit of \
                 distillation is shown.{more}"
            )
        }
    }
}

/// Whether accuracies (in percent, of one training each) differ by more than what chance does to a single training judged by
/// `test_images` images: twice the 95 % interval of a binomial proportion.
pub fn spread(what: &str, accuracies: &[f64], test_images: usize) -> String {
    let finite = accuracies.iter().copied().filter(|a| a.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), a| (l.min(a), h.max(a)));
    let p = (high / 100.0).clamp(0.0, 1.0);
    let chance = 196.0 * (p * (1.0 - p) / test_images.max(1) as f64).sqrt();
    let facts = format!(
        "The {what} lie between {low:.2} and {high:.2} %; one training each, ± {chance:.2} points by chance alone"
    );
    match high - low > 2.0 * chance {
        true => format!("{facts}: more than chance explains."),
        false => format!("{facts}: no one of them is shown to be better than the others."),
    }
}
