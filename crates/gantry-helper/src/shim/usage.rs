//! What this container has used so far: read from its control group, of version 2 or 1. In a
//! container the root of the mount is the container's own group; where it is not, or is not there,
//! nothing is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use gantry_wire::usage::Usage;
use tokio::time::Instant;

/// More than this is how version 1 writes "no limit": it is about as much as an address space
/// holds.
const NO_LIMIT: u64 = 1 << 62;

/// Reads the control group, and remembers the most that was in use.
#[derive(Debug)]
pub(super) struct Meter {
    root: PathBuf,
    begun: Instant,
    peak: Option<u64>,
}

impl Meter {
    /// Of the control group whose files are at `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), begun: Instant::now(), peak: None }
    }

    /// What is known now; nothing where no file can be read.
    pub(super) fn read(&mut self) -> Option<Usage> {
        let mut usage = if self.root.join("cgroup.controllers").exists() { self.second() } else { self.first() };
        self.peak = self.peak.max(usage.memory_peak);
        usage.memory_peak = self.peak;
        if usage.is_empty() {
            return None;
        }
        usage.elapsed_us = u64::try_from(self.begun.elapsed().as_micros()).ok();
        Some(usage)
    }

    fn second(&self) -> Usage {
        // The root group of a machine has no limit file: what it has used is not this container's.
        if !self.root.join("memory.max").exists() {
            return Usage::default();
        }
        let stat = self.text("cpu.stat");
        Usage {
            memory_peak: in_use(self.number("memory.current"), &self.text("memory.stat"), "inactive_file"),
            memory_with_files: self.number("memory.peak"),
            memory_limit: self.number("memory.max"),
            cpu_us: field(&stat, "usage_usec"),
            throttled_us: field(&stat, "throttled_usec"),
            ..Usage::default()
        }
    }

    fn first(&self) -> Usage {
        let limit = self.number("memory/memory.limit_in_bytes");
        let stat = self.text("cpu/cpu.stat");
        let memory = Usage {
            memory_peak: in_use(
                self.number("memory/memory.usage_in_bytes"),
                &self.text("memory/memory.stat"),
                "total_inactive_file",
            ),
            memory_with_files: self.number("memory/memory.max_usage_in_bytes"),
            memory_limit: limit.filter(|limit| *limit < NO_LIMIT),
            ..Usage::default()
        };
        let cpu = Usage {
            cpu_us: self.number::<u64>("cpuacct/cpuacct.usage").map(|nanos| nanos / 1000),
            throttled_us: field(&stat, "throttled_time").map(|nanos| nanos / 1000),
            ..Usage::default()
        };
        // Only the group of the whole machine has this file.
        let is_own = |controller: &str| !self.root.join(controller).join("release_agent").exists();
        let own = |usage: Usage, controller| if is_own(controller) { usage } else { Usage::default() };
        own(memory, "memory").and(&own(cpu, "cpuacct"))
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.root.join(file)).unwrap_or_default()
    }

    fn number<N: FromStr>(&self, file: &str) -> Option<N> {
        self.text(file).trim().parse().ok()
    }
}

/// Memory that is needed: the kernel takes back files that nobody has looked at lately before it
/// ends anybody.
fn in_use(current: Option<u64>, stat: &str, idle_files: &str) -> Option<u64> {
    Some(current?.saturating_sub(field(stat, idle_files)?))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn both_versions_are_read_and_peaks_stay() {
        let second = group(&[
            ("cgroup.controllers", "memory cpu"),
            ("memory.max", "max\n"),
            ("memory.current", "1000\n"),
            ("memory.peak", "5000\n"),
            ("memory.stat", "anon 1\ninactive_file 300\n"),
            ("cpu.stat", "usage_usec 77\nuser_usec 70\nthrottled_usec 5\n"),
        ]);
        let mut meter = Meter::new(second.path());
        let usage = meter.read().unwrap();
        assert_eq!((usage.memory_peak, usage.memory_with_files, usage.memory_limit), (Some(700), Some(5000), None));
        assert_eq!((usage.cpu_us, usage.throttled_us), (Some(77), Some(5)));
        fs::write(second.path().join("memory.current"), "400").unwrap();
        assert_eq!(meter.read().unwrap().memory_peak, Some(700));

        let first = group(&[
            ("memory/memory.limit_in_bytes", "2048"),
            ("memory/memory.usage_in_bytes", "1000"),
            ("memory/memory.max_usage_in_bytes", "1500"),
            ("memory/memory.stat", "cache 1\ninactive_file 1\ntotal_inactive_file 100\n"),
            ("cpuacct/cpuacct.usage", "9000"),
            ("cpu/cpu.stat", "nr_periods 0\nthrottled_time 2000\n"),
        ]);
        let usage = Meter::new(first.path()).read().unwrap();
        assert_eq!(
            (usage.memory_peak, usage.memory_with_files, usage.memory_limit),
            (Some(900), Some(1500), Some(2048))
        );
        assert_eq!((usage.cpu_us, usage.throttled_us), (Some(9), Some(2)));
    }

    #[test]
    fn nothing_is_said_where_nothing_can_be_read() {
        assert_eq!(Meter::new(group(&[]).path()).read(), None);
        // The machine's own group.
        let machine = group(&[("cgroup.controllers", "memory"), ("cpu.stat", "usage_usec 77\n")]);
        assert_eq!(Meter::new(machine.path()).read(), None);
        let machine = group(&[
            ("memory/memory.max_usage_in_bytes", "1500"),
            ("memory/release_agent", ""),
            ("cpuacct/cpuacct.usage", "9000"),
            ("cpuacct/release_agent", ""),
        ]);
        assert_eq!(Meter::new(machine.path()).read(), None);
    }
}
