//! Arguments as the flag library of GitLab Runner 19.4 reads them, rewritten into the form that
//! clap reads: `-url x`, `--url x` and `--url=x` all become `--url=x`. Nothing is checked here;
//! what is not understood is left for clap to complain about.

use std::collections::VecDeque;
use std::ffi::OsString;

use clap::{Arg, Command};
use gantry_core::Secret;

/// Hidden flag of `register` and `run-single` under which flags of other executors arrive.
pub(crate) const OTHER_EXECUTOR: &str = "other-executor";

/// Commands that the reference has too. Ours alone have the manners of clap.
const DROP_IN: [&str; 9] =
    ["register", "unregister", "verify", "list", "run", "lint", "reset-token", "run-single", "health-check"];

/// Flags of executors that are not this one (GitLab Runner 19.4).
const OTHER_EXECUTORS: [&str; 6] = ["docker-", "machine-", "ssh-", "parallels-", "virtualbox-", "custom-"];

/// Says that words which belong to no flag have ended the flags, as in the reference.
pub(crate) fn warn_about_words(words: &[Secret]) {
    let Some(first) = words.first() else { return };
    // It may be anything, a token too; these two are what people write.
    let word = match first.expose() {
        word @ ("true" | "false") => format!("{word:?} (write --flag={word})"),
        _ => "a word that belongs to no flag".to_owned(),
    };
    match words.len() - 1 {
        0 => tracing::warn!("{word} is ignored"),
        1 => tracing::warn!("{word} ends the flags: one more argument is ignored"),
        more => tracing::warn!("{word} ends the flags: {more} more arguments are ignored"),
    }
}

/// Rewrites the arguments of a process, its name first. `command` is what clap knows of them.
pub(crate) fn rewritten(mut command: Command, args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    command.build();
    let mut level = &command;
    let mut rest: VecDeque<OsString> = args.collect();
    let mut out: Vec<OsString> = rest.pop_front().into_iter().collect();
    while let Some(arg) = rest.pop_front() {
        let Some(text) = arg.to_str() else { return unchanged(out, arg, rest) };
        if let Some(name) = flag_name(text) {
            let flag = rewritten_flag(level, name, &mut rest);
            out.push(flag.into());
            continue;
        }
        // The second word without a dash ends the flags, as in the reference; so does the name of a
        // command that is not the reference's.
        let below = std::ptr::eq(level, &raw const command).then(|| command.find_subcommand(text)).flatten();
        match below.filter(|_| DROP_IN.contains(&text)) {
            Some(below) => level = below,
            None => return unchanged(out, arg, rest),
        }
        out.push(arg);
    }
    out
}

fn unchanged(mut out: Vec<OsString>, arg: OsString, rest: VecDeque<OsString>) -> Vec<OsString> {
    out.push(arg);
    out.extend(rest);
    out
}

/// What follows one or two dashes; nothing for words that are no flags.
fn flag_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    (!name.is_empty() && !name.starts_with(['-', '='])).then_some(name)
}

/// One flag, with its value taken from `rest` where it needs one.
fn rewritten_flag(level: &Command, text: &str, rest: &mut VecDeque<OsString>) -> String {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
    let Some(arg) = level.get_arguments().find(|arg| is_called(arg, name)) else {
        let is_foreign = ["register", "run-single"].contains(&level.get_name())
            && OTHER_EXECUTORS.iter().any(|start| name.starts_with(start));
        if is_foreign {
            // Which of them take a value is not known here. What does not look like a flag is the
            // value.
            if value.is_none() && rest.front().and_then(|next| next.to_str()).is_some_and(|next| !next.starts_with('-'))
            {
                rest.pop_front();
            }
            return format!("--{OTHER_EXECUTOR}={name}");
        }
        return value.map_or_else(|| format!("--{name}"), |value| format!("--{name}={value}"));
    };
    let needs_value = arg.get_num_args().is_some_and(|count| count.min_values() > 0) && arg.get_action().takes_values();
    let value = value.or_else(|| {
        let next = rest.front().filter(|_| needs_value)?.to_str()?.to_owned();
        rest.pop_front();
        Some(next)
    });
    let dashed = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => format!("--{name}"),
    };
    value.map_or_else(|| dashed.clone(), |value| format!("{dashed}={value}"))
}

fn is_called(arg: &Arg, name: &str) -> bool {
    let mut letters = name.chars();
    let short = letters.next().filter(|_| letters.next().is_none());
    arg.get_long() == Some(name)
        || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        || short.is_some_and(|short| {
            arg.get_short() == Some(short) || arg.get_all_short_aliases().is_some_and(|all| all.contains(&short))
        })
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    fn command() -> Command {
        let register = Command::new("register")
            .arg(Arg::new("url").long("url").short('u'))
            .arg(Arg::new("name").long("name").alias("description"))
            .arg(Arg::new("locked").long("locked").num_args(0..=1).require_equals(true))
            .arg(Arg::new("debug").long("debug").action(ArgAction::SetTrue));
        Command::new("gantry")
            .arg(Arg::new("level").long("log-level").short('l'))
            .subcommand(register)
            .subcommand(Command::new("dev"))
    }

    fn check(given: &str, expected: &str) {
        let args = std::iter::once("gantry").chain(given.split(' ')).map(OsString::from);
        let expected: Vec<OsString> =
            std::iter::once("gantry").chain(expected.split(' ')).map(OsString::from).collect();
        assert_eq!(rewritten(command(), args), expected, "{given}");
    }

    #[test]
    fn all_spellings_of_a_flag() {
        for spelling in ["-u x", "--u x", "-u=x", "-url x", "--url x", "--url=x", "-url=x"] {
            check(&format!("register {spelling}"), "register --url=x");
        }
        check("-l debug register --description -x", "--log-level=debug register --name=-x");
        check("register -locked -debug", "register --locked --debug");
        check("register --locked=false --url", "register --locked=false --url");
        check("register -h --help", "register --help --help");
    }

    #[test]
    fn words_end_the_flags() {
        check("register --locked false --url x", "register --locked false --url x");
        check("register -- -url x", "register -- -url x");
        check("dev -url x", "dev -url x");
        check("unknown -url x", "unknown -url x");
    }

    #[test]
    fn flags_of_other_executors() {
        check(
            "register --docker-image alpine --docker-privileged --ssh-user=x --url y",
            "register --other-executor=docker-image --other-executor=docker-privileged --other-executor=ssh-user --url=y",
        );
        check("register --nonsense x", "register --nonsense x");
    }
}
