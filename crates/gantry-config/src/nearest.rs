//! The known word that a mistyped one probably means.

/// The candidate nearest to `word`, if it is near enough to be meant. Case, `-` and `_` make no
/// difference.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// No key is longer; a longer word is not a mistyped key.
    const LONGEST_WORD: usize = 100;
    if word.len() > LONGEST_WORD {
        return None;
    }
    let word = folded(word);
    let allowed = (word.len() / 4).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &folded(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

fn folded(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
}

/// Insertions, deletions and replacements of one letter that lead from `left` to `right`.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, l) in left.iter().enumerate() {
        let mut diagonal = above;
        let mut before = above + 1;
        for (cell, r) in row.iter_mut().zip(std::iter::once(None).chain(right.iter().map(Some))) {
            let Some(r) = r else {
                *cell = above + 1;
                continue;
            };
            let best = (diagonal + usize::from(l != r)).min(before + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            before = best;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn finds_what_was_meant() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (left, right, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)]
        {
            assert_eq!(distance(&chars(left), &chars(right)), expected, "{left} {right}");
        }
        let keys = ["poll_timeout", "poll_interval", "image", "tls-ca-file"];
        assert_eq!(nearest("poll_timout", keys), Some("poll_timeout"));
        assert_eq!(nearest("tls_ca_file", keys), Some("tls-ca-file"));
        assert_eq!(nearest("volumes", keys), None);
        assert_eq!(nearest(&"x".repeat(5000), keys), None);
    }
}
