//! The memory limit where no control group can be made: looks at the container's processes now and
//! then and kills the one that the kernel would have chosen. It is late by up to one period, so a
//! limit can be passed for that long; it must never look at a process outside the container.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How often it looks. A process that fills memory needs about this long for 100 MB.
const PERIOD: Duration = Duration::from_millis(50);

/// The full scale of `oom_score_adj`: this much means "as if it used all memory".
const ADJUSTMENT_SCALE: i64 = 1000;

/// What the kernel counts in.
const PAGE: u64 = 4096;

/// Bytes of a page table for each page.
const TABLE_ENTRY: u64 = 8;

/// Most processes looked at, so that a fork bomb does not take the simulator with it.
const MAX_PROCESSES: usize = 10_000;

/// Watches one container.
#[derive(Debug)]
pub(in super::super) struct Watchdog {
    limit: u64,
    /// Whether all processes are killed when one has to be.
    whole: bool,
    kills: AtomicU64,
    killed: std::sync::Mutex<Vec<u32>>,
}

struct Process {
    pid: u32,
    bytes: u64,
    /// What the kernel compares when it chooses.
    score: i64,
}

impl Watchdog {
    pub(in super::super) fn new(limit: u64, whole: bool) -> Self {
        Self { limit, whole, kills: AtomicU64::new(0), killed: std::sync::Mutex::default() }
    }

    /// How many processes it has killed.
    pub(in super::super) fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    /// Whether this process was one of them.
    pub(in super::super) fn has_killed(&self, pid: u32) -> bool {
        self.killed.lock().is_ok_and(|killed| killed.contains(&pid))
    }

    /// Watches until dropped. `roots` gives the container's first process and those that entered
    /// it; all others descend from these.
    pub(in super::super) async fn run(&self, roots: impl Fn() -> Vec<u32>) {
        loop {
            tokio::time::sleep(PERIOD).await;
            self.look(roots());
        }
    }

    fn look(&self, roots: Vec<u32>) {
        let mut waiting = roots;
        let mut seen = Vec::new();
        while let Some(pid) = waiting.pop() {
            let Some((process, children)) = inspect(pid, self.limit) else { continue };
            waiting.extend(children);
            seen.push(process);
            if seen.len() >= MAX_PROCESSES {
                break;
            }
        }
        let total: u64 = seen.iter().map(|process| process.bytes).sum();
        // What has been killed needs a moment to give its memory back; until then nothing else has
        // to die.
        if total <= self.limit || seen.iter().any(|process| process.bytes > 0 && self.has_killed(process.pid)) {
            return;
        }
        let Some(victim) = seen.iter().filter(|process| process.score > i64::MIN).max_by_key(|process| process.score)
        else {
            return;
        };
        let victims: Vec<u32> =
            if self.whole { seen.iter().map(|process| process.pid).collect() } else { vec![victim.pid] };
        for pid in victims {
            if kill(pid) {
                self.kills.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut killed) = self.killed.lock() {
                    killed.push(pid);
                }
            }
        }
    }
}

fn inspect(pid: u32, limit: u64) -> Option<(Process, Vec<u32>)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let adjustment = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse::<i64>().ok()?;
    let bytes = memory(&status);
    // A process that is on its way out frees its memory only after a while; it is not killed twice.
    let dying = status.lines().any(|line| line.starts_with("State:\tZ") || line.starts_with("State:\tX"));
    let spared = dying || adjustment <= -ADJUSTMENT_SCALE;
    let score = if spared { i64::MIN } else { score(&status, bytes, limit, adjustment) };
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Some((Process { pid, bytes, score }, children))
}

/// What the kernel compares, in pages, with its own rounding. `bytes`: what this process has of the
/// memory that counts. The kernel never lets a process pass the limit, so what is above it does not
/// count, nor do its page tables.
fn score(status: &str, bytes: u64, limit: u64, adjustment: i64) -> i64 {
    let others = sum(status, &["RssFile:", "VmSwap:"]);
    let tables = sum(status, &["VmPTE:"]).saturating_sub(bytes.saturating_sub(limit) / PAGE * TABLE_ENTRY);
    let used = bytes.min(limit).saturating_add(others).saturating_add(tables);
    let pages = i64::try_from(used / PAGE).unwrap_or(i64::MAX);
    let step = i64::try_from(limit / PAGE).unwrap_or(i64::MAX) / ADJUSTMENT_SCALE;
    pages.saturating_add(step.saturating_mul(adjustment))
}

/// Anonymous and shared memory in bytes, which is what cannot be dropped; from
/// `/proc/<pid>/status`.
fn memory(status: &str) -> u64 {
    sum(status, &["RssAnon:", "RssShmem:"])
}

fn sum(status: &str, fields: &[&str]) -> u64 {
    status
        .lines()
        .filter_map(|line| fields.iter().find_map(|field| line.strip_prefix(field)))
        .filter_map(|value| value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .sum()
}

fn kill(pid: u32) -> bool {
    let Some(pid) = Pid::from_raw(pid.cast_signed()) else { return false };
    pidfd_open(pid, PidfdFlags::empty()).and_then(|handle| pidfd_send_signal(handle, Signal::KILL)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_anonymous_and_shared_memory() {
        let status = "Name:\tx\nVmRSS:\t  999 kB\nRssAnon:\t  100 kB\nRssFile:\t  50 kB\nRssShmem:\t  4 kB\n";
        assert_eq!(memory(status), 104 * 1024);
    }

    #[test]
    fn scores_are_the_kernels() {
        // Seen in a kernel's log: with a limit of 16,384 pages it chose the second, not the first.
        let first = score("RssFile:\t 1532 kB\nVmPTE:\t 40 kB\n", 0, 16_384 * PAGE, 1000);
        let second = score("RssFile:\t 1196 kB\nVmPTE:\t 172 kB\n", 16_192 * PAGE, 16_384 * PAGE, 0);
        assert_eq!((first, second), (16_393, 16_534));
    }

    #[test]
    fn what_is_above_the_limit_does_not_count() {
        // Half a gigabyte in the time between two looks: the page tables of all of it are there.
        let beyond = score("RssFile:\t 1196 kB\nVmPTE:\t 1068 kB\n", 131_072 * PAGE, 16_000 * PAGE, 0);
        let at = score("RssFile:\t 1196 kB\nVmPTE:\t 169 kB\n", 16_000 * PAGE, 16_000 * PAGE, 0);
        assert_eq!(beyond, at);
    }

    #[test]
    fn finds_this_process_and_its_memory() {
        let (process, _) = inspect(std::process::id(), 1 << 30).expect("this process exists");
        assert!(process.bytes > 0);
    }
}
