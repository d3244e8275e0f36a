use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::*;

#[test]
fn golden_commands() {
    insta::assert_snapshot!(format!("{}\n---\n{}", helper(WITHIN)[2], plain_build()[2]));
}

/// The build container's command where no entrypoint runs.
fn plain_build() -> Vec<String> {
    build(WITHIN, false, &[]).command.unwrap()
}

#[test]
fn entrypoints_are_given_our_command() {
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(|&word| word.to_owned()).collect() };
    let ours = plain_build();
    let start = |job: &[&str]| build(WITHIN, true, &words(job));
    assert_eq!(start(&[]), Start { command: None, args: Some(ours.clone()) });
    let own = start(&["/entry", "--verbose"]);
    assert_eq!(own, Start { command: Some(words(&["/entry", "--verbose"])), args: Some(ours.clone()) });
    // Jobs that do without an entrypoint.
    assert_eq!(start(&[""]), Start { command: Some(ours.clone()), args: None });
    // `bash -lc sh -c TEXT` would run a shell without a word.
    let login = start(&["/bin/bash", "-lc"]);
    assert_eq!(login, Start { command: Some(words(&["/bin/bash", "-lc"])), args: Some(words(&[&ours[2]])) });
    // Nothing of it where the flag is off.
    assert_eq!(build(WITHIN, false, &words(&["/entry"])), Start { command: Some(ours), args: None });
    let changes =
        [&["/entry"][..], &["sh", "-c"], &["/bin/bash", "-l", "-c"], &[""], &[], &["env", "-c"], &["sh", "--c"]];
    assert_eq!(
        changes.map(|entrypoint| changes_something(&words(entrypoint))),
        [true, false, false, false, false, true, true]
    );
}

/// Stands for a container in which the build command waits, with a `sleep` that tells of each of
/// its calls.
struct Container {
    root: tempfile::TempDir,
    shell: &'static [&'static str],
}

/// What the tests wait at most.
const WITHIN: Duration = Duration::from_secs(600);
/// A sleep that is over at once, so that the ten minutes pass while one looks on.
const NO_TIME: &str = "exit 0";
/// One that lasts.
const REAL: &str = "PATH=/usr/bin:/bin exec sleep 600";

impl Container {
    fn new(shell: &'static [&'static str], sleep: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("bin")).unwrap();
        let container = Self { root, shell };
        let told = container.path("slept");
        container.program("bin/sleep", &format!("#!/bin/sh\necho $1 $$ >> {}\n{sleep}\n", told.display()));
        container
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let new = self.path("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn make_fifo(&self) {
        assert!(Command::new("mkfifo").arg(self.path("ready")).status().unwrap().success());
    }

    fn start(&self) -> Child {
        let at = |path: &str, name| (path.to_owned(), self.path(name).display().to_string());
        let paths = [at(SHIM_BINARY, "helper"), at(SHIM_READY, "ready")];
        let text = paths.iter().fold(plain_build()[2].clone(), |text, (from, to)| text.replace(from, to));
        Command::new(self.shell[0])
            .args(&self.shell[1..])
            .args(["-c", &text])
            .env("PATH", self.path("bin"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn output(child: Child) -> Output {
        child.wait_with_output().unwrap()
    }

    /// Seconds of all sleeps so far, and their processes.
    fn sleeps(&self) -> Vec<(f64, String)> {
        let text = fs::read_to_string(self.path("slept")).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(seconds, pid)| (seconds.parse().unwrap(), pid.to_owned())).collect()
    }

    fn slept(&self) -> Vec<f64> {
        self.sleeps().into_iter().map(|(seconds, _)| seconds).collect()
    }

    /// Waits until it has started `count` processes to wait by, and its sleep has told of itself.
    fn until_asleep(&self, child: &Child, count: usize) {
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let told = if self.shell[0] == BUSYBOX { children.clone() } else { self.path("slept").display().to_string() };
        let script =
            "for i in $(seq 3000); do [ $(wc -w < $0) = $1 ] && grep -q . $2 && exit; sleep 0.01; done; exit 1";
        let waited = Command::new("sh").args(["-c", script, &children, &count.to_string(), &told]).status().unwrap();
        assert!(waited.success(), "{count} processes");
    }
}

/// A container ends with all that is in it.
impl Drop for Container {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path("bin/sleep"));
        // Those that still read the FIFO end with a line each.
        if let Ok(mut ready) = fs::OpenOptions::new().read(true).write(true).open(self.path("ready")) {
            let _ = ready.write_all(b"\n\n\n\n");
        }
        for (_, pid) in self.sleeps() {
            let _ = Command::new("kill").arg(pid).stderr(Stdio::null()).status();
        }
    }
}

