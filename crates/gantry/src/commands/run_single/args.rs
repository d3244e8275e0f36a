//! The flags of `run-single`: those of `register` that say what a runner is, and how long it runs.

use std::collections::BTreeMap;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use gantry_core::Secret;

use crate::commands::register::args::{WORDS, arg};
use crate::commands::register::flags::{self, Flag};
use crate::exit_status;
use crate::go_arguments::OTHER_EXECUTOR;

/// Flags of `register` that are not written into an entry as they are, and are wanted here.
const WANTED: [&str; 2] = ["config", "token"];

/// Flags that are only here: name, letter, variable, help.
const OWN: [(&str, Option<char>, &str, &str); 4] = [
    ("runner", Some('r'), "", "Take this runner of the configuration; all flags about a runner are then ignored"),
    ("wait-timeout", None, "RUNNER_WAIT_TIMEOUT", "Seconds without a job after which it ends; 0 waits for ever"),
    ("max-builds", None, "RUNNER_MAX_BUILDS", "Jobs after which it ends; 0 has no limit"),
    ("shutdown-timeout", None, "RUNNER_SHUTDOWN_TIMEOUT", "Seconds that jobs have to end after SIGTERM; 0 is 30"),
];

/// Heading in the help.
const HEADING: &str = "Single run";

/// Arguments of `gantry run-single`.
#[derive(Debug, Default)]
pub(crate) struct RunSingleArgs {
    /// Texts of each flag, in order. Any of them may be a token.
    pub(crate) given: BTreeMap<String, Vec<Secret>>,
    /// What follows the first word that belongs to no flag, that word included.
    pub(crate) words: Vec<Secret>,
}

/// Every flag of the command.
pub(super) fn all() -> Vec<Flag> {
    let own = OWN.iter().map(|(long, short, env, help)| Flag {
        long: (*long).to_owned(),
        short: *short,
        alias: None,
        env: Some((*env).to_owned()).filter(|env| !env.is_empty()),
        path: Vec::new(),
        kind: if *long == "runner" { flags::Kind::Text } else { flags::Kind::Int },
        help: (*help).to_owned(),
        heading: HEADING,
    });
    let is_wanted = |flag: &Flag| !flag.path.is_empty() || WANTED.contains(&flag.long.as_str());
    flags::all().into_iter().filter(is_wanted).chain(own).collect()
}

impl Args for RunSingleArgs {
    fn augment_args(command: Command) -> Command {
        // Many names are longer than half a line.
        let command = command.next_line_help(true);
        let command = all().into_iter().fold(command, |command, flag| command.arg(arg(flag)));
        let other = Arg::new(OTHER_EXECUTOR).long(OTHER_EXECUTOR).action(ArgAction::Append).hide(true);
        let words = Arg::new(WORDS).num_args(0..).trailing_var_arg(true).hide(true);
        command.arg(other).arg(words).after_help(exit_status::help("", "run-single"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RunSingleArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let texts = |id: &str| -> Result<Option<Vec<Secret>>, Error> {
            let found = matches.try_get_many::<String>(id);
            let found = found.map_err(|error| Error::raw(ErrorKind::UnknownArgument, format!("--{id}: {error}\n")))?;
            Ok(found.map(|uses| uses.map(|text| Secret::new(text.as_str())).collect()))
        };
        for flag in all() {
            if let Some(uses) = texts(&flag.long)? {
                self.given.insert(flag.long, uses);
            }
        }
        self.words = texts(WORDS)?.unwrap_or_default();
        Ok(())
    }
}
