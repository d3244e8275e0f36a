//! Secrets in URLs: the values of a few query parameters are replaced, whoever prints the URL.
//! Nothing is ever held back, because the names of the parameters may be shown.

use gantry_core::secret::MASKED;

/// Names of secret parameters in lower case (GitLab Runner 19.4, `common/buildlogger`).
const KEYS: [&str; 6] =
    ["private_token", "authenticity_token", "rss_token", "x-amz-signature", "x-amz-credential", "x-amz-security-token"];

/// Longest of [`KEYS`].
const LONGEST_KEY: usize = 20;

/// Where a stream stands.
#[derive(Debug, Default)]
pub(crate) struct UrlParams {
    place: ParsePosition,
}

#[derive(Debug, Default)]
enum ParsePosition {
    /// Anywhere else.
    #[default]
    Text,
    /// After `?` or `&`, with the name so far in lower case.
    Key { name: [u8; LONGEST_KEY], len: usize },
    /// In a value that is replaced.
    Value,
}

impl UrlParams {
    /// Takes bytes and appends the result to `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = match &mut self.place {
                ParsePosition::Text => {
                    let used = rest.iter().position(|byte| opens(*byte)).map_or(rest.len(), |at| at + 1);
                    let (passed, _) = rest.split_at(used);
                    if passed.last().copied().is_some_and(opens) {
                        self.place = ParsePosition::key();
                    }
                    out.extend_from_slice(passed);
                    used
                }
                ParsePosition::Key { name, len } => {
                    let byte = rest[0];
                    out.push(byte);
                    self.place = match byte {
                        b'=' if is_secret(&name[..*len]) => {
                            out.extend_from_slice(MASKED.as_bytes());
                            ParsePosition::Value
                        }
                        byte if opens(byte) => ParsePosition::key(),
                        byte => longer(*name, *len, byte),
                    };
                    1
                }
                ParsePosition::Value => {
                    let end = rest.iter().position(|byte| closes(*byte));
                    if end.is_some() {
                        self.place = ParsePosition::Text;
                    }
                    end.unwrap_or(rest.len())
                }
            };
            rest = &rest[used..];
        }
    }

    /// Forgets a name or value that has begun.
    pub(crate) fn reset(&mut self) {
        self.place = ParsePosition::Text;
    }
}

impl ParsePosition {
    fn key() -> Self {
        Self::Key { name: [0; LONGEST_KEY], len: 0 }
    }
}

/// The name with one more byte, or text if no secret parameter begins that way.
fn longer(mut name: [u8; LONGEST_KEY], len: usize, byte: u8) -> ParsePosition {
    let Some(slot) = name.get_mut(len) else { return ParsePosition::Text };
    *slot = byte.to_ascii_lowercase();
    let len = len + 1;
    if KEYS.iter().any(|key| key.as_bytes().starts_with(&name[..len])) {
        ParsePosition::Key { name, len }
    } else {
        ParsePosition::Text
    }
}

fn is_secret(name: &[u8]) -> bool {
    KEYS.iter().any(|key| key.as_bytes() == name)
}

fn opens(byte: u8) -> bool {
    matches!(byte, b'?' | b'&')
}

fn closes(byte: u8) -> bool {
    opens(byte) || byte == b' ' || byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::{KEYS, LONGEST_KEY, UrlParams};

    fn masked(text: &str, piece: usize) -> String {
        let mut params = UrlParams::default();
        let mut out = Vec::new();
        for part in text.as_bytes().chunks(piece) {
            params.push(part, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn replaces_values_of_secret_parameters_only() {
        assert_eq!(KEYS.iter().map(|key| key.len()).max(), Some(LONGEST_KEY));
        for (text, expected) in [
            ("?rss_token=a&x-amz-credential=&k=v", "?rss_token=[MASKED]&x-amz-credential=[MASKED]&k=v"),
            ("rss_token=x", "rss_token=x"),
            ("u?a=1&PRIVATE_token=Ab.c/d\tz", "u?a=1&PRIVATE_token=[MASKED]\tz"),
            ("?rss_token=a?private_token=b", "?rss_token=[MASKED]?private_token=[MASKED]"),
            ("?rss_tokens=a ?rss_toke=b ?&rss_token=c", "?rss_tokens=a ?rss_toke=b ?&rss_token=[MASKED]"),
            ("?x-amz-security-token=abc def", "?x-amz-security-token=[MASKED] def"),
            ("?x-amz-security-token2=abc", "?x-amz-security-token2=abc"),
        ] {
            for piece in 1..=text.len() {
                assert_eq!(masked(text, piece), expected, "{text} by {piece}");
            }
        }
    }
}
