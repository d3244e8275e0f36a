//! Every flag of `register` as data: its spelling, its variable, its key in `config.toml`, its type (GitLab Runner 19.4). What becomes of
//! them is decided elsewhere; here is only what they are.

mod cache;
mod kubernetes;
mod own;
mod runner;

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

/// One line of a table: flag, variable, key path with dots, kind, help. Empty texts are absent.
type Row = (&'static str, &'static str, &'static str, Kind, &'static str);

/// All flags, in the order in which their keys are written.
pub(crate) fn all() -> Vec<Flag> {
    let mut flags = own::flags();
    flags.extend(runner::flags());
    flags.extend(cache::flags());
    flags.extend(kubernetes::flags());
    flags
}

fn from_row(heading: &'static str, (long, env, path, kind, help): &Row) -> Flag {
    Flag {
        long: (*long).to_owned(),
        short: None,
        alias: hyphenated(long),
        env: Some((*env).to_owned()).filter(|env| !env.is_empty()),
        path: path.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect(),
        kind: *kind,
        help: (*help).to_owned(),
        heading,
    }
}

/// The spelling that people expect of the flags that have underscores in the reference.
fn hyphenated(long: &str) -> Option<String> {
    long.contains('_').then(|| long.replace('_', "-"))
}

/// The name of a variable made from words.
fn upper(text: &str) -> String {
    text.replace(['-', '.'], "_").to_ascii_uppercase()
}

#[cfg(test)]
mod tests;
