//! Flags as Go's command lines take them: `--x v`, `--x=v`, `-x v`, `-x=v`, anywhere up to a bare
//! `--`; a value may begin with `-`. Known ones may also come by a variable. A newer runner may
//! send flags that nobody here knows: those are a warning.

use std::collections::BTreeMap;

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// A value; the last one counts.
    Value,
    /// A value, each time.
    Values,
    /// None.
    Nothing,
}

/// Flags of all sub-commands: name, what it takes, and the variable that stands for it.
const FLAGS: [(&str, Takes, &str); 48] = [
    ("id", Takes::Value, "CI_JOB_ID"),
    ("token", Takes::Value, "CI_JOB_TOKEN"),
    ("url", Takes::Value, ""),
    ("tls-ca-file", Takes::Value, "CI_SERVER_TLS_CA_FILE"),
    ("tls-cert-file", Takes::Value, "CI_SERVER_TLS_CERT_FILE"),
    ("tls-key-file", Takes::Value, "CI_SERVER_TLS_KEY_FILE"),
    ("path", Takes::Values, ""),
    ("exclude", Takes::Values, ""),
    ("untracked", Takes::Nothing, ""),
    ("verbose", Takes::Nothing, ""),
    ("retry", Takes::Value, ""),
    ("retry-time", Takes::Value, ""),
    ("transfer-meter-frequency", Takes::Value, ""),
    ("name", Takes::Value, ""),
    ("expire-in", Takes::Value, ""),
    ("artifact-format", Takes::Value, ""),
    ("artifact-type", Takes::Value, ""),
    ("compression-level", Takes::Value, ""),
    ("compression-format", Takes::Value, "CACHE_COMPRESSION_FORMAT"),
    ("timeout", Takes::Value, ""),
    ("response-header-timeout", Takes::Value, ""),
    ("ci-debug-trace", Takes::Nothing, "CI_DEBUG_TRACE"),
    ("direct-download", Takes::Nothing, ""),
    ("archiver-staging-dir", Takes::Value, ""),
    ("generate-artifacts-metadata", Takes::Nothing, ""),
    ("runner-id", Takes::Value, ""),
    ("repo-url", Takes::Value, ""),
    ("repo-digest", Takes::Value, ""),
    ("job-name", Takes::Value, ""),
    ("executor-name", Takes::Value, ""),
    ("runner-name", Takes::Value, ""),
    ("started-at", Takes::Value, ""),
    ("ended-at", Takes::Value, ""),
    ("schema-version", Takes::Value, ""),
    ("metadata-parameter", Takes::Values, ""),
    ("file", Takes::Value, ""),
    ("alternate-file", Takes::Value, ""),
    ("alternate-url", Takes::Value, ""),
    ("gocloud-url", Takes::Value, ""),
    ("alternate-gocloud-url", Takes::Value, ""),
    ("head-url", Takes::Value, ""),
    ("alternate-head-url", Takes::Value, ""),
    ("check-url", Takes::Value, ""),
    ("header", Takes::Values, ""),
    ("env-file", Takes::Value, ""),
    ("max-uploaded-archive-size", Takes::Value, "CACHE_MAX_UPLOADED_ARCHIVE_SIZE"),
    ("port", Takes::Values, ""),
    ("wait-file-timeout", Takes::Value, ""),
];

/// More flags with a value: those of transfers, which this program tunes by itself, and those of
/// the log.
const TUNING: [&str; 9] =
    ["metadata", "transfer-buffer-size", "chunk-size", "concurrency", "offset", "log-level", "log-format", "l", "p"];

