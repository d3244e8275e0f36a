//! A process under test, with everything it writes kept in a file. It ends with its owner, its
//! whole process group with it.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::until::until;

/// How long a process may take to end when its owner is dropped: a simulated cluster ends its
/// containers first.
const GRACE: Duration = Duration::from_secs(10);

/// A process that runs, or has run.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    group: Pid,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `program` with nothing of our own environment but the search path. It writes below
    /// `dir`, its output to `<dir>/<name>.log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(name: &str, dir: &Path, program: &Path, args: &[String]) -> anyhow::Result<Self> {
        Self::start_with(name, dir, program, args, &[])
    }

    /// The same with more variables in its environment.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start_with(
        name: &str,
        dir: &Path,
        program: &Path,
        args: &[String],
        env: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", dir)
            .env("TMPDIR", dir)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        Ok(Self { name: name.to_owned(), log, group, child: Mutex::new(child) })
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.group
    }

    /// Where its output is.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal to the process alone.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        nix::sys::signal::kill(self.group, signal).with_context(|| format!("{} cannot get {signal}", self.name))
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs when the bound has passed.
    pub async fn wait(&self, bound: Duration) -> anyhow::Result<ExitStatus> {
        until(&format!("the end of {}", self.name), bound, async || {
            Ok(self.ended().ok_or_else(|| format!("it runs; its last lines:\n{}", last_lines(&self.log(), 20))))
        })
        .await
    }

    /// Waits for a line with `text` in its output, and returns that line.
    ///
    /// # Errors
    /// No such line comes in time, or the process ends without one.
    pub async fn wait_for_line(&self, text: &str, bound: Duration) -> anyhow::Result<String> {
        until(&format!("{text:?} from {}", self.name), bound, async || {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return Ok(Ok(line.to_owned()));
            }
            if let Some(status) = self.ended() {
                anyhow::bail!("{} has ended ({status}):\n{log}", self.name);
            }
            Ok(Err(last_lines(&log, 5)))
        })
        .await
    }

    /// Ends it, politely at first.
    pub fn end(&self) {
        if self.ended().is_some() {
            return;
        }
        let _ = self.signal(Signal::SIGTERM);
        #[expect(clippy::disallowed_methods, reason = "a drop cannot wait on tokio's clock")]
        let is_over = (0..GRACE.as_millis() / 20).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            self.ended().is_some()
        });
        let _ = killpg(self.group, Signal::SIGKILL);
        if !is_over {
            let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
