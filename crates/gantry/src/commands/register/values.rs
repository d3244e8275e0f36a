//! From the texts of flags and variables to values, by the rules of the reference's flag library
//! (GitLab Runner 19.4). Pure: variables come from the caller. A message never contains the text of
//! a secret.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::{Secret, go_duration};
use serde::Deserialize;
use toml_edit::{Array, InlineTable};

use super::flags::{Flag, Kind};
use super::unread;

/// What a flag was set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Also durations, as written.
    Text(String),
    Secret(Secret),
    Int(i64),
    Bool(bool),
    List(Vec<String>),
    Ints(Vec<i64>),
    Map(BTreeMap<String, String>),
    Switches(BTreeMap<String, bool>),
    Counts(BTreeMap<String, i64>),
    HostAliases(Vec<HostAlias>),
}

impl Setting {
    /// A list of something other than texts, as it is written.
    pub(super) fn structure(&self) -> Option<Array> {
        match self {
            Self::Ints(list) => Some(list.iter().copied().collect()),
            Self::HostAliases(list) => Some(list.iter().map(host_alias).collect()),
            _ => None,
        }
    }
}

fn host_alias(alias: &HostAlias) -> InlineTable {
    let names: Array = alias.hostnames.iter().map(String::as_str).collect();
    let mut table = InlineTable::new();
    table.insert("ip", alias.ip.as_str().into());
    table.insert("hostnames", names.into());
    table
}

/// An address with its names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct HostAlias {
    pub(crate) ip: String,
    #[serde(default)]
    pub(crate) hostnames: Vec<String>,
}

/// A text that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{source_name}: {message}")]
pub(crate) struct BadValue {
    source_name: String,
    message: String,
}

/// Everything that flags and variables say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    by_flag: BTreeMap<String, Setting>,
}

