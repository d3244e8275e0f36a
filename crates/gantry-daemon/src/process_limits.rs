//! What the process may have and what it has sent, under the names of Go's process metrics, which
//! the library's own leave out.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter};

/// Reads `/proc` when it is asked (proc(5)).
pub(crate) struct ProcessLimits {
    address_space: Gauge,
    received: IntCounter,
    transmitted: IntCounter,
}

impl ProcessLimits {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            address_space: Gauge::new(
                "process_virtual_memory_max_bytes",
                "Maximum amount of virtual memory available in bytes.",
            )?,
            received: IntCounter::new(
                "process_network_receive_bytes_total",
                "Number of bytes received by the process over the network.",
            )?,
            transmitted: IntCounter::new(
                "process_network_transmit_bytes_total",
                "Number of bytes sent by the process over the network.",
            )?,
        })
    }
}

impl Collector for ProcessLimits {
    fn desc(&self) -> Vec<&Desc> {
        [self.address_space.desc(), self.received.desc(), self.transmitted.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        self.address_space.set(address_space(&read("limits")));
        if let Some([received, transmitted]) = octets(&read("net/netstat")) {
            self.received.inc_by(received.saturating_sub(self.received.get()));
            self.transmitted.inc_by(transmitted.saturating_sub(self.transmitted.get()));
        }
        [self.address_space.collect(), self.received.collect(), self.transmitted.collect()].concat()
    }
}

/// The soft limit. Where there is none it is what Go's library shows then: the largest number.
fn address_space(limits: &str) -> f64 {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"));
    let soft = line.and_then(|line| line.split_whitespace().next()).and_then(|soft| soft.parse::<f64>().ok());
    soft.unwrap_or(18_446_744_073_709_551_615.0)
}

/// Bytes that the network of the process has received and sent: names in one line, numbers in the
/// next.
fn octets(netstat: &str) -> Option<[u64; 2]> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let at = names.split_whitespace().position(|name| name == wanted)?;
        numbers.split_whitespace().nth(at)?.parse().ok()
    };
    Some([value("InOctets")?, value("OutOctets")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\nMax address space         4096                 unlimited            bytes\n";
        assert!((address_space(limits) - 4096.0).abs() < f64::EPSILON);
        assert!(address_space("Max address space         unlimited            unlimited            bytes\n") > 1.8e19);
        let netstat = "TcpExt: A\nTcpExt: 1\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 700 800\n";
        assert_eq!(octets(netstat), Some([700, 800]));
        assert_eq!(octets(""), None);
    }
}
