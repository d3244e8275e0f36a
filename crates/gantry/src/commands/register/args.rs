//! The flag table as arguments of clap. Only texts are taken here; `values.rs` reads them, because
//! the reference's rules about empty variables and repeated flags are not clap's.

use std::collections::BTreeMap;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
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

/// Variables are named in the help as the reference names them; their values are not shown.
pub(crate) fn arg(flag: Flag) -> Arg {
    let help = match &flag.env {
        Some(env) => format!("{} [${env}]", flag.help),
        None => flag.help.clone(),
    };
    let arg = Arg::new(flag.long.clone()).long(flag.long.clone()).action(ArgAction::Append).help(help);
    let arg = arg.help_heading(flag.heading).value_name(value_name(flag.kind));
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

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::List => "TEXT",
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
