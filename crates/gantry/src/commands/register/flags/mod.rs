//! Every flag of `register` as data: its spelling, its variable, its key in `config.toml`, its type
//! (GitLab Runner 19.4). Those of keys come from the keys' declarations ([`gantry_config::keys`]);
//! here are only the command's own, and how a value on the command line is read.

mod own;

use gantry_config::Key;
use gantry_config::key::Form;

/// A flag.
#[derive(Clone, Debug)]
pub(crate) struct Flag {
    /// Without dashes, in the reference's spelling.
    pub(crate) long: String,
    /// One letter, for some.
    pub(crate) short: Option<char>,
    /// A second spelling.
    pub(crate) alias: Option<String>,
    /// The variable that is read where the flag is not given.
    pub(crate) env: Option<String>,
    /// Its key below the `[[runners]]` entry; empty for what is not written there, or not as given.
    pub(crate) path: Vec<String>,
    /// How its text is read.
    pub(crate) kind: Kind,
    /// What it is for, in a few words.
    pub(crate) help: String,
    /// Its place in the help.
    pub(crate) heading: &'static str,
}

/// How a flag's text is read. The optional kinds tell "no" and 0 from nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// Any text, never shown.
    Secret,
    /// A whole number; 0 is nothing.
    Int,
    /// A whole number.
    OptionalInt,
    /// Yes by being there, or by its value after `=`; no is nothing.
    Bool,
    /// Yes or no.
    OptionalBool,
    /// A duration in Go's notation.
    Duration,
    /// Texts: one for each use, in addition to that of the variable.
    List,
    /// Texts separated by commas.
    Words,
    /// Numbers: one for each use.
    Ints,
    /// `key:value`: one pair for each use.
    Map,
    /// `name:bool`: one pair for each use.
    Switches,
    /// `key:number`: one pair for each use.
    Counts,
    /// Addresses and their names, as JSON.
    HostAliases,
}

/// What the keys of a runner are below in the file.
const ENTRY: &str = "runners[].";

/// Letters and second names of flags that are keys.
const LETTERS: [(&str, Option<char>, Option<&str>); 2] =
    [("name", None, Some("description")), ("url", Some('u'), None)];

/// All flags, in the order in which their keys are written.
pub(crate) fn all() -> Vec<Flag> {
    own::flags().into_iter().chain(gantry_config::keys().iter().filter_map(of_key)).collect()
}

/// The flag of a key, if it has one.
fn of_key(key: &Key) -> Option<Flag> {
    let flag = key.flag.as_ref()?;
    let path = key.path.strip_prefix(ENTRY)?;
    let (_, short, alias) = LETTERS.iter().find(|(long, ..)| *long == flag.long).unwrap_or(&("", None, None));
    let of = key.path.split('.').find_map(|table| {
        let container = table.strip_suffix("_container_security_context")?;
        Some(format!(" ({} container)", container.replace('_', " ")))
    });
    // What a flag that is not given means needs no words where it is "no".
    let default = Some(&key.default).filter(|default| !default.is_empty() && *default != "false");
    let default = default.map(|default| format!(" [default: {default}]"));
    let remark = key.effect.instead().map(|instead| format!("; no effect: {instead}"));
    Some(Flag {
        long: flag.long.clone(),
        short: *short,
        alias: alias.map(str::to_owned).or_else(|| hyphenated(&flag.long)),
        env: flag.variable.clone(),
        path: path.split('.').map(|part| part.trim_end_matches("[]").to_owned()).collect(),
        kind: kind(key)?,
        help: [key.about.trim_end_matches('.').to_owned()].into_iter().chain(of).chain(remark).chain(default).collect(),
        heading: match path.split_once('.') {
            Some(("kubernetes", _)) => "Kubernetes",
            Some(("cache", _)) => "Cache",
            _ if ["name", "url", "executor"].contains(&path) => own::HEADING,
            _ => "Runner",
        },
    })
}

/// How the value of a key is read on the command line; `None` where it cannot be written there.
fn kind(key: &Key) -> Option<Kind> {
    Some(match key.form {
        Form::Text | Form::Path | Form::Pattern | Form::Quantity | Form::Words(_) => Kind::Text,
        Form::Secret => Kind::Secret,
        // Only this one is split at commas in the reference.
        Form::WordList(_) if key.name() == "pull_policy" => Kind::Words,
        Form::WordList(_) | Form::Texts => Kind::List,
        Form::Flag => Kind::Bool,
        Form::Switch => Kind::OptionalBool,
        Form::Positive | Form::FromOne | Form::Signed | Form::Seconds => Kind::Int,
        Form::Whole => Kind::OptionalInt,
        Form::Duration | Form::DurationFromZero => Kind::Duration,
        Form::Numbers => Kind::Ints,
        Form::TextMap => Kind::Map,
        Form::SwitchMap => Kind::Switches,
        Form::CountMap => Kind::Counts,
        Form::Tables if key.name() == "host_aliases" => Kind::HostAliases,
        Form::Decimal | Form::Time | Form::Table | Form::Tables | Form::Anything => return None,
    })
}

/// The spelling that people expect of the flags that have underscores in the reference.
fn hyphenated(long: &str) -> Option<String> {
    long.contains('_').then(|| long.replace('_', "-"))
}

#[cfg(test)]
mod tests;
