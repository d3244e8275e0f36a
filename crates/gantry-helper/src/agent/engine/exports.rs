//! What a script's variables are, for the log of a job that is traced (`CI_DEBUG_TRACE`): the
//! shell's own trace begins behind them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use gantry_core::Secret;
use gantry_wire::shim::SecretText;

/// What the log of a job has shown of its variables.
#[derive(Default)]
pub(super) struct Shown(BTreeMap<String, SecretText>);

impl Shown {
    /// A line for each variable that is new or has changed, as a shell traces an `export`. Nothing
    /// in a value is escaped: masks know it as it is.
    pub(super) fn news(&mut self, environment: &[(String, SecretText)]) -> Secret {
        let now: BTreeMap<&str, &SecretText> = environment.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let mut text = String::new();
        for (key, value) in now {
            if self.0.get(key) != Some(value) {
                let _ = writeln!(text, "+ export {key}='{}'", value.0.expose());
                self.0.insert(key.to_owned(), value.clone());
            }
        }
        Secret::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_been_shown_is_not_shown_again() {
        let variable = |key: &str, value: &str| (key.to_owned(), SecretText(value.into()));
        let mut shown = Shown::default();
        let first = shown.news(&[variable("B", "1"), variable("A", "x y"), variable("B", "2")]);
        assert_eq!(first.expose(), "+ export A='x y'\n+ export B='2'\n");
        let second = shown.news(&[variable("A", "x y"), variable("B", "3"), variable("C", "")]);
        assert_eq!(second.expose(), "+ export B='3'\n+ export C=''\n");
    }
}
