//! The variables that stages and scripts see: those of the plan, and those that scripts have left.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use gantry_core::feature_flags::parse_bool;
use gantry_wire::plan::PodPlan;
use gantry_wire::shim::SecretText;
use gantry_wire::stage::JobStatus;

use crate::limits::GITLAB_ENV_FILE;
use crate::process::environment::{is_possible, is_shell_name};
use crate::stages::temporary;

/// Name of the file in the job's temporary directory whose lines become variables of later scripts
/// (GitLab Runner 19.4).
pub(crate) const GITLAB_ENV: &str = "gitlab_runner_env";

/// Lines of that file whose numbers are shown: who has written more of one kind finds them by
/// those.
const SHOWN_LINES: usize = 5;

/// The plan's variables as every stage sees them, without what earlier scripts have added.
pub(crate) fn variables(plan: &PodPlan, status: JobStatus) -> Vec<(String, SecretText)> {
    let temp = &plan.paths.temp_dir;
    let own = ["CI_JOB_STATUS", "GITLAB_ENV"];
    let planned = plan.environment.iter().filter(|variable| !own.contains(&variable.key.as_str())).map(|variable| {
        let value = if variable.file { format!("{temp}/{}", variable.key).into() } else { variable.value.clone() };
        (variable.key.clone(), SecretText(value))
    });
    let made = [
        ("CI_JOB_STATUS".to_owned(), SecretText(status.as_str().into())),
        ("GITLAB_ENV".to_owned(), SecretText(format!("{temp}/{GITLAB_ENV}").into())),
    ];
    planned.chain(made).collect()
}

/// Whether the job is traced. The plan says whether the runner allows that.
pub(crate) fn is_traced(plan: &PodPlan) -> bool {
    let asked = plan.environment.iter().rfind(|variable| variable.key == "CI_DEBUG_TRACE");
    plan.trace.debug_trace && asked.and_then(|variable| parse_bool(variable.value.expose())) == Some(true)
}

/// What the scripts so far have left in the file `GITLAB_ENV`.
#[derive(Default)]
pub(crate) struct Added {
    pub(crate) variables: Vec<(String, SecretText)>,
    /// What of the file does nothing, for the log: places and no values.
    pub(crate) warnings: Vec<String>,
}

/// The variables that the scripts so far have left in the file `GITLAB_ENV`. Names and paths of
/// artifacts and caches may hold them too.
pub(crate) fn added_variables(plan: &PodPlan) -> Added {
    read_gitlab_env(&temporary::found(&plan.paths).join(GITLAB_ENV))
}

fn read_gitlab_env(path: &Path) -> Added {
    let nothing = |why: &str| {
        let warning = format!("no variables are taken from the file of GITLAB_ENV: {why}");
        Added { warnings: vec![warning], ..Added::default() }
    };
    let flags = (nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK).bits();
    let file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Added::default(),
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            return nothing("a job has put a link in its place, which is not followed");
        }
        Err(error) => return nothing(&format!("it cannot be read: {error}")),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return nothing("a job has put something else in its place, such as a directory");
    }
    let mut bytes = Vec::new();
    if let Err(error) = file.take(GITLAB_ENV_FILE + 1).read_to_end(&mut bytes) {
        return nothing(&format!("it cannot be read: {error}"));
    }
    let is_cut = bytes.len() as u64 > GITLAB_ENV_FILE;
    if is_cut {
        // Half of a value is none.
        let whole_lines = bytes.iter().take(bytes.len() - 1).rposition(|byte| *byte == b'\n');
        bytes.truncate(whole_lines.map_or(0, |end| end + 1));
    }
    let mut added = parse_gitlab_env(&String::from_utf8_lossy(&bytes));
    if is_cut {
        let most = GITLAB_ENV_FILE / 1024;
        added
            .warnings
            .push(format!("the file of GITLAB_ENV is too large: what is behind its first {most} KiB is skipped"));
    }
    added
}

