//! The helpers that can be pushed, by machine. Their loading is the caller's business: this crate does not know where they are kept.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Static `gantry-helper` binaries by machine, as `uname -m` names it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HelperBinaries {
    by_machine: BTreeMap<String, Bytes>,
}

impl HelperBinaries {
    /// None: every image must bring its helper.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the one for `machine`: `x86_64` or `amd64`, `aarch64` or `arm64`, and so on.
    #[must_use]
    pub fn with(mut self, machine: &str, binary: impl Into<Bytes>) -> Self {
        self.by_machine.insert(canonical(machine).to_owned(), binary.into());
        self
    }

    /// The one for `machine`.
    pub fn get(&self, machine: &str) -> Option<Bytes> {
        self.by_machine.get(canonical(machine)).cloned()
    }

    /// The machines there is one for.
    pub fn machines(&self) -> impl Iterator<Item = &str> {
        self.by_machine.keys().map(String::as_str)
    }
}

/// Kernels, Go and images name the same machines differently.
fn canonical(machine: &str) -> &str {
    match machine {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}
