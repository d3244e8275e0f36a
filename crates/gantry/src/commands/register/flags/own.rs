//! Flags of the command itself: what is told to GitLab, and what decides how the command goes on.

use super::Kind::{Bool, Int, Secret, Text};
use super::{Flag, Row, from_row};

const HEADING: &str = "Registration";

const ROWS: [Row; 16] = [
    (
        "config",
        "CONFIG_FILE",
        "",
        Text,
        "The configuration; default /etc/gitlab-runner/config.toml for root, ~/.gitlab-runner/config.toml for others",
    ),
    (
        "template-config",
        "TEMPLATE_CONFIG_FILE",
        "",
        Text,
        "A file with one [[runners]] entry that fills what is not given here",
    ),
    ("non-interactive", "REGISTER_NON_INTERACTIVE", "", Bool, "Ask nothing"),
    ("leave-runner", "REGISTER_LEAVE_RUNNER", "", Bool, "Leave the runner in GitLab when a later step fails"),
    (
        "registration-token",
        "REGISTRATION_TOKEN",
        "",
        Secret,
        "Registration token of an instance, group or project (the old way)",
    ),
    ("token", "CI_SERVER_TOKEN", "", Secret, "Authentication token of a runner that was created in GitLab (glrt-…)"),
    (
        "tag-list",
        "RUNNER_TAG_LIST",
        "",
        Text,
        "Tags of jobs to take, separated by commas; only with a registration token",
    ),
    (
        "run-untagged",
        "REGISTER_RUN_UNTAGGED",
        "",
        Bool,
        "Take jobs without tags; without tags of its own a runner always does; only with a registration token",
    ),
    (
        "locked",
        "REGISTER_LOCKED",
        "",
        Bool,
        "Lock the runner to its project, which is the default (no: --locked=false); only with a registration token",
    ),
    (
        "access-level",
        "REGISTER_ACCESS_LEVEL",
        "",
        Text,
        "not_protected or ref_protected; only with a registration token",
    ),
    (
        "maximum-timeout",
        "REGISTER_MAXIMUM_TIMEOUT",
        "",
        Int,
        "Longest time of a job in seconds; only with a registration token",
    ),
    ("paused", "REGISTER_PAUSED", "", Bool, "Take no jobs yet; only with a registration token"),
    (
        "maintenance-note",
        "REGISTER_MAINTENANCE_NOTE",
        "",
        Text,
        "A note for administrators; only with a registration token",
    ),
    ("name", "RUNNER_NAME", "name", Text, "Name of the runner; default: the name of this host"),
    ("url", "CI_SERVER_URL", "url", Text, "Address of GitLab"),
    ("executor", "RUNNER_EXECUTOR", "executor", Text, "kubernetes"),
];

/// Flags, their letters and their second names.
const LETTERS: [(&str, char); 5] =
    [("config", 'c'), ("non-interactive", 'n'), ("registration-token", 'r'), ("token", 't'), ("url", 'u')];

pub(super) fn flags() -> Vec<Flag> {
    let flag = |row: &Row| {
        let flag = from_row(HEADING, row);
        let short = LETTERS.iter().find(|(long, _)| *long == flag.long).map(|(_, letter)| *letter);
        let alias = (flag.long == "name").then(|| "description".to_owned());
        Flag { short, alias, ..flag }
    };
    ROWS.iter().map(flag).collect()
}