/// Flags that stand before the sub-command.
const GLOBAL: [&str; 3] = ["log-level", "log-format", "l"];

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Flags {
    values: BTreeMap<String, Vec<String>>,
    /// What is no flag.
    pub(super) words: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// The sub-command and what follows it; global flags may stand before.
pub(super) fn command(words: &[String]) -> Option<(&str, &[String])> {
    let mut at = 0;
    loop {
        let word = words.get(at)?;
        let Some(flag) = word.strip_prefix('-') else { return Some((word, words.get(at + 1..)?)) };
        let name = flag.trim_start_matches('-');
        at += if GLOBAL.contains(&name) { 2 } else { 1 };
    }
}

impl Flags {
    /// Reads what follows the sub-command.
    pub(super) fn read(words: &[String], variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut flags = Self::default();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                flags.words.extend(words.by_ref().cloned());
                break;
            }
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|flag| !flag.is_empty())
            else {
                flags.words.push(word.clone());
                continue;
            };
            let (name, value) =
                flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
            match takes(name) {
                Some(Takes::Nothing) => flags.set(name, value.unwrap_or_else(|| "true".to_owned())),
                Some(_) => {
                    let value = value.or_else(|| words.next().cloned()).unwrap_or_default();
                    flags.set(name, value);
                }
                None => {
                    flags.warnings.push(format!("--{name} is no flag of this helper and is ignored"));
                    if value.is_none() && words.peek().is_some_and(|next| !next.starts_with('-')) {
                        words.next();
                    }
                }
            }
        }
        for (name, _, from) in FLAGS {
            if !from.is_empty()
                && !flags.values.contains_key(name)
                && let Some(value) = variable(from)
            {
                flags.set(name, value);
            }
        }
        flags
    }

    fn set(&mut self, name: &str, value: String) {
        self.values.entry(name.to_owned()).or_default().push(value);
    }

    /// The value of a flag, if it was given and is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.last().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All values of a flag.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a switch is on. An empty value counts as on, as in Go.
    pub(super) fn is_on(&self, name: &str) -> bool {
        let value = self.values.get(name).and_then(|values| values.last());
        value.is_some_and(|value| value.is_empty() || gantry_core::feature_flags::parse_bool(value).unwrap_or(false))
    }
}

/// What a sub-command says of its flags.
pub(super) fn help(command: &str) -> String {
    let mut text = format!(
        "usage: gitlab-runner-helper {command} [FLAGS]\n\nTakes the flags of GitLab Runner's helper, of which these mean \
         something to it or to others of its commands:\n\n"
    );
    for (name, takes, variable) in FLAGS {
        text.extend(["  --", name]);
        text.push_str(match takes {
            Takes::Value => " VALUE",
            Takes::Values => " VALUE (again for more)",
            Takes::Nothing => "",
        });
        if !variable.is_empty() {
            text.extend([" [$", variable, "]"]);
        }
        text.push('\n');
    }
    text
}

fn takes(name: &str) -> Option<Takes> {
    let known = FLAGS.iter().find(|(known, ..)| *known == name).map(|(_, takes, _)| *takes);
    known.or_else(|| (TUNING.contains(&name)).then_some(if name == "p" { Takes::Values } else { Takes::Value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn flags_come_in_every_form_of_go() {
        let line = words("--token -dash --path=a -path b --untracked --verbose=false --new x --url u rest -- --id 1");
        let flags = Flags::read(&line, |name| (name == "CI_JOB_ID").then(|| "7".to_owned()));
        assert_eq!((flags.get("token"), flags.get("url"), flags.get("id")), (Some("-dash"), Some("u"), Some("7")));
        assert_eq!(flags.all("path"), ["a", "b"]);
        assert!(flags.is_on("untracked") && !flags.is_on("verbose"));
        assert_eq!(flags.words, ["rest", "--id", "1"]);
        assert_eq!(flags.warnings.len(), 1);
    }

    #[test]
    fn the_sub_command_is_found_behind_global_flags() {
        let line = words("--log-level debug --debug read-logs --path x");
        assert_eq!(command(&line).map(|(command, rest)| (command, rest.len())), Some(("read-logs", 2)));
        assert_eq!(command(&words("--version")), None);
    }
}
