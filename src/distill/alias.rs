//! Walker's alias method (1977): draws from any distribution over n outcomes in constant time.

/// A distribution, prepared for drawing.
pub(super) struct AliasTable {
    /// In each of n columns of equal width: the share of the column's own outcome in parts of 2³², and the outcome that has the rest.
    columns: Vec<(u32, u32)>,
}

impl AliasTable {
    /// Outcomes with these weights, 0 or more; `None` if there is none above 0.
    pub(super) fn new(weights: &[f64]) -> Option<AliasTable> {
        let (n, sum) = (weights.len(), weights.iter().sum::<f64>());
        if !(sum > 0.0 && sum.is_finite()) {
            return None;
        }
        let mut share: Vec<f64> = weights.iter().map(|weight| weight / sum * n as f64).collect();
        let mut columns: Vec<(u32, u32)> = (0..n).map(|i| (u32::MAX, i as u32)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| share[i] < 1.0);
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            columns[low] = ((share[low] * 2f64.powi(32)) as u32, high as u32);
            share[high] -= 1.0 - share[low];
            if share[high] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        Some(AliasTable { columns })
    }

    /// The outcome for 32 random bits: of their product with n, the whole part is the column and the rest decides within it. An
    /// outcome's probability is off by less than n / 2³² of it.
    pub(super) fn draw(&self, bits: u32) -> usize {
        let place = u64::from(bits) * self.columns.len() as u64;
        let column = (place >> 32) as usize;
        let (own, other) = self.columns[column];
        // Written as a mask: a branch that goes either way by chance is expensive.
        let keep = u32::from((place as u32) < own).wrapping_neg();
        (other ^ ((column as u32 ^ other) & keep)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Rng;

    #[test]
    fn outcomes_come_as_often_as_their_weights_say() {
        let weights = [0.0, 1.0, 3.0, 0.5, 0.0, 5.5];
        let (table, mut random) = (AliasTable::new(&weights).unwrap(), Rng::new(1, 2).sequence());
        let mut counts = [0.0; 6];
        (0..100_000).for_each(|_| counts[table.draw(random.next_u32())] += 1e-4);
        for (count, weight) in counts.iter().zip(weights) {
            assert!((count - weight).abs() < 0.1, "{counts:?}");
        }
        assert_eq!((counts[0], counts[4]), (0.0, 0.0));
        assert!(AliasTable::new(&[0.0, 0.0]).is_none() && AliasTable::new(&[]).is_none());
    }
}
