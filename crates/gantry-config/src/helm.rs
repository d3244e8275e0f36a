//! Texts that Helm should have filled in: in a chart's values a configuration is a template.

/// What to do about one.
pub(crate) const RENDER: &str = "this is a template of Helm: render it first (`helm template …`)";

/// Whether a text that is wrong is so because of Helm's braces.
pub(crate) fn has_braces(text: &str) -> bool {
    text.contains("{{")
}

/// Whether a text that nobody objects to is one that Helm should have filled in. Other programs
/// have such braces too, as in `docker ps --format '{{.ID}}'`.
pub(crate) fn is_template(text: &str) -> bool {
    const WORDS: [&str; 6] = [".Capabilities.", ".Chart.", ".Release.", ".Values.", "include \"", "template \""];
    let inside = text.split("{{").skip(1).map(|rest| rest.split_once("}}").map_or(rest, |(inside, _)| inside));
    inside.into_iter().any(|inside| WORDS.iter().any(|word| inside.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::is_template;

    #[test]
    fn templates_of_helm_and_others() {
        for text in ["{{.Release.Namespace}}", "a-{{ printf \"%s\" .Values.x | quote }}", "{{- include \"x\" . }}"] {
            assert!(is_template(text), "{text}");
        }
        for text in ["docker ps --format '{{.ID}}'", "{{ .Name }} .Values.x", ".Values.x", "{{"] {
            assert!(!is_template(text), "{text}");
        }
    }
}
