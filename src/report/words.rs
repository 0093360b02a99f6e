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
