//! Tokens of GitLab by their prefix: whatever follows `glpat-` and its like is replaced, also where
//! nobody marked the value as masked. The prefix stays visible, so nothing is ever held back.

use gantry_core::secret::MASKED;

use crate::matcher::{Matcher, State};

/// The prefix that is always masked.
const ALWAYS: &str = "glpat-";

/// The prefixes that `FF_MASK_ALL_DEFAULT_TOKENS` adds (GitLab Runner 19.4).
const DEFAULT: [&str; 13] = [
    "gloas-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glrtr-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glsoat-",
    "glffct-",
    "_gitlab_session=",
    "gltok-",
];

/// The prefixes to mask: the default ones, and those that the server names in the job. Trimmed,
/// without duplicates, shortest first.
///
/// GitLab Runner 19.4 keeps only the first 15 of this list, so that server prefixes push out
/// `_gitlab_session=`. Here all of them count: the list costs nothing, and a token that is shown
/// cannot be taken back.
pub fn default_token_prefixes(mask_all: bool, extra: &[String]) -> Vec<String> {
    let default = if mask_all { DEFAULT.as_slice() } else { &[] };
    let mut list: Vec<String> = std::iter::once(ALWAYS)
        .chain(default.iter().copied())
        .chain(extra.iter().map(String::as_str))
        .map(|prefix| prefix.trim().to_owned())
        .filter(|prefix| !prefix.is_empty())
        .collect();
    list.sort_by(|left, right| left.len().cmp(&right.len()).then_with(|| left.cmp(right)));
    list.dedup();
    list
}

/// Where a stream stands.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    place: ParsePosition,
}

#[derive(Clone, Copy, Debug)]
enum ParsePosition {
    /// Outside a token.
    Text(State),
    /// In a token that is replaced.
    Token,
}

impl Default for ParsePosition {
    fn default() -> Self {
        Self::Text(State::default())
    }
}

impl Prefixes {
    /// Takes bytes and appends the result to `out`.
    pub(crate) fn push(&mut self, matcher: &Matcher, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = match self.place {
                ParsePosition::Token => {
                    let end = rest.iter().position(|byte| !is_token_byte(*byte));
                    if end.is_some() {
                        self.place = ParsePosition::default();
                    }
                    end.unwrap_or(rest.len())
                }
                ParsePosition::Text(state) => self.text(matcher, state, rest, out),
            };
            rest = &rest[used..];
        }
    }

    /// Passes text up to the beginning of a token; returns how much.
    fn text(&mut self, matcher: &Matcher, mut state: State, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if matcher.depth(state) == 0 {
                at += matcher.find_start(&bytes[at..]).unwrap_or(bytes.len() - at);
            }
            let Some(byte) = bytes.get(at) else { break };
            if matcher.longest(state) > 0 && is_token_byte(*byte) {
                out.extend_from_slice(&bytes[..at]);
                out.extend_from_slice(MASKED.as_bytes());
                self.place = ParsePosition::Token;
                return at;
            }
            state = matcher.step(state, *byte);
            at += 1;
        }
        out.extend_from_slice(bytes);
        self.place = ParsePosition::Text(state);
        bytes.len()
    }

    /// Forgets a prefix or token that has begun.
    pub(crate) fn reset(&mut self) {
        self.place = ParsePosition::default();
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'=' | b'-')
}

#[cfg(test)]
mod tests {
    use super::{Prefixes, default_token_prefixes};
    use crate::matcher::Matcher;

    fn masked(prefixes: &[String], text: &str, piece: usize) -> String {
        let matcher = Matcher::new(prefixes.iter().map(String::as_bytes));
        let mut stage = Prefixes::default();
        let mut out = Vec::new();
        for part in text.as_bytes().chunks(piece) {
            stage.push(&matcher, part, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replaces_what_follows_a_prefix() {
        let list = default_token_prefixes(true, &[" my- ".to_owned(), String::new(), "glpat-".to_owned()]);
        for (text, expected) in [
            ("xglpat-ab_c=. end glpat- z", "xglpat-[MASKED] end glpat- z"),
            ("glrtr-x glrt-y", "glrtr-[MASKED] glrt-[MASKED]"),
            ("glpatglpat-a/b", "glpatglpat-[MASKED]/b"),
            ("_gitlab_session=abc; glpat-glpat-x!", "_gitlab_session=[MASKED]; glpat-[MASKED]!"),
            ("my-secret glpat-[MASKED]", "my-[MASKED] glpat-[MASKED]"),
            ("glpat-", "glpat-"),
            ("glpat-ü", "glpat-ü"),
        ] {
            for piece in 1..=text.len() {
                assert_eq!(masked(&list, text, piece), expected, "{text} by {piece}");
            }
        }
    }

    #[test]
    fn the_list_is_sorted_and_complete() {
        assert_eq!(default_token_prefixes(false, &[]), ["glpat-"]);
        let list = default_token_prefixes(true, &["zz".to_owned(), "zz".to_owned()]);
        assert_eq!(list.len(), 15);
        assert_eq!(list.first().map(String::as_str), Some("zz"));
        assert_eq!(list.last().map(String::as_str), Some("_gitlab_session="));
    }
}
