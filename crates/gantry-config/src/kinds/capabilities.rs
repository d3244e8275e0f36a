//! Lists of capabilities of Linux.

use super::{checked, custom};
use crate::declare::{Declared, Kind};
use crate::key::Form;
use crate::nearest::nearest;
use crate::problem::Severity;
use crate::section::Section;

/// Capabilities.
pub(crate) fn capabilities(key: &'static str) -> Declared<impl Kind<Value = Vec<String>>> {
    custom(key, Form::Texts, "", read_capabilities)
}

/// The same, where an empty list is not nothing.
pub(crate) fn optional_capabilities(key: &'static str) -> Declared<impl Kind<Value = Option<Vec<String>>>> {
    custom(key, Form::Texts, "", |section: &Section<'_>, key| {
        section.find(key).map(|_| read_capabilities(section, key))
    })
}

fn read_capabilities(section: &Section<'_>, key: &'static str) -> Vec<String> {
    checked(section, key, |name| {
        let upper = name.to_ascii_uppercase();
        if let Some(short) = upper.strip_prefix("CAP_") {
            return Some((Severity::Warning, format!("{name:?} is written without CAP_ here: write {short:?}")));
        }
        if CAPABILITIES.contains(&upper.as_str()) {
            return None;
        }
        let near = nearest(&upper, CAPABILITIES).map(|near| format!(": did you mean {near:?}?"));
        let message = format!("{name:?} is no capability that this version knows{}", near.unwrap_or_default());
        Some((Severity::Warning, message))
    })
}

/// Capabilities of Linux 6.12, and all of them. A container runtime refuses those that it does not
/// know.
const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
