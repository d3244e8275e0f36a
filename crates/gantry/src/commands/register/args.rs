//! The flag table as arguments of clap. Only texts are taken here; `values.rs` reads them, because
//! the reference's rules about empty variables and repeated flags are not clap's.

use std::collections::BTreeMap;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, ValueHint};
use gantry_core::Secret;

use super::flags::{self, Flag, Kind};
use crate::go_arguments::OTHER_EXECUTOR;

/// Name under which words without a flag arrive.
pub(crate) const WORDS: &str = "words";

/// Arguments of `gantry register`.
#[derive(Debug, Default)]
pub(crate) struct RegisterArgs {
    /// Texts of each flag, in order. Any of them may be a token.
    pub(crate) given: BTreeMap<String, Vec<Secret>>,
    /// Flags that belong to other executors.
    pub(crate) other_executors: Vec<String>,
    /// What follows the first word that belongs to no flag, that word included.
    pub(crate) words: Vec<Secret>,
}

impl Args for RegisterArgs {
    fn augment_args(command: Command) -> Command {
        // Many names are longer than half a line.
        let command = command.next_line_help(true);
        let command = flags::all().into_iter().fold(command, |command, flag| command.arg(arg(flag)));
        let other = Arg::new(OTHER_EXECUTOR).long(OTHER_EXECUTOR).action(ArgAction::Append).hide(true);
        let words = Arg::new(WORDS).num_args(0..).trailing_var_arg(true).hide(true);
        command.arg(other).arg(words)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RegisterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let texts = |id: &str| {
            let found = matches.try_get_many::<String>(id);
            found.map_err(|error| Error::raw(ErrorKind::UnknownArgument, format!("--{id}: {error}\n")))
        };
        for flag in flags::all() {
            if let Some(uses) = texts(&flag.long)? {
                let uses = uses.map(|text| Secret::new(text.as_str())).collect();
                self.given.insert(flag.long, uses);
            }
        }
        self.other_executors = texts(OTHER_EXECUTOR)?.into_iter().flatten().cloned().collect();
        self.words = texts(WORDS)?.into_iter().flatten().map(|text| Secret::new(text.as_str())).collect();
        Ok(())
    }
}

/// Variables are named in the help as those of other flags are; their values are not shown.
pub(crate) fn arg(flag: Flag) -> Arg {
    let help = match &flag.env {
        Some(env) => format!("{} [env: {env}]", flag.help),
        None => flag.help.clone(),
    };
    let arg = Arg::new(flag.long.clone()).long(flag.long.clone()).action(ArgAction::Append).help(help);
    let name = value_name(&flag);
    let arg = arg.help_heading(flag.heading).value_name(name);
    let arg = if name == FILE { arg.value_hint(ValueHint::FilePath) } else { arg };
    let arg = if flag.kind == Kind::Bool {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg.num_args(1)
    };
    let arg = match flag.short {
        Some(letter) => arg.short(letter),
        None => arg,
    };
    match flag.alias {
        Some(alias) => arg.visible_alias(alias),
        None => arg,
    }
}

/// How a value that is a file of this machine is called; shells complete it.
const FILE: &str = "FILE";

/// How texts are called in the help, by the end of the flag's name; the first that fits counts.
const TEXTS: &[(&str, &str)] = &[
    ("config", FILE),
    ("-file", FILE),
    ("-dir", "DIRECTORY"),
    ("slot-cgroup-template", "NAME"),
    ("cache-path", "PREFIX"),
    ("-script", "COMMANDS"),
    ("overwrite-max-allowed", "QUANTITY"),
    ("overwrite-allowed", "REGEX"),
    ("-limit", "QUANTITY"),
    ("-request", "QUANTITY"),
    ("-size", "QUANTITY"),
    ("url", "URL"),
    ("kubernetes-host", "URL"),
    ("-server-address", "HOST"),
    ("-domain", "DOMAIN"),
    ("-location", "REGION"),
    ("-arn", "ARN"),
    ("-id", "ID"),
    ("-image", "IMAGE"),
    ("allowed-images", "PATTERN"),
    ("allowed-services", "PATTERN"),
    ("-pull-policies", "POLICY"),
    ("-policy", "POLICY"),
    ("-users", "UID"),
    ("-groups", "GID"),
    ("cap-add", "CAPABILITY"),
    ("cap-drop", "CAPABILITY"),
    ("capabilities-add", "CAPABILITY"),
    ("capabilities-drop", "CAPABILITY"),
    ("env", "KEY=VALUE"),
    ("tag-list", "TAG,…"),
    ("access-level", "LEVEL"),
    ("-type", "TYPE"),
    ("-encryption", "TYPE"),
    ("proc-mount", "TYPE"),
    ("-flavor", "NAME"),
    ("shell", "NAME"),
    ("executor", "NAME"),
    ("-context", "NAME"),
    ("-namespace", "NAME"),
    ("-secrets", "NAME"),
    ("-account", "NAME"),
    ("-profile", "NAME"),
    ("-class", "NAME"),
    ("name", "NAME"),
];

fn value_name(flag: &Flag) -> &'static str {
    match flag.kind {
        Kind::Text | Kind::List => {
            let long = flag.long.replace('_', "-");
            TEXTS.iter().find(|(end, _)| long.ends_with(end)).map_or("TEXT", |(_, name)| name)
        }
        Kind::Secret => "SECRET",
        Kind::Int | Kind::OptionalInt | Kind::Ints => "NUMBER",
        Kind::Bool | Kind::OptionalBool => "true|false",
        Kind::Duration => "DURATION",
        Kind::Words => "WORD,…",
        Kind::Map => "KEY:VALUE",
        Kind::Switches => "NAME:true|false",
        Kind::Counts => "TEXT:NUMBER",
        Kind::HostAliases => "JSON",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_says_what_is_to_be_given() {
        let name = |long: &str| {
            let flag = flags::all().into_iter().find(|flag| flag.long == long);
            value_name(&flag.unwrap_or_else(|| panic!("no flag {long}")))
        };
        for (long, expected) in [
            ("config", "FILE"),
            ("template-config", "FILE"),
            ("tls-ca-file", "FILE"),
            ("builds-dir", "DIRECTORY"),
            ("url", "URL"),
            ("kubernetes-cpu-limit", "QUANTITY"),
            ("kubernetes-namespace_overwrite_allowed", "REGEX"),
            ("kubernetes-helper-image", "IMAGE"),
            ("kubernetes-poll-timeout", "NUMBER"),
            ("env", "KEY=VALUE"),
        ] {
            assert_eq!(name(long), expected, "{long}");
        }
        let texts = flags::all().into_iter().filter(|flag| value_name(flag) == "TEXT").map(|flag| flag.long);
        assert_eq!(texts.collect::<Vec<_>>(), ["maintenance-note"], "whatever else is a text has a name");
    }
}