const BUSYBOX: &str = "/bin/busybox";

/// Those that call the `sleep` of the test; busybox has its own.
fn shells_that_tell() -> impl Iterator<Item = &'static [&'static str]> {
    shells().filter(|shell| shell[0] != BUSYBOX)
}

fn shells() -> impl Iterator<Item = &'static [&'static str]> {
    let all: [&[&str]; 5] = [&["/bin/sh"], &["/bin/dash"], &["/bin/bash"], &["/bin/bash", "--posix"], &[BUSYBOX, "sh"]];
    let is_there = |shell: &&[&str]| Command::new(shell[0]).args(&shell[1..]).args(["-c", ":"]).status().is_ok();
    all.into_iter().filter(is_there)
}

const HELPER: &str = "#!/bin/sh\necho \"became $1\"\n";

#[test]
fn the_wait_ends_with_the_line_in_the_fifo() {
    for shell in shells() {
        let container = Container::new(shell, REAL);
        container.make_fifo();
        let child = container.start();
        container.until_asleep(&child, 2);
        container.program("helper", HELPER);
        let mut ready = fs::OpenOptions::new().read(true).write(true).open(container.path("ready")).unwrap();
        ready.write_all(b"\n").unwrap();
        let output = Container::output(child);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "became shim\n", "{shell:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{shell:?}");
        assert!(container.slept().len() <= 1, "nothing wakes it but the line: {shell:?}");
    }
}

#[test]
fn a_binary_that_is_there_is_not_waited_for() {
    for shell in shells() {
        let container = Container::new(shell, REAL);
        container.program("helper", HELPER);
        assert_eq!(Container::output(container.start()).stdout, b"became shim\n");
        assert!(container.slept().is_empty());
    }
}

#[test]
fn ten_minutes_are_few_rounds() {
    for shell in shells_that_tell() {
        for (has_fifo, most) in [(true, 20), (false, 170)] {
            let container = Container::new(shell, NO_TIME);
            if has_fifo {
                container.make_fifo();
            }
            let output = Container::output(container.start());
            assert_eq!(output.status.code(), Some(i32::from(WITHOUT_PLAN)), "{shell:?}");
            assert!(String::from_utf8(output.stderr).unwrap().starts_with("gantry: nobody brought "), "{shell:?}");
            let slept = container.slept();
            assert!(slept.iter().sum::<f64>() >= 600.0 && slept.len() <= most, "{shell:?}: {slept:?}");
        }
    }
}

#[test]
fn term_ends_the_wait() {
    for shell in shells() {
        for has_fifo in [true, false] {
            let container = Container::new(shell, REAL);
            if has_fifo {
                container.make_fifo();
            }
            let mut child = container.start();
            container.until_asleep(&child, 1 + usize::from(has_fifo));
            assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
            assert_eq!(child.wait().unwrap().code(), Some(143), "{shell:?}");
        }
    }
}

#[test]
fn an_image_without_sleep_waits_all_the_same() {
    for shell in shells_that_tell() {
        let container = Container::new(shell, REAL);
        fs::remove_file(container.path("bin/sleep")).unwrap();
        container.make_fifo();
        let child = container.start();
        container.program("helper", HELPER);
        let mut ready = fs::OpenOptions::new().read(true).write(true).open(container.path("ready")).unwrap();
        ready.write_all(b"\n").unwrap();
        assert_eq!(Container::output(child).stdout, b"became shim\n", "{shell:?}");
    }
}
