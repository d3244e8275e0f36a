//! Values that are one of a few words.

use crate::nearest::nearest;
use crate::problem::Severity;
use crate::section::{Located, Section};

/// The meaning of the word of `key`; `None` where absent or empty. Any other word is an error.
/// Upper and lower case make no difference.
pub(crate) fn optional<T: Copy>(section: &Section<'_>, key: &'static str, words: &[(&str, T)]) -> Option<T> {
    let found = section.find(key)?;
    let word = found.text().filter(|word| !word.is_empty())?;
    one(&found, &word, words, (Severity::Error, ""))
}

/// The same, but any other word is a warning and means that nothing was said: where the reference
/// does so and nothing is less safe.
pub(crate) fn lenient<T: Copy>(section: &Section<'_>, key: &'static str, words: &[(&str, T)]) -> Option<T> {
    other_means(section, key, words, (" and has no effect", None))
}

/// The same, but any other word has a meaning of its own, if one, and a warning ends in what that
/// is.
pub(crate) fn other_means<T: Copy>(
    section: &Section<'_>,
    key: &'static str,
    words: &[(&str, T)],
    (consequence, meaning): (&str, Option<T>),
) -> Option<T> {
    let found = section.find(key)?;
    let word = found.text().filter(|word| !word.is_empty())?;
    one(&found, &word, words, (Severity::Warning, consequence)).or(meaning)
}

/// The meaning of `word`; another one is a problem, whose message ends in its consequence.
pub(crate) fn one<T: Copy>(
    found: &Located<'_>,
    word: &str,
    words: &[(&str, T)],
    (severity, consequence): (Severity, &str),
) -> Option<T> {
    let meaning = words.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, meaning)| *meaning);
    if meaning.is_none() {
        let list: Vec<&str> = words.iter().map(|(known, _)| *known).filter(|known| !known.is_empty()).collect();
        let message = format!("{word:?} is not one of {}{consequence}", list.join(", "));
        let hint = nearest(word, list).map(|near| format!("did you mean {near}?"));
        found.report.add_with_hint(severity, found.at, &found.path, (message, hint));
    }
    meaning
}
