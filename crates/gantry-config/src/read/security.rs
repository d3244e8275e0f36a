//! Security contexts. A value that cannot be understood is an error here, although the reference drops it with a line in its own log: a pod
//! must not run with less protection than its operator asked for.

use super::words;
use crate::problem::Severity;
use crate::section::Section;
use crate::settings::security::{ContainerSecurityContext, PodSecurityContext, ProcMount, Profile};

pub(super) fn pod(section: &Section<'_>) -> PodSecurityContext {
    PodSecurityContext {
        fs_group: section.int("fs_group"),
        run_as_user: section.int("run_as_user"),
        run_as_group: section.int("run_as_group"),
        run_as_non_root: section.bool("run_as_non_root"),
        supplemental_groups: section.ints("supplemental_groups"),
        selinux_type: section.text("selinux_type"),
        seccomp_profile: section.section("seccomp_profile", profile),
        app_armor_profile: section.section("app_armor_profile", profile),
    }
}

pub(super) fn container(section: &Section<'_>) -> ContainerSecurityContext {
    let (capabilities_add, capabilities_drop) =
        section.section("capabilities", |table| (table.texts("add"), table.texts("drop")));
    let mounts = [("default", ProcMount::Default), ("unmasked", ProcMount::Unmasked)];
    ContainerSecurityContext {
        capabilities_add,
        capabilities_drop,
        privileged: section.bool("privileged"),
        run_as_user: section.int("run_as_user"),
        run_as_group: section.int("run_as_group"),
        run_as_non_root: section.bool("run_as_non_root"),
        read_only_root_filesystem: section.bool("read_only_root_filesystem"),
        allow_privilege_escalation: section.bool("allow_privilege_escalation"),
        selinux_type: section.text("selinux_type"),
        proc_mount: words::lenient(section, "proc_mount", &mounts),
        seccomp_profile: section.section("seccomp_profile", profile),
        app_armor_profile: section.section("app_armor_profile", profile),
    }
}

fn profile(section: &Section<'_>) -> Option<Profile> {
    let name = section.text("localhost_profile");
    let kinds = [("RuntimeDefault", 0), ("Unconfined", 1), ("Localhost", 2)];
    match (words::optional(section, "type", &kinds)?, name) {
        (0, _) => Some(Profile::RuntimeDefault),
        (1, _) => Some(Profile::Unconfined),
        (_, Some(name)) => Some(Profile::Localhost(name)),
        (_, None) => {
            section.problem(
                Severity::Error,
                "localhost_profile",
                "is missing: type Localhost needs the profile's name",
            );
            None
        }
    }
}
