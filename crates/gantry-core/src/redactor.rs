//! Takes secrets out of text that people and log collectors read. Pure; who knows the secrets and
//! where they could be shown says so.

use std::borrow::Cow;

use crate::secret::{MASKED, Secret};
use crate::user_info;

/// Shortest secret that is looked for. GitLab masks nothing shorter than 8 characters; below 4
/// every line would be full of them.
const SHORTEST: usize = 4;

/// Some secrets, and how they look in a text.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    forms: Vec<Secret>,
}

impl Redactor {
    /// Knows `secrets`, each as it is and as it stands in quotation marks. Blanks around them count
    /// for nothing.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s Secret>) -> Self {
        let mut forms: Vec<Secret> = secrets.into_iter().flat_map(|secret| forms(secret.expose().trim())).collect();
        forms.sort_unstable();
        forms.dedup();
        Self { forms }
    }

    /// `text` without its secrets, and without passwords in URLs.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        redact([self], text)
    }
}

fn forms(secret: &str) -> impl Iterator<Item = Secret> {
    let quoted = format!("{secret:?}");
    let quoted = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    let forms = [Secret::new(secret), Secret::new(quoted)];
    forms.into_iter().filter(|form| form.expose().len() >= SHORTEST)
}

/// `text` without the secrets that any of `redactors` knows, and without passwords in URLs.
pub fn redact<'r, 't>(redactors: impl IntoIterator<Item = &'r Redactor>, text: &'t str) -> Cow<'t, str> {
    let forms = redactors.into_iter().flat_map(|redactor| &redactor.forms).map(Secret::expose);
    let present: Vec<&str> = forms.filter(|form| text.contains(form)).collect();
    if present.is_empty() {
        return user_info::mask(text);
    }
    Cow::Owned(user_info::mask(&without(text, &present)).into_owned())
}

/// Occurrences that overlap become one, so that no rest of a secret stays beside another.
fn without(text: &str, present: &[&str]) -> String {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for form in present {
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| rest.find(form)) {
            let start = from + at;
            spans.push((start, start + form.len()));
            from = start + form.chars().next().map_or(1, char::len_utf8);
        }
    }
    spans.sort_unstable();
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for (start, end) in spans {
        if start >= done {
            out.push_str(text.get(done..start).unwrap_or_default());
            out.push_str(MASKED);
        }
        done = done.max(end);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        Redactor::new(&secrets)
    }

    #[test]
    fn secrets_go_however_they_are_quoted() {
        let redactor = redactor(&["registry.test/canary-1", " say \"canary-2\" \n", "1"]);
        let line = "image \"registry.test/canary-1\": say \"canary-2\" 1";
        assert_eq!(redactor.redact(line), "image \"[MASKED]\": [MASKED] 1");
        assert_eq!(redactor.redact(&format!("{:?}", "say \"canary-2\"")), "\"[MASKED]\"");
        assert!(!format!("{redactor:?}").contains("canary"));
    }

    #[test]
    fn secrets_that_overlap_leave_nothing() {
        let redactor = redactor(&["abcdef", "defghi", "abcd"]);
        assert_eq!(redactor.redact("xabcdefghix abcd abcdabcdef"), "x[MASKED]x [MASKED] [MASKED][MASKED]");
        assert_eq!(redactor.redact("äabcdä"), "ä[MASKED]ä");
    }

    #[test]
    fn several_redactors_are_one() {
        let (one, other) = (redactor(&["abcdef"]), redactor(&["defghi"]));
        assert_eq!(redact([&one, &other], "xabcdefghix http://u:p@h"), "x[MASKED]x http://[MASKED]@h");
        assert_eq!(redact([], "abcdef"), "abcdef");
    }
}
