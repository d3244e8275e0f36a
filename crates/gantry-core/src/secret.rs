//! A value that must not be shown. `Debug` and `Display` print `[MASKED]`; the only way to the text
//! is [`Secret::expose`], one word to grep for. There is deliberately no `Serialize`: the one
//! encoder that may write secrets lives in `gantry-wire`.

use std::fmt;

use serde::Deserialize;

/// What is printed in place of a secret, here and in job logs (GitLab's own word).
pub const MASKED: &str = "[MASKED]";

/// A token, password or variable value.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Every call is a place where a secret may leave the program.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASKED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASKED)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_its_text() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "[MASKED] [MASKED]");
        assert_eq!(secret.expose(), "hunter2");
    }
}
