//! How commands end: every exit status of each command, and what it says. The help of a command and
//! its manual page show this list.

/// It has done what it is for.
pub(crate) const SUCCESS: u8 = 0;
/// It has not; also every wrong use of the command line, as in GitLab Runner 19.4.
pub(crate) const FAILURE: u8 = 1;
/// `gantry dev` has found nothing that it could run.
#[cfg(feature = "sim")]
pub(crate) const BAD_INPUT: u8 = 2;
/// A signal has ended `gantry dev`: this and its number, as shells give it.
#[cfg(feature = "sim")]
pub(crate) const SIGNAL: u8 = 128;

/// Above them in a command's help.
const HEADING: &str = "Exit status:";

/// An exit status, and when a command has it.
pub(crate) type Status = (u8, &'static str);

/// Of commands that have nothing else to say by it.
const USUAL: &[Status] = &[
    (SUCCESS, "The command has done what it is for."),
    (FAILURE, "It has not, or its command line is wrong; a line on standard error says why."),
];

/// Those of `command`, which is named without the program: `run`, `config keys`.
pub(crate) fn of(command: &str) -> &'static [Status] {
    own(command).unwrap_or(USUAL)
}

/// What a command says by it that others do not.
fn own(command: &str) -> Option<&'static [Status]> {
    Some(match command {
        #[cfg(feature = "sim")]
        "chaos" => &[
            (SUCCESS, "All numbers of the table that must be zeros are."),
            (FAILURE, "One is not, or jobs could not be run at all."),
        ],
        #[cfg(feature = "sim")]
        "dev" => &[
            (SUCCESS, "The pipeline has succeeded, or what was to be shown was."),
            (FAILURE, "It has not, its artifacts could not be copied, or the command line is wrong."),
            (BAD_INPUT, "There is nothing to run: the .gitlab-ci.yml cannot be used, or leaves no job."),
            (SIGNAL, "And the number of the signal that has ended it: 130 for Ctrl-C."),
        ],
        "doctor" => &[
            (SUCCESS, "Nothing was found that keeps jobs from running; warnings may be, but not with --strict."),
            (FAILURE, "Something was."),
        ],
        "health-check" => &[
            (SUCCESS, "What was waited for listens."),
            (FAILURE, "It does not within --timeout, or there is nothing to wait for."),
        ],
        "lint" => &[
            (SUCCESS, "The configuration has no errors; warnings it may have."),
            (FAILURE, "It has errors, unknown keys among them (of which run only warns), or cannot be read."),
        ],
        "list" => &[(SUCCESS, "Always, also where the configuration cannot be read.")],
        "reset-token" | "unregister" => &[
            (
                SUCCESS,
                "It is done. With --all-runners also where it is not for some, which lines on standard error name.",
            ),
            (FAILURE, "It is not, or no runner was named that the configuration has."),
        ],
        "run" | "run-single" => &[
            (SUCCESS, "It was told to end, or had nothing more to do, and its jobs have ended or go on in their pods."),
            (FAILURE, "It could not start, its jobs did not end in time, or a second signal has ended it at once."),
        ],
        "verify" => &[
            (SUCCESS, "GitLab refuses no token, as far as it could be asked."),
            (FAILURE, "GitLab refuses a token, or no runner fits what was asked for."),
        ],
        _ => return None,
    })
}

/// What stands at the end of a command's help, behind what else is to be said there.
pub(crate) fn help(about: &str, command: &str) -> String {
    let lines = of(command).iter().map(|(status, words)| format!("\n  {status:<4} {words}"));
    let gap = if about.is_empty() { "" } else { "\n\n" };
    format!("{about}{gap}{HEADING}{}", lines.collect::<String>())
}

/// That end without the statuses.
pub(crate) fn without_statuses(help: &str) -> &str {
    help.split_once(HEADING).map_or(help, |(about, _)| about).trim_end()
}
