//! Signals to everything that this process has started, whatever its process group, session or
//! terminal.
//!
//! Agent and shim are the reapers of their containers, as first process or as subreaper: an orphan
//! becomes their child. So nothing that a script starts ever leaves this tree, and what others
//! start in the container (`kubectl exec`) is never in it.

use std::collections::{HashMap, HashSet};
use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpid};

use crate::limits::SCANS;

/// Everything was asked to end, each process once.
///
/// Those that only read what others write through a pipe are asked last, when nobody writes to them
/// any more: most end by themselves then. `terraform apply | tee log` would otherwise lose its
/// lock, because what it says about the signal hits a pipe that nobody reads.
#[derive(Debug)]
pub(crate) struct Termination {
    /// Not asked yet.
    readers: HashSet<Pid>,
    /// Those of them that nobody wrote to at the last look.
    starved: HashSet<Pid>,
}

impl Termination {
    /// Asks all but readers, as they are at this moment; `None` if there is nothing to ask.
    ///
    /// Between a look at `/proc` and a signal a process may start another, and a process that
    /// handles TERM may start one to clean up, which must not be hit. So all of it is stopped
    /// before it is told, and goes on afterwards.
    pub(crate) fn begin() -> Option<Self> {
        let all = signal_all(Signal::SIGSTOP);
        let readers = readers(&all);
        for pid in all.difference(&readers) {
            let _ = kill(*pid, Signal::SIGTERM);
        }
        for pid in &all {
            let _ = kill(*pid, Signal::SIGCONT);
        }
        (!all.is_empty()).then(|| Self { readers, starved: HashSet::new() })
    }

    /// Asks the readers that have had nobody to read from since the last look.
    pub(crate) fn follow_up(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let living = living();
        self.readers.retain(|pid| living.contains(pid));
        let fed = readers(&living);
        let starving: HashSet<Pid> = self.readers.difference(&fed).copied().collect();
        for pid in starving.intersection(&self.starved) {
            let _ = kill(*pid, Signal::SIGTERM);
            self.readers.remove(pid);
        }
        self.starved = starving;
    }

    /// Asks all that have not been asked yet.
    pub(crate) fn finish(&mut self) {
        let living = living();
        for pid in self.readers.drain().filter(|pid| living.contains(pid)) {
            let _ = kill(pid, Signal::SIGTERM);
        }
    }
}

/// Ends everything.
pub(crate) fn end() {
    drop(signal_all(Signal::SIGKILL));
}

/// Whether there are any, alive or waiting to be collected: without a child of our own there is
/// none at all.
pub(crate) fn exist() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, flags) != Err(Errno::ECHILD)
}

/// How many live.
pub(crate) fn count() -> usize {
    living().len()
}

/// Signals all, and all that they have started meanwhile, until there is nothing new. Both signals
/// keep a process from starting another.
fn signal_all(signal: Signal) -> HashSet<Pid> {
    let mut seen = HashSet::new();
    for _ in 0..SCANS {
        let before = seen.len();
        for pid in living() {
            if seen.insert(pid) {
                // One that is gone, or that belongs to a user whom we may not signal, is none that
                // we could stop.
                let _ = kill(pid, signal);
            }
        }
        if seen.len() == before {
            break;
        }
    }
    seen
}

/// Those of `processes` whose standard input is a pipe that another of them has for its output. A
/// process whose files we may not see is none of them.
fn readers(processes: &HashSet<Pid>) -> HashSet<Pid> {
    let pipe = |pid: &Pid, fd: u32| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?.into_os_string().into_string().ok()?;
        link.starts_with("pipe:").then_some(link)
    };
    let mut written: HashMap<String, HashSet<Pid>> = HashMap::new();
    for pid in processes {
        for link in [1, 2].into_iter().filter_map(|fd| pipe(pid, fd)) {
            written.entry(link).or_default().insert(*pid);
        }
    }
    let has_writer = |pid: &Pid| {
        let writers = pipe(pid, 0).and_then(|link| written.get(&link));
        writers.is_some_and(|writers| writers.iter().any(|writer| writer != pid))
    };
    processes.iter().filter(|pid| has_writer(pid)).copied().collect()
}

/// All descendants of this process that have not ended.
fn living() -> HashSet<Pid> {
    let mut children: HashMap<i32, Vec<(i32, bool)>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) = Stat::of(pid) {
            children.entry(stat.parent).or_default().push((pid, stat.has_ended));
        }
    }
    let mut found = HashSet::new();
    let mut parents = vec![getpid().as_raw()];
    while let Some(parent) = parents.pop() {
        for (pid, has_ended) in children.remove(&parent).unwrap_or_default() {
            parents.push(pid);
            if !has_ended {
                found.insert(Pid::from_raw(pid));
            }
        }
    }
    found
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: i32,
    /// Nothing is left of it but its exit status.
    pub(crate) has_ended: bool,
}

impl Stat {
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// State and parent are the third and fourth field. The second is the program's name in
    /// parentheses, which may itself hold blanks and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        Some(Self { parent, has_ended: matches!(state, "Z" | "X" | "x") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_forge_a_parent() {
        let parse = |text| Stat::parse(text).map(|stat| (stat.parent, stat.has_ended));
        assert_eq!(parse("12 (sh) S 0 12 12 0"), Some((0, false)));
        assert_eq!(parse("12 (a) S 0 ) Z 7 12"), Some((7, true)));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn the_parent_of_a_process_is_found() {
        let parent = Stat::of(getpid().as_raw()).map(|stat| stat.parent);
        assert_eq!(parent, Some(nix::unistd::getppid().as_raw()));
    }
}
