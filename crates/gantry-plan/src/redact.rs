//! Keeps secrets out of what people read before the agent masks the job log: lines of the head,
//! errors of planning, the pod's spec.

use gantry_core::Secret;
use gantry_core::redactor::Redactor;
use gantry_core::variables::Variable;

use crate::PlanError;
use crate::head_line::HeadLine;

/// Shortest value that is looked for inside of other texts: GitLab masks nothing shorter than 8
/// characters, and shorter ones (`true`, a port) would be found everywhere. A whole text that
/// equals a shorter one still counts.
const SHORTEST_PART: usize = 8;

/// The secrets of one job. There is deliberately no way to list them.
pub(crate) struct JobSecrets {
    /// Longest first: name of the variable, value.
    values: Vec<(String, Secret)>,
    redactor: Redactor,
}

impl JobSecrets {
    /// Knows the masked ones of `variables`, which are expanded, and the job token.
    pub(crate) fn new<'v>(variables: impl Iterator<Item = &'v Variable>, token: &Secret) -> Self {
        let masked = variables.filter(|variable| variable.masked);
        let mut values: Vec<(String, Secret)> = masked
            .map(|variable| (variable.key.clone(), Secret::new(variable.value.expose().trim())))
            .chain([("CI_JOB_TOKEN".to_owned(), token.clone())])
            .filter(|(_, value)| !value.is_empty())
            .collect();
        values.sort_by_key(|(_, value)| std::cmp::Reverse(value.expose().len()));
        let redactor = Redactor::new(values.iter().map(|(_, value)| value));
        Self { values, redactor }
    }

    /// The variable whose value can be read in `text`.
    pub(crate) fn found_in(&self, text: &str) -> Option<&str> {
        let is_in = |value: &str| value == text.trim() || (value.len() >= SHORTEST_PART && text.contains(value));
        self.values.iter().find(|(_, value)| is_in(value.expose())).map(|(name, _)| name.as_str())
    }

    /// `text` for a line of the job log: without secrets, and without characters that would make it
    /// more than a line.
    pub(crate) fn line(&self, text: &str) -> String {
        let redacted = self.redactor.redact(text);
        let mut out = String::with_capacity(redacted.len());
        for letter in redacted.chars() {
            if letter.is_control() {
                out.extend(letter.escape_default());
            } else {
                out.push(letter);
            }
        }
        out
    }

    /// Redacts lines of the head.
    pub(crate) fn lines(&self, lines: Vec<HeadLine>) -> Vec<HeadLine> {
        lines.into_iter().map(|line| HeadLine { text: self.line(&line.text), ..line }).collect()
    }

    /// Redacts an error.
    pub(crate) fn error(&self, error: PlanError) -> PlanError {
        match error {
            PlanError::InvalidJob(text) => PlanError::InvalidJob(self.line(&text)),
            PlanError::Configuration(text) => PlanError::Configuration(self.line(&text)),
            PlanError::JobVariable(text) => PlanError::JobVariable(self.line(&text)),
            PlanError::Input { problem, message } => PlanError::Input { problem, message: self.line(&message) },
            PlanError::DisallowedImage(lines) => {
                PlanError::DisallowedImage(lines.iter().map(|line| self.line(line)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> JobSecrets {
        let masked = |value: &&str| Variable { masked: true, ..Variable::made("SECRET", *value) };
        let list: Vec<Variable> = values.iter().map(masked).collect();
        JobSecrets::new(list.iter(), &Secret::new("glcbt-tok3n"))
    }

    #[test]
    fn lines_lose_secrets_and_control_characters() {
        let secrets = secrets(&["hunter2", "hunter2-longer", "a\"b\nc", "MASK"]);
        for (text, shown) in [
            ("x hunter2 y", "x [MASKED] y"),
            ("hunter2-longer", "[MASKED]"),
            ("glcbt-tok3n", "[MASKED]"),
            (&format!("got {:?}", "-a\"b\nc-"), "got \"-[MASKED]-\""),
            ("a\"b\nc", "[MASKED]"),
            ("one\ntwo\x1b[0m", "one\\ntwo\\u{1b}[0m"),
            ("MASK MASKED", "[MASKED] [MASKED]ED"),
            ("hünter", "hünter"),
        ] {
            assert_eq!(secrets.line(text), shown, "{text}");
        }
    }

    #[test]
    fn short_values_are_found_only_whole() {
        let secrets = secrets(&["true", "long-enough"]);
        assert_eq!(secrets.found_in("true"), Some("SECRET"));
        assert_eq!(secrets.found_in("construed"), None);
        assert_eq!(secrets.found_in("postgres://u:long-enough@db"), Some("SECRET"));
    }
}
