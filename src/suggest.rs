//! "Did you mean …?" for misspelt names.

/// The known name that is most like `name`, if one is close enough to be what was meant.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |k: &&&str| edit_distance(&name.to_lowercase(), &k.to_lowercase());
    let best = known.iter().min_by_key(distance)?;
    (distance(&best) <= name.chars().count().max(3) / 2).then_some(*best)
}

/// Insertions, deletions and substitutions between two words (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_strangers_are_not() {
        let known = ["epochs", "batch-size", "temperature"];
        assert_eq!(nearest("epoch", &known), Some("epochs"));
        assert_eq!(nearest("temprature", &known), Some("temperature"));
        assert_eq!(nearest("xyz", &known), None);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
