//! Is a difference more than chance?

/// The mean.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard deviation with n − 1; `None` for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let m = mean(values);
    let squares: f64 = values.iter().map(|x| (x - m).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Two-sided p-value of the paired t-test: how likely a mean difference this large is if the pairs do not really differ. `None`
/// for fewer than two pairs, and where all pairs differ by the same amount: accuracies come in steps of one image, so that a few equal
/// differences are a coincidence and no sign of how little they vary.
pub fn paired_t_test(differences: &[f64]) -> Option<f64> {
    let sd = standard_deviation(differences)?;
    let (n, m) = (differences.len() as f64, mean(differences));
    // Equal steps differ by what rounding leaves of them.
    if sd <= 1e-9 {
        return (m.abs() <= 1e-9).then_some(1.0);
    }
    let t = m / (sd / n.sqrt());
    let df = n - 1.0;
    Some(incomplete_beta(df / 2.0, 0.5, df / (df + t * t)))
}

/// p-values corrected for being a family (Holm 1979): whoever calls those below 0.05 significant errs in one family of twenty, however
/// many comparisons there are. The smallest is multiplied by their number, the next by one less, and so on, never below the one before.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let (mut corrected, mut largest) = (vec![0.0; p_values.len()], 0.0f64);
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max((p_values[i] * (p_values.len() - rank) as f64).min(1.0));
        corrected[i] = largest;
    }
    corrected
}

/// `t` with `P(|T| > t) = 0.05` for Student's distribution with so many degrees of freedom, by bisection.
pub fn t_quantile_95(degrees: usize) -> f64 {
    let df = degrees.max(1) as f64;
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..60 {
        let t = (low + high) / 2.0;
        match incomplete_beta(df / 2.0, 0.5, df / (df + t * t)) > 0.05 {
            true => low = t,
            false => high = t,
        }
    }
    (low + high) / 2.0
}

/// Two-sided p-value of McNemar's exact test: `only_a` samples are right under model A alone, `only_b` under model B alone.
pub fn mcnemar(only_a: u64, only_b: u64) -> f64 {
    let n = only_a + only_b;
    if n == 0 {
        return 1.0;
    }
    let smaller = only_a.min(only_b);
    // P(X ≤ k) of Binomial(n, ½) is the incomplete beta function I_½(n − k, k + 1).
    let tail = incomplete_beta((n - smaller) as f64, (smaller + 1) as f64, 0.5);
    (2.0 * tail).min(1.0)
}

/// The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (Numerical Recipes, 6.4).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    match x < (a + 1.0) / (a + b + 2.0) {
        true => front * beta_fraction(a, b, x) / a,
        false => 1.0 - front * beta_fraction(b, a, 1.0 - x) / b,
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for coefficient in [even, odd] {
            d = 1.0 / away(1.0 + coefficient * d);
            c = away(1.0 + coefficient / c);
            change = c * d;
            fraction *= change;
        }
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{found} instead of {expected}");
    }

    #[test]
    fn t_tests_agree_with_scipy() {
        // scipy.stats.ttest_1samp(differences, 0).pvalue
        close(paired_t_test(&[0.79, 0.6, 1.1, 0.9]).unwrap(), 0.003_919_944_476);
        close(paired_t_test(&[0.1, -0.2, 0.05]).unwrap(), 0.874_011_842_3);
        close(paired_t_test(&[1.0, -1.0]).unwrap(), 1.0);
        assert_eq!(paired_t_test(&[1.0]), None);
        assert_eq!(paired_t_test(&[0.5, 0.5]), None, "two equal steps of one image are a coincidence");
        assert_eq!(paired_t_test(&[0.1 + 0.2, 0.3]), None, "whatever rounding makes of them");
        assert_eq!(paired_t_test(&[0.0, 0.0]), Some(1.0));
    }

    #[test]
    fn corrections_agree_with_r() {
        // p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in corrected.into_iter().zip([0.03, 0.06, 0.06, 0.02]) {
            close(found, expected);
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn quantiles_of_t_agree_with_tables() {
        for (degrees, expected) in [(1, 12.706_204_736), (2, 4.302_652_730), (9, 2.262_157_163), (100, 1.983_971_519)] {
            close(t_quantile_95(degrees), expected);
        }
    }

    #[test]
    fn mcnemar_agrees_with_the_binomial_test_of_scipy() {
        // scipy.stats.binomtest(min, n).pvalue
        close(mcnemar(10, 2), 0.038_574_218_75);
        close(mcnemar(60, 45), 0.171_564_697_1);
        close(mcnemar(5, 5), 1.0);
        assert_eq!(mcnemar(0, 0), 1.0);
    }

    #[test]
    fn mean_and_deviation() {
        close(mean(&[1.0, 2.0, 4.0]), 7.0 / 3.0);
        close(standard_deviation(&[1.0, 2.0, 4.0]).unwrap(), 1.527_525_231_65);
        assert_eq!(standard_deviation(&[1.0]), None);
    }
}
