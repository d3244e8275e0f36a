//! What the containers of a job have used, and what they may use.

use serde::{Deserialize, Serialize};

/// What one container has used so far, as its control group says. What cannot be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Most memory that was needed at once, in bytes: without files that the kernel only keeps in
    /// memory because there was room. Looked at about once a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    /// The same with those files, in bytes: the kernel's own count, which misses nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_with_files: Option<u64>,
    /// The memory limit in force, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// Time on CPUs, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<u64>,
    /// Time that it had to wait because its CPU limit was used up, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_us: Option<u64>,
    /// Time from the container's start, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_us: Option<u64>,
    /// Bytes in the project's directory when the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
}

impl Usage {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same with what `newer` says; peaks only grow.
    #[must_use]
    pub fn and(self, newer: &Self) -> Self {
        Self {
            memory_peak: self.memory_peak.max(newer.memory_peak),
            memory_with_files: self.memory_with_files.max(newer.memory_with_files),
            memory_limit: newer.memory_limit.or(self.memory_limit),
            cpu_us: self.cpu_us.max(newer.cpu_us),
            throttled_us: self.throttled_us.max(newer.throttled_us),
            elapsed_us: self.elapsed_us.max(newer.elapsed_us),
            disk: newer.disk.or(self.disk),
        }
    }
}

/// What a container asks for and may use, in Kubernetes' notation. What is not set is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcePlan {
    /// `requests.cpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_request: Option<String>,
    /// `limits.cpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<String>,
    /// `requests.memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_request: Option<String>,
    /// `limits.memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<String>,
    /// `requests.ephemeral-storage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_request: Option<String>,
    /// `limits.ephemeral-storage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_limit: Option<String>,
}

impl ResourcePlan {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
