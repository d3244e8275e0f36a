//! Keeps secrets out of what people read before the agent masks the job log: lines of the head,
//! errors of planning, the pod's spec.

use gantry_core::Secret;
use gantry_core::secret::MASKED;
use gantry_core::variables::Variable;

use crate::PlanError;
use crate::head::HeadLine;

/// Shortest value that is looked for inside of other texts: GitLab masks nothing shorter than 8
/// characters, and shorter ones (`true`, a port) would be found everywhere. A whole text that
/// equals a shorter one still counts.
const SHORTEST_PART: usize = 8;

/// The secrets of one job. There is deliberately no way to list them.
pub(crate) struct Redactor {
    /// Longest first: name of the variable, value.
    values: Vec<(String, Secret)>,
    /// Each value as it is and as `{:?}` writes it, longest first.
    forms: Vec<Secret>,
}

impl Redactor {
    /// Knows the masked ones of `variables`, which are expanded, and the job token.
    pub(crate) fn new<'v>(variables: impl Iterator<Item = &'v Variable>, token: &Secret) -> Self {
        let masked = variables.filter(|variable| variable.masked);
        let mut values: Vec<(String, Secret)> = masked
            .map(|variable| (variable.key.clone(), Secret::new(variable.value.expose().trim())))
            .chain([("CI_JOB_TOKEN".to_owned(), token.clone())])
            .filter(|(_, value)| !value.is_empty())
            .collect();
        values.sort_by_key(|(_, value)| std::cmp::Reverse(value.expose().len()));
        let mut forms: Vec<Secret> = values
            .iter()
            .flat_map(|(_, value)| {
                let escaped = format!("{:?}", value.expose());
                let escaped = escaped.get(1..escaped.len().saturating_sub(1)).unwrap_or_default();
                [value.clone(), Secret::new(escaped)]
            })
            .collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.expose().len()));
        forms.dedup();
        Self { values, forms }
    }

    /// The variable whose value can be read in `text`.
    pub(crate) fn found_in(&self, text: &str) -> Option<&str> {
        let is_in = |value: &str| value == text.trim() || (value.len() >= SHORTEST_PART && text.contains(value));
        self.values.iter().find(|(_, value)| is_in(value.expose())).map(|(name, _)| name.as_str())
    }

    /// `text` for a line of the job log: without secrets, and without characters that would make it
    /// more than a line.
    pub(crate) fn line(&self, text: &str) -> String {
        let present: Vec<&str> = self.forms.iter().map(Secret::expose).filter(|value| text.contains(value)).collect();
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(value) = present.iter().find(|value| rest.starts_with(**value)) {
                out.push_str(MASKED);
                rest = rest.get(value.len()..).unwrap_or_default();
            } else {
                if first.is_control() {
                    out.extend(first.escape_default());
                } else {
                    out.push(first);
                }
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
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

    fn redactor(values: &[&str]) -> Redactor {
        let masked = |value: &&str| Variable { masked: true, ..Variable::made("SECRET", *value) };
        let list: Vec<Variable> = values.iter().map(masked).collect();
        Redactor::new(list.iter(), &Secret::new("glcbt-tok3n"))
    }

    #[test]
    fn lines_lose_secrets_and_control_characters() {
        let redactor = redactor(&["hunter2", "hunter2-longer", "a\"b\nc", "MASK"]);
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
            assert_eq!(redactor.line(text), shown, "{text}");
        }
    }

    #[test]
    fn short_values_are_found_only_whole() {
        let redactor = redactor(&["true", "long-enough"]);
        assert_eq!(redactor.found_in("true"), Some("SECRET"));
        assert_eq!(redactor.found_in("construed"), None);
        assert_eq!(redactor.found_in("postgres://u:long-enough@db"), Some("SECRET"));
    }
}
