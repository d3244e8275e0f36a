//! Metrics of the process itself, under the names that all of Prometheus' client libraries use.
//! Read from `/proc` when they are asked for.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntGauge};

/// The kernel counts CPU time and moments for programs in this unit, whatever its own clock does
/// (`proc_pid_stat(5)`: `USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;

/// See [`Metrics::new`](crate::metrics::Metrics::new).
pub(crate) struct ProcessMetrics {
    cpu: Counter,
    start_time: IntGauge,
    threads: IntGauge,
    virtual_memory: IntGauge,
    resident_memory: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
}

/// What the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ProcStat {
    cpu_seconds: f64,
    /// Since the machine has booted.
    started_seconds: f64,
    threads: i64,
    virtual_bytes: i64,
}

impl ProcessMetrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            cpu: Counter::new("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")?,
            start_time: IntGauge::new(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            )?,
            threads: IntGauge::new("process_threads", "Number of OS threads in the process.")?,
            virtual_memory: IntGauge::new("process_virtual_memory_bytes", "Virtual memory size in bytes.")?,
            resident_memory: IntGauge::new("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            open_fds: IntGauge::new("process_open_fds", "Number of open file descriptors.")?,
            max_fds: IntGauge::new("process_max_fds", "Maximum number of open file descriptors.")?,
        })
    }

    /// What cannot be read keeps its value.
    fn look(&self) {
        let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
        if let Some(seen) = stat(&read("/proc/self/stat")) {
            self.cpu.inc_by((seen.cpu_seconds - self.cpu.get()).max(0.0));
            self.threads.set(seen.threads);
            self.virtual_memory.set(seen.virtual_bytes);
            if let Some(booted) = after(&read("/proc/stat"), "btime") {
                self.start_time.set(booted.saturating_add(whole(seen.started_seconds)));
            }
        }
        if let Some(kib) = after(&read("/proc/self/status"), "VmRSS:") {
            self.resident_memory.set(kib.saturating_mul(1024));
        }
        if let Some(max) = after(&read("/proc/self/limits"), "Max open files") {
            self.max_fds.set(max);
        }
        // The directory that is read is one of them, and not for long.
        let open = fs::read_dir("/proc/self/fd").map_or(0, |open| open.flatten().count().saturating_sub(1));
        self.open_fds.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    fn gauges(&self) -> [&prometheus::IntGauge; 6] {
        [&self.start_time, &self.threads, &self.virtual_memory, &self.resident_memory, &self.open_fds, &self.max_fds]
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.cpu.desc().into_iter().chain(self.gauges().into_iter().flat_map(|gauge| gauge.desc())).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.look();
        self.cpu.collect().into_iter().chain(self.gauges().into_iter().flat_map(Collector::collect)).collect()
    }
}

/// Reads `/proc/<pid>/stat`. The name of the program comes before the numbers, and may hold
/// anything.
fn stat(text: &str) -> Option<ProcStat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
    let seconds = |index: usize| Some(fields.get(index)?.parse::<f64>().ok()? / TICKS_A_SECOND);
    // Fields 14 and 15, 22, 20, 23 of the manual page, which counts from the process id.
    Some(ProcStat {
        cpu_seconds: seconds(11)? + seconds(12)?,
        started_seconds: seconds(19)?,
        threads: number(17)?,
        virtual_bytes: number(20)?,
    })
}

/// The first number behind a name at the beginning of a line.
fn after(text: &str, name: &str) -> Option<i64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[expect(clippy::cast_possible_truncation, reason = "seconds since a machine has booted")]
fn whole(seconds: f64) -> i64 {
    seconds as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let text = "42 (a) (b c) S 1 42 42 0 -1 4194560 900 0 0 0 1234 66 0 0 20 0 5 0 250 98765432 5000 184 1 1";
        let seen = ProcStat { cpu_seconds: 13.0, started_seconds: 2.5, threads: 5, virtual_bytes: 98_765_432 };
        assert_eq!(stat(text), Some(seen));
        assert_eq!(stat("42 (short) S 1"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(after(limits, "Max open files"), Some(1024));
        assert_eq!(after("Max open files            unlimited", "Max open files"), None);
    }

    #[test]
    fn this_process_has_numbers() {
        let metrics = ProcessMetrics::new().unwrap();
        let families = metrics.collect();
        let names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
        assert_eq!(names.len(), metrics.desc().len());
        assert!(names.iter().all(|name| name.starts_with("process_")), "{names:?}");
        for gauge in [&metrics.start_time, &metrics.threads, &metrics.virtual_memory, &metrics.resident_memory] {
            assert!(gauge.get() > 0, "{:?}", gauge.desc());
        }
        assert!(metrics.open_fds.get() >= 3 && metrics.max_fds.get() >= metrics.open_fds.get());
    }
}
