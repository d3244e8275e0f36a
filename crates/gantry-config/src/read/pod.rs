//! Smaller tables of `[runners.kubernetes]`.

use super::{runner, words};
use crate::problem::Severity;
use crate::section::Section;
use crate::settings::pod::{
    ContainerLifecycle, DnsConfig, DnsPolicy, HostAlias, HttpGet, LifecycleHandler, PatchKind, PatchSource,
    PodSpecPatch, ServiceSettings,
};

pub(super) const DNS_POLICIES: [(&str, DnsPolicy); 4] = [
    ("none", DnsPolicy::None),
    ("default", DnsPolicy::Default),
    ("cluster-first", DnsPolicy::ClusterFirst),
    ("cluster-first-with-host-net", DnsPolicy::ClusterFirstWithHostNet),
];

pub(super) fn dns_config(section: &Section<'_>) -> DnsConfig {
    DnsConfig {
        nameservers: section.texts("nameservers"),
        searches: section.texts("searches"),
        options: section.sections("options", |table| (table.text_or_empty("name"), table.text("value"))),
    }
}

pub(super) fn host_alias(section: &Section<'_>) -> HostAlias {
    HostAlias { ip: section.text_or_empty("ip"), hostnames: section.texts("hostnames") }
}

pub(super) fn service(section: &Section<'_>) -> ServiceSettings {
    section.ignore(&["suspend_data_path"]);
    let aliases = section.text_or_empty("alias");
    ServiceSettings {
        name: section.text_or_empty("name"),
        aliases: aliases.split([' ', ',', '\t']).filter(|alias| !alias.is_empty()).map(str::to_owned).collect(),
        command: section.texts("command"),
        entrypoint: section.texts("entrypoint"),
        environment: runner::environment(section),
    }
}

pub(super) fn lifecycle(section: &Section<'_>) -> ContainerLifecycle {
    ContainerLifecycle {
        post_start: section.section("post_start", handler),
        pre_stop: section.section("pre_stop", handler),
    }
}

/// One of three tables; the first that is there counts.
fn handler(section: &Section<'_>) -> Option<LifecycleHandler> {
    let exec = section.section("exec", |table| table.is_present().then(|| table.texts("command")));
    let http = section.section("http_get", |table| {
        let get = HttpGet {
            host: table.text("host"),
            path: table.text("path"),
            port: port(table),
            scheme: table.text("scheme"),
            headers: table
                .sections("http_headers", |header| (header.text_or_empty("name"), header.text_or_empty("value"))),
        };
        table.is_present().then_some(get)
    });
    let tcp = section.section("tcp_socket", |table| {
        let (host, port) = (table.text("host"), port(table));
        table.is_present().then_some(LifecycleHandler::TcpSocket { host, port })
    });
    exec.map(LifecycleHandler::Exec).or_else(|| http.map(LifecycleHandler::HttpGet)).or(tcp)
}

fn port(table: &Section<'_>) -> u16 {
    let port = table.positive("port");
    if table.is_present() && port.is_none() {
        table.problem(Severity::Error, "port", "must be from 1 to 65535");
    }
    port.unwrap_or(0)
}

pub(super) fn patch(section: &Section<'_>) -> Option<PodSpecPatch> {
    let kinds = [("strategic", PatchKind::Strategic), ("merge", PatchKind::Merge), ("json", PatchKind::Json)];
    let name = section.text_or_empty("name");
    let kind = words::optional(section, "patch_type", &kinds).unwrap_or_default();
    let source = match (section.text("patch"), runner::path(section, "patch_path")) {
        (Some(text), None) => PatchSource::Inline(text),
        (None, Some(path)) => PatchSource::File(path),
        (Some(_), Some(_)) => {
            section.problem(Severity::Error, "patch_path", "patch and patch_path exclude each other: keep one of them");
            return None;
        }
        (None, None) => {
            section.problem(Severity::Warning, "patch", "is missing: the entry has no effect");
            return None;
        }
    };
    Some(PodSpecPatch { name, source, kind })
}
