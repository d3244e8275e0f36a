//! "Did you mean …": the nearest known name.

/// Names longer than this get no suggestion; it bounds the work for hostile names.
const MAX_NAME: usize = 64;

/// How many known names are compared; the same bound for files with a great many jobs.
const MAX_KNOWN: usize = 500;

/// A hint to append to a message, or nothing if no known name is near.
pub(super) fn hint<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let limit = name.chars().count().div_ceil(3).clamp(1, 3);
    known
        .into_iter()
        .take(MAX_KNOWN)
        .filter(|other| *other != name && other.len() <= MAX_NAME)
        .map(|other| (distance(name, other), other))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// How many insertions, deletions and replacements turn `a` into `b`, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (y, pair) in b.iter().zip(row.windows(2)) {
            let [diagonal, above] = pair else { continue };
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(x != *y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["script", "before_script", "stage", "needs"];
        assert_eq!(nearest("scrpt", known), Some("script"));
        assert_eq!(nearest("Stages", known), Some("stage"));
        assert_eq!(nearest("befor_script", known), Some("before_script"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(hint("need", known), "; did you mean `needs`?");
    }
}