/// The `KEY=VALUE` lines that scripts have left. Lines that are none are skipped: a stray one must
/// not end a job, as it does in GitLab Runner 19.4.
fn parse_gitlab_env(text: &str) -> Added {
    let (mut added, mut skipped) = (Added::default(), Vec::new());
    for (at, line) in text.lines().map(str::trim).enumerate() {
        match line.split_once('=') {
            Some((key, value)) if is_shell_name(key) && is_possible(key, value) => {
                added.variables.push((key.to_owned(), SecretText(value.into())));
            }
            _ if line.is_empty() || line.starts_with('#') => {}
            _ => skipped.push(at + 1),
        }
    }
    added.warnings.extend(of_skipped(&skipped));
    added
}

/// What to say about lines with these numbers.
fn of_skipped(lines: &[usize]) -> Option<String> {
    let (shown, more) = lines.split_at(lines.len().min(SHOWN_LINES));
    let numbers: Vec<String> = shown.iter().map(usize::to_string).collect();
    let which = match (numbers.as_slice(), more.len()) {
        ([], _) => return None,
        ([one], 0) => format!("line {one} of the file of GITLAB_ENV is"),
        ([first @ .., last], 0) => format!("lines {} and {last} of the file of GITLAB_ENV are", first.join(", ")),
        (all, more) => format!("lines {} and {more} more of the file of GITLAB_ENV are", all.join(", ")),
    };
    Some(format!(
        "{which} skipped: each line is NAME=value, with letters, digits and _ in the name, without export and quotes; a value has \
         one line"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_variables_are_skipped() {
        let added = parse_gitlab_env("A=1\n\n B=x=y \nnonsense\n1C=2\nexport T=abc\n# E=1\nM-V=1\nD=\n");
        let shown: Vec<_> = added.variables.iter().map(|(key, value)| (key.as_str(), value.0.expose())).collect();
        assert_eq!(shown, [("A", "1"), ("B", "x=y"), ("D", "")]);
        let [warning] = added.warnings.as_slice() else { panic!("{:?}", added.warnings) };
        assert!(warning.starts_with("lines 4, 5, 6 and 8 of the file of GITLAB_ENV are skipped: "), "{warning}");
        assert!(!warning.contains("abc"), "{warning}");
    }

    #[test]
    fn lines_that_are_skipped_are_named_by_number() {
        let start = |text: &str| parse_gitlab_env(text).warnings.first().map(|warning| warning[..9].to_owned());
        assert_eq!(start("A=1\n\n#\n  # x\n"), None);
        assert_eq!(start("A=first\nsecond\n").as_deref(), Some("line 2 of"));
        let many = of_skipped(&[1, 2, 3, 4, 5, 6, 7]).unwrap();
        assert!(many.starts_with("lines 1, 2, 3, 4, 5 and 2 more of the file"), "{many}");
    }

    #[test]
    fn what_scripts_have_left_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "A=1").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join(GITLAB_ENV)).unwrap();
        let added = read_gitlab_env(&directory.path().join(GITLAB_ENV));
        assert!(
            added.variables.is_empty() && added.warnings[0].contains("a link in its place"),
            "{:?}",
            added.warnings
        );
    }

    #[test]
    fn what_is_no_file_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let added = read_gitlab_env(directory.path());
        assert!(added.warnings[0].contains("such as a directory"), "{:?}", added.warnings);
        let missing = read_gitlab_env(&directory.path().join("nothing"));
        assert!(missing.variables.is_empty() && missing.warnings.is_empty());
    }

    #[test]
    fn of_a_file_that_is_too_large_the_beginning_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(GITLAB_ENV);
        fs::write(&path, format!("A=1\n#{}\nB=2\n", "x".repeat(usize::try_from(GITLAB_ENV_FILE).unwrap()))).unwrap();
        let added = read_gitlab_env(&path);
        assert_eq!((added.variables.len(), added.warnings.len()), (1, 1), "{:?}", added.warnings);
    }
}
