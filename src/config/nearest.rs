//! The word that was probably meant.

/// The candidate that `word` is most likely a slip of, if one is near enough.
pub(super) fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let word = plain(word);
    let (distance, near) = candidates.iter().map(|near| (distance(&word, &plain(near)), *near)).min()?;
    (distance <= 1.max(word.chars().count() / 3)).then_some(near)
}

/// Letters to insert, leave out, change or swap with their neighbour (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().take(64).collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let mut best = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let keys = ["client_id", "client_auth", "token_endpoint", "ca_file"];
        assert_eq!(nearest("clientid", &keys), Some("client_id"));
        assert_eq!(nearest("Client-ID", &keys), Some("client_id"));
        assert_eq!(nearest("client_di", &keys), Some("client_id"));
        assert_eq!(nearest("tokenendpoint", &keys), Some("token_endpoint"));
        assert_eq!(nearest("colour", &keys), None);
        assert_eq!(nearest("x", &keys), None);
    }
}