impl Settings {
    /// Reads `given` (the texts of each flag, in order) and the variables of all `flags`.
    ///
    /// # Errors
    /// The first text that cannot be read.
    pub(crate) fn read(
        flags: &[Flag],
        given: &BTreeMap<String, Vec<Secret>>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, BadValue> {
        let mut by_flag = BTreeMap::new();
        for flag in flags {
            let uses: Vec<&str> =
                given.get(&flag.long).into_iter().flatten().map(gantry_core::Secret::expose).collect();
            let variable = flag.env.as_deref().and_then(|name| Some((name, env(name)?)));
            let texts = Texts { variable: variable.as_ref().map(|(_, text)| text.as_str()), uses: &uses };
            let read = setting(flag.kind, &texts).map_err(|message| BadValue {
                source_name: match variable {
                    Some((name, _)) if uses.is_empty() => name.to_owned(),
                    _ => format!("--{}", flag.long),
                },
                message,
            })?;
            by_flag.extend(read.map(|setting| (flag.long.clone(), setting)));
        }
        Ok(Self { by_flag })
    }

    /// What is to be said of variables: those that are empty and so switch something on (GitLab
    /// Runner 19.4), and those that nobody reads. Read are also those that are `named` in files,
    /// and those that a shell has put into `given`.
    pub(crate) fn remarks(
        flags: &[Flag],
        given: &BTreeMap<String, Vec<Secret>>,
        named: &BTreeSet<String>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Vec<String> {
        let known: BTreeMap<&str, Kind> =
            flags.iter().filter_map(|flag| Some((flag.env.as_deref()?, flag.kind))).collect();
        let is_text =
            |long: &str| flags.iter().any(|flag| flag.long == long && matches!(flag.kind, Kind::Text | Kind::Secret));
        let texts = || given.iter().filter(|(long, _)| is_text(long)).flat_map(|(_, texts)| texts);
        let is_given = |value: &str| !value.is_empty() && texts().any(|text| text.expose() == value);
        let remark = |(name, value): (String, String)| match known.get(name.as_str()) {
            Some(Kind::Bool | Kind::OptionalBool) if value.is_empty() => {
                Some(format!("{name} is set and empty, which counts as true: write false, or leave the variable out"))
            }
            Some(_) => None,
            None if named.contains(&name) || is_given(&value) => None,
            None => unread::remark(flags, &name, &value),
        };
        let mut remarks: Vec<String> = env.filter_map(remark).collect();
        remarks.sort();
        remarks
    }

    /// What the flag says; `None` where it says nothing, which an empty text, 0, and no of a plain
    /// boolean do too.
    pub(crate) fn of(&self, flag: &Flag) -> Option<&Setting> {
        let setting = self.by_flag.get(&flag.long)?;
        let nothing = match setting {
            Setting::Text(text) => text.is_empty(),
            Setting::Secret(secret) => secret.is_empty(),
            Setting::Int(number) => flag.kind == Kind::Int && *number == 0,
            Setting::Bool(value) => flag.kind == Kind::Bool && !value,
            Setting::List(list) => list.is_empty(),
            Setting::Ints(list) => list.is_empty(),
            Setting::Map(map) => map.is_empty(),
            Setting::Switches(map) => map.is_empty(),
            Setting::Counts(map) => map.is_empty(),
            Setting::HostAliases(list) => list.is_empty(),
        };
        (!nothing).then_some(setting)
    }

    /// The text of a flag, empty where it is not set.
    pub(crate) fn text(&self, long: &str) -> String {
        match self.by_flag.get(long) {
            Some(Setting::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    /// Whether a flag or its variable is there, even if empty.
    pub(crate) fn is_set(&self, long: &str) -> bool {
        self.by_flag.contains_key(long)
    }

    /// The secret of a flag, empty where it is not set.
    pub(crate) fn secret(&self, long: &str) -> Secret {
        match self.by_flag.get(long) {
            Some(Setting::Secret(secret)) => secret.clone(),
            _ => Secret::default(),
        }
    }

    /// A boolean, `default` where it is not set.
    pub(crate) fn flag(&self, long: &str, default: bool) -> bool {
        match self.by_flag.get(long) {
            Some(Setting::Bool(value)) => *value,
            _ => default,
        }
    }

    /// A number, 0 where it is not set.
    pub(crate) fn int(&self, long: &str) -> i64 {
        match self.by_flag.get(long) {
            Some(Setting::Int(number)) => *number,
            _ => 0,
        }
    }

    /// Replaces what a flag says, with the answer to a question.
    pub(crate) fn answer(&mut self, long: &str, setting: Setting) {
        self.by_flag.insert(long.to_owned(), setting);
    }
}

/// The texts of one flag.
struct Texts<'t> {
    variable: Option<&'t str>,
    uses: &'t [&'t str],
}

impl<'t> Texts<'t> {
    /// The last use counts, and any use more than the variable.
    fn last(&self) -> Option<&'t str> {
        self.uses.last().copied().or(self.variable)
    }

    /// The variable is one element, each use another.
    fn all(&self) -> Vec<&'t str> {
        self.variable.into_iter().chain(self.uses.iter().copied()).collect()
    }

    fn are_absent(&self) -> bool {
        self.variable.is_none() && self.uses.is_empty()
    }
}

fn setting(kind: Kind, texts: &Texts<'_>) -> Result<Option<Setting>, String> {
    if texts.are_absent() {
        return Ok(None);
    }
    let last = texts.last().unwrap_or_default();
    let setting = match kind {
        Kind::Text => Setting::Text(last.to_owned()),
        Kind::Secret => Setting::Secret(Secret::new(last)),
        Kind::Int | Kind::OptionalInt => Setting::Int(int(last)?),
        Kind::Bool | Kind::OptionalBool => Setting::Bool(boolean(last)?),
        Kind::Duration => {
            go_duration::parse(last).map_err(|error| format!("{last:?}: {error}"))?;
            Setting::Text(last.to_owned())
        }
        Kind::List => Setting::List(texts.all().into_iter().map(str::to_owned).collect()),
        Kind::Words => Setting::List(words(texts)),
        Kind::Ints => Setting::Ints(texts.all().into_iter().map(int).collect::<Result<_, _>>()?),
        Kind::Map => {
            Setting::Map(pairs(texts).into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
        }
        Kind::Switches => {
            let switch = |(key, value): (String, Option<String>)| Ok((key, boolean(&value.unwrap_or_default())?));
            Setting::Switches(pairs(texts).into_iter().map(switch).collect::<Result<_, String>>()?)
        }
        Kind::Counts => {
            let count = |(key, value): (String, Option<String>)| Ok((key, int(&value.unwrap_or_default())?));
            Setting::Counts(pairs(texts).into_iter().map(count).collect::<Result<_, String>>()?)
        }
        Kind::HostAliases => Setting::HostAliases(serde_json::from_str(last).map_err(|error| {
            format!("not a JSON list such as [{{\"ip\":\"192.0.2.1\",\"hostnames\":[\"name\"]}}]: {error}")
        })?),
    };
    Ok(Some(setting))
}

fn int(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a whole number"))
}

/// An empty text means yes: a set but empty variable switches on (GitLab Runner 19.4).
fn boolean(text: &str) -> Result<bool, String> {
    crate::arguments::parse_bool(text).map_err(|_| format!("{text:?} is neither true nor false"))
}

/// The uses replace the variable here.
fn words(texts: &Texts<'_>) -> Vec<String> {
    let chosen: Vec<&str> = if texts.uses.is_empty() { texts.all() } else { texts.uses.to_vec() };
    let words = chosen.into_iter().flat_map(|text| text.split(',')).map(str::trim);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Split at the first colon. An empty text is no pair, although the reference makes an empty key of
/// it, which no cluster accepts.
fn pairs(texts: &Texts<'_>) -> Vec<(String, Option<String>)> {
    let split = |text: &str| match text.split_once(':') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    };
    texts.all().into_iter().filter(|text| !text.is_empty()).map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::register::flags;

    fn read(given: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Settings, BadValue> {
        let mut uses: BTreeMap<String, Vec<Secret>> = BTreeMap::new();
        for (flag, text) in given {
            uses.entry((*flag).to_owned()).or_default().push(Secret::new(*text));
        }
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, text)| (*text).to_owned());
        Settings::read(&flags::all(), &uses, &env)
    }

    fn of(given: &[(&str, &str)], env: &[(&str, &str)], long: &str) -> Option<Setting> {
        let flags = flags::all();
        let flag = flags.iter().find(|flag| flag.long == long).unwrap();
        read(given, env).unwrap().of(flag).cloned()
    }

    fn list(items: &[&str]) -> Setting {
        Setting::List(items.iter().map(|item| (*item).to_owned()).collect())
    }

    #[test]
    fn a_flag_beats_its_variable() {
        let env = [("CI_SERVER_URL", "env"), ("RUNNER_LIMIT", "3")];
        assert_eq!(of(&[("url", "a"), ("url", "b")], &env, "url"), Some(Setting::Text("b".to_owned())));
        assert_eq!(of(&[], &env, "url"), Some(Setting::Text("env".to_owned())));
        assert_eq!(of(&[("limit", "0")], &env, "limit"), None, "0 is nothing");
        assert_eq!(of(&[], &env, "limit"), Some(Setting::Int(3)));
    }

    #[test]
    fn empty_variables() {
        assert!(read(&[], &[("REGISTER_LOCKED", "")]).unwrap().flag("locked", false));
        assert_eq!(of(&[], &[("RUNNER_NAME", "")], "name"), None);
        assert!(read(&[], &[("RUNNER_NAME", "")]).unwrap().is_set("name"));
        let error = read(&[], &[("RUNNER_LIMIT", "")]).unwrap_err();
        assert_eq!(error.to_string(), "RUNNER_LIMIT: \"\" is not a whole number");
        assert_eq!(of(&[], &[("KUBERNETES_ALLOWED_IMAGES", "")], "kubernetes-allowed-images"), Some(list(&[""])));
        assert_eq!(of(&[], &[("KUBERNETES_PULL_POLICY", "")], "kubernetes-pull-policy"), None);
        assert_eq!(of(&[], &[("KUBERNETES_NODE_SELECTOR", "")], "kubernetes-node-selector"), None);
    }

    #[test]
    fn variables_that_say_something_else_than_they_seem_to() {
        let env = [
            ("KUBERNETES_PRIVILEGED", ""),
            ("KUBERNETES_IMAGE", ""),
            ("KUBERNETES_NAMESPCE", "ci"),
            ("KUBERNETES_CPU_LIMITS", "1"),
            ("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("RUNNER_NAME", "one"),
            ("RUNNER_SOMETHING_ELSE", "true"),
            ("RUNNER_TOKEN", "of the shell"),
            ("RUNNER_URL", "of the template"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let given = [("token", "of the shell"), ("non-interactive", "true")];
        let given = given.map(|(long, text)| (long.to_owned(), vec![Secret::new(text)])).into();
        let named = ["RUNNER_URL".to_owned()].into();
        assert_eq!(
            Settings::remarks(&flags::all(), &given, &named, env.into_iter()),
            [
                "KUBERNETES_PRIVILEGED is set and empty, which counts as true: write false, or leave the variable out",
                "nobody reads KUBERNETES_CPU_LIMITS: did you mean KUBERNETES_CPU_LIMIT?",
                "nobody reads KUBERNETES_NAMESPCE: did you mean KUBERNETES_NAMESPACE?",
                "nobody reads RUNNER_SOMETHING_ELSE: `gantry register --help` names those that are read",
            ]
        );
    }

    #[test]
    fn booleans() {
        assert!(!read(&[("locked", "f")], &[("REGISTER_LOCKED", "true")]).unwrap().flag("locked", true));
        let optional = |given: &[(&str, &str)]| of(given, &[], "kubernetes-privileged");
        assert_eq!(optional(&[("kubernetes-privileged", "False")]), Some(Setting::Bool(false)), "no is not nothing");
        assert_eq!(optional(&[]), None);
        let error = read(&[("locked", "yes")], &[]).unwrap_err();
        assert_eq!(error.to_string(), "--locked: \"yes\" is neither true nor false");
    }

    #[test]
    fn lists_append_and_pull_policies_replace() {
        let env = [("KUBERNETES_CAP_ADD", "NET_RAW, NET_RAW1"), ("KUBERNETES_PULL_POLICY", "always, if-not-present")];
        let given = [("kubernetes-cap-add", "A"), ("kubernetes-cap-add", "B")];
        assert_eq!(of(&given, &env, "kubernetes-cap-add"), Some(list(&["NET_RAW, NET_RAW1", "A", "B"])));
        assert_eq!(of(&[], &env, "kubernetes-pull-policy"), Some(list(&["always", "if-not-present"])));
        let given = [("kubernetes-pull-policy", "never")];
        assert_eq!(of(&given, &env, "kubernetes-pull-policy"), Some(list(&["never"])));
    }

    #[test]
    fn maps_of_all_kinds() {
        let given = [("kubernetes-node-tolerations", "a=b:NoSchedule"), ("kubernetes-node-tolerations", "c:NoExecute")];
        let map = [("a=b", "NoSchedule"), ("c", "NoExecute")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(of(&given, &[], "kubernetes-node-tolerations"), Some(Setting::Map(map.into())));
        let flags = of(&[("feature-flags", "FF_A:false")], &[("FEATURE_FLAGS", "FF_B")], "feature-flags");
        let switches = [("FF_A".to_owned(), false), ("FF_B".to_owned(), true)];
        assert_eq!(flags, Some(Setting::Switches(switches.into())));
        let counts = of(&[("kubernetes-retry-limits", "TLS handshake timeout:7")], &[], "kubernetes-retry-limits");
        assert_eq!(counts, Some(Setting::Counts([("TLS handshake timeout".to_owned(), 7)].into())));
        assert!(read(&[("kubernetes-retry-limits", "x:y")], &[]).is_err());
    }

    #[test]
    fn host_aliases_are_json() {
        let aliases = of(
            &[("kubernetes-host_aliases", r#"[{"ip":"192.0.2.1","hostnames":["a","b"]}]"#)],
            &[],
            "kubernetes-host_aliases",
        );
        let alias = HostAlias { ip: "192.0.2.1".to_owned(), hostnames: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(aliases, Some(Setting::HostAliases(vec![alias])));
        assert!(read(&[("kubernetes-host_aliases", "a:b")], &[]).is_err());
    }

    #[test]
    fn durations_are_checked() {
        let interval = of(&[("unhealthy-interval", "1h30m")], &[], "unhealthy-interval");
        assert_eq!(interval, Some(Setting::Text("1h30m".to_owned())));
        assert!(
            read(&[("unhealthy-interval", "10")], &[]).unwrap_err().to_string().starts_with("--unhealthy-interval")
        );
    }
}
