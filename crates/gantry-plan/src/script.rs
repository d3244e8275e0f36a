//! The user's lines become one shell text: each command is echoed, then run, and the first failure
//! ends the script.
//!
//! The text must work in every POSIX shell, so quoting is by single quotes only and `pipefail` is
//! taken where the shell has it. It holds nothing but the user's own lines: variables travel as
//! environment, stages of the runner are not shell at all.

use std::fmt::Write as _;

const GREEN: &str = "\x1b[32;1m";
const RESET: &str = "\x1b[0;m";

/// How a script is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ScriptStyle<'a> {
    /// `CI_DEBUG_TRACE`: the shell prints what it does.
    pub(crate) xtrace: bool,
    /// `FF_ENABLE_BASH_EXIT_CODE_CHECK`: each command's code is checked by hand.
    pub(crate) check_exit_codes: bool,
    /// `FF_SCRIPT_SECTIONS`: multi-line commands become collapsed sections with this prefix.
    pub(crate) section_prefix: Option<&'a str>,
}

/// Joins `commands` to one shell text.
pub(crate) fn compose<'a>(commands: impl IntoIterator<Item = &'a str>, style: ScriptStyle<'_>) -> String {
    let mut text = String::from("(set -o pipefail) 2>/dev/null && set -o pipefail\nset -o errexit\nset +o noclobber\n");
    if style.xtrace {
        text.push_str("set -o xtrace\n");
    }
    for (index, command) in commands.into_iter().enumerate() {
        let command = command.trim();
        echo(&mut text, command, style.section_prefix.map(|prefix| (prefix, index)));
        text.push_str(command);
        text.push('\n');
        if style.check_exit_codes && !command.is_empty() {
            text.push_str("_gantry_exit_code=$?; [ \"$_gantry_exit_code\" -eq 0 ] || exit \"$_gantry_exit_code\"\n");
        }
    }
    text
}

fn echo(text: &mut String, command: &str, section: Option<(&str, usize)>) {
    let mut lines = command.lines();
    let first = lines.next().unwrap_or_default();
    let is_multi_line = lines.next().is_some();
    let _ = match (is_multi_line, section) {
        _ if command.is_empty() => writeln!(text, "printf '\\n'"),
        (false, _) => writeln!(text, "printf '%s\\n' {}", quote(&format!("{GREEN}$ {first}{RESET}"))),
        (true, None) => {
            let line = format!("{GREEN}$ {first} # collapsed multi-line command{RESET}");
            writeln!(text, "printf '%s\\n' {}", quote(&line))
        }
        (true, Some((prefix, index))) => writeln!(
            text,
            "printf 'section_start:%s:section_{prefix}_{index}[hide_duration=true,collapsed=true]\\r\\033[0K%s\\n\
             section_end:%s:section_{prefix}_{index}\\r\\033[0K' \"$(date +%s)\" {} \"$(date +%s)\"",
            quote(&format!("{GREEN}$ {command}{RESET}"))
        ),
    };
}

/// Quotes `text` for any POSIX shell.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn run(shell: &str, commands: &[&str], style: ScriptStyle<'_>) -> (String, Option<i32>) {
        let text = compose(commands.iter().copied(), style);
        let output = Command::new(shell).arg("-c").arg(text).stdin(Stdio::null()).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    }

    #[test]
    fn golden_text() {
        insta::assert_snapshot!(compose(
            ["echo 'it''s'", "", "for i in 1 2\ndo echo $i\ndone"],
            ScriptStyle::default()
        ));
    }

    #[test]
    fn runs_in_every_shell_at_hand() {
        for shell in ["sh", "bash", "dash"] {
            if Command::new(shell).arg("-c").arg(":").status().is_err() {
                continue;
            }
            let (out, code) =
                run(shell, &["echo 'a  b'", "f() { return 3; }\nf", "echo never"], ScriptStyle::default());
            assert_eq!(
                out,
                "\x1b[32;1m$ echo 'a  b'\x1b[0;m\na  b\n\x1b[32;1m$ f() { return 3; } # collapsed multi-line command\x1b[0;m\n",
                "{shell}"
            );
            assert_eq!(code, Some(3), "{shell}");
        }
    }

    #[test]
    fn a_failing_pipe_member_fails_the_command_where_the_shell_can() {
        assert_eq!(run("bash", &["false | true"], ScriptStyle::default()).1, Some(1));
    }

    #[test]
    fn checked_codes_and_sections() {
        let style =
            ScriptStyle { check_exit_codes: true, section_prefix: Some("script_step"), ..ScriptStyle::default() };
        let (out, code) = run("sh", &["set +e\ntrue", "(exit 7)", "echo never"], style);
        assert_eq!(code, Some(7));
        assert!(out.starts_with("section_start:") && out.contains(":section_script_step_0[hide_duration"), "{out}");
    }
}
