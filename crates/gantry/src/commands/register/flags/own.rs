//! Flags of the command itself: what is told to GitLab, and what decides how the command goes on.

use super::Kind::{Bool, Int, Secret, Text};
use super::{Flag, Kind};
use crate::commands::config_path;

/// Their place in the help.
pub(super) const HEADING: &str = "Registration";

/// Flag, variable, kind, help.
type Row = (&'static str, &'static str, Kind, &'static str);

const ROWS: [Row; 13] = [
    ("config", "CONFIG_FILE", Text, config_path::HELP),
    (
        "template-config",
        "TEMPLATE_CONFIG_FILE",
        Text,
        "A file with one [[runners]] entry that fills what is not given here",
    ),
    ("non-interactive", "REGISTER_NON_INTERACTIVE", Bool, "Ask nothing"),
    ("leave-runner", "REGISTER_LEAVE_RUNNER", Bool, "Leave the runner in GitLab when a later step fails"),
    (
        "registration-token",
        "REGISTRATION_TOKEN",
        Secret,
        "Registration token of an instance, group or project (the old way)",
    ),
    ("token", "CI_SERVER_TOKEN", Secret, "Authentication token of a runner that was created in GitLab (glrt-…)"),
    ("tag-list", "RUNNER_TAG_LIST", Text, "Tags of jobs to take, separated by commas; only with a registration token"),
    (
        "run-untagged",
        "REGISTER_RUN_UNTAGGED",
        Bool,
        "Take jobs without tags; without tags of its own a runner always does; only with a registration token",
    ),
    (
        "locked",
        "REGISTER_LOCKED",
        Bool,
        "Lock the runner to its project, which is the default (no: --locked=false); only with a registration token",
    ),
    ("access-level", "REGISTER_ACCESS_LEVEL", Text, "not_protected or ref_protected; only with a registration token"),
    (
        "maximum-timeout",
        "REGISTER_MAXIMUM_TIMEOUT",
        Int,
        "Longest time of a job in seconds; only with a registration token",
    ),
    ("paused", "REGISTER_PAUSED", Bool, "Take no jobs yet; only with a registration token"),
    (
        "maintenance-note",
        "REGISTER_MAINTENANCE_NOTE",
        Text,
        "A note for administrators; only with a registration token",
    ),
];

/// Flags and their letters.
const LETTERS: [(&str, char); 4] =
    [("config", 'c'), ("non-interactive", 'n'), ("registration-token", 'r'), ("token", 't')];

pub(super) fn flags() -> Vec<Flag> {
    let flag = |(long, env, kind, help): &Row| Flag {
        long: (*long).to_owned(),
        short: LETTERS.iter().find(|(of, _)| of == long).map(|(_, letter)| *letter),
        alias: None,
        env: Some((*env).to_owned()),
        path: Vec::new(),
        kind: *kind,
        help: (*help).to_owned(),
        heading: HEADING,
    };
    ROWS.iter().map(flag).collect()
}
