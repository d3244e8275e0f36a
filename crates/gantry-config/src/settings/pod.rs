//! Smaller tables of `[runners.kubernetes]`: services, names and addresses, lifecycle hooks,
//! patches.

use std::path::PathBuf;

use crate::declare::{Table as _, table};
use crate::key::Form;
use crate::kinds::{
    Meanings, address, addresses, checked, custom, optional_table, path, table_into, tables_into, text, text_or, texts,
    word_or_first,
};
use crate::names::{is_object_name, is_search_domain};
use crate::pod_patch::{Patch, PatchKind};
use crate::problem::Severity;
use crate::section::Section;

table! {
    /// `[[runners.kubernetes.services]]`. Name and aliases are unexpanded.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ServiceSettings {
        /// The image. Variables of the job are expanded.
        name: String = text_or("name", "");
        /// More host names, with blanks or commas between them.
        aliases: Vec<String> = custom("alias", Form::Text, "", aliases);
        /// Command of the container.
        command: Vec<String> = texts("command");
        /// Entrypoint of the container.
        entrypoint: Vec<String> = texts("entrypoint");
        /// Variables of the container, each as `KEY=value`.
        environment: Vec<(String, String)> = custom("environment", Form::Texts, "", super::runner::environment);
    }
    unread {
        /// Directory that is kept when the environment is suspended.
        text("suspend_data_path").never("environments are not suspended: keep files as artifacts, or on a volume");
    }
}

/// One without a name is left out, as in the reference, but not silently.
pub(super) fn service(section: &Section<'_>) -> Option<ServiceSettings> {
    let service = ServiceSettings::read(section);
    if service.name.is_empty() {
        section.problem(Severity::Warning, "name", "is missing: the service is left out");
    }
    Some(service).filter(|service| !service.name.is_empty())
}

fn aliases(section: &Section<'_>, key: &'static str) -> Vec<String> {
    let text = section.text_or_empty(key);
    text.split([' ', ',', '\t']).filter(|alias| !alias.is_empty()).map(str::to_owned).collect()
}

/// `dns_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsPolicy {
    /// `none`.
    None,
    /// `default`: the node's.
    Default,
    /// `cluster-first`.
    ClusterFirst,
    /// `cluster-first-with-host-net`.
    ClusterFirstWithHostNet,
}

pub(super) const DNS_POLICIES: Meanings<DnsPolicy> = &[
    ("none", DnsPolicy::None),
    ("default", DnsPolicy::Default),
    ("cluster-first", DnsPolicy::ClusterFirst),
    ("cluster-first-with-host-net", DnsPolicy::ClusterFirstWithHostNet),
];

table! {
    /// `[runners.kubernetes.dns_config]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DnsConfig {
        /// Addresses of name servers.
        nameservers: Vec<String> = addresses("nameservers");
        /// Domains in which short names are looked for.
        searches: Vec<String> = custom("searches", Form::Texts, "", |section: &Section<'_>, key| {
            checked(section, key, |domain| {
                let message = || (Severity::Error, format!("{domain:?} is no domain: those have lower-case letters, digits, '-', '_' and '.'"));
                (!is_search_domain(domain)).then(message)
            })
        });
        /// Options of the resolver.
        options: Vec<(String, Option<String>)> = tables_into::<DnsOption, _>("options", |section| {
            let DnsOption { name, value } = DnsOption::read(section);
            Some((name, value))
        });
    }
}

table! {
    /// An option of the resolver.
    pub struct DnsOption {
        /// Its name.
        name: String = custom("name", Form::Text, "", |section, key| section.required(key, "an option"));
        /// Its value, where it has one.
        value: Option<String> = text("value");
    }
}

table! {
    /// An entry of `host_aliases`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HostAlias {
        /// The address.
        ip: String = address("ip", "an entry of host_aliases");
        /// Its names.
        hostnames: Vec<String> = custom("hostnames", Form::Texts, "", |section: &Section<'_>, key| {
            checked(section, key, |name| {
                let message = || (Severity::Error, format!("{name:?} is no host name: those have lower-case letters, digits, '-' and '.'"));
                (!is_object_name(name)).then(message)
            })
        });
    }
}

table! {
    /// `[runners.kubernetes.container_lifecycle]`, for build, helper and services.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ContainerLifecycle {
        /// When a container has started.
        post_start: Option<LifecycleHandler> = table_into::<HandlerKeys, _>("post_start", handler);
        /// Before a container ends.
        pre_stop: Option<LifecycleHandler> = table_into::<HandlerKeys, _>("pre_stop", handler);
    }
}

/// What is done at a point of a container's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifecycleHandler {
    /// `[exec] command`.
    Exec(Vec<String>),
    /// `[http_get]`.
    HttpGet(HttpGet),
    /// `[tcp_socket]`.
    TcpSocket {
        /// `host`; `None` means the pod.
        host: Option<String>,
        /// `port`.
        port: u16,
    },
}

table! {
    /// The keys of a hook: the first of its tables that is there counts.
    pub struct HandlerKeys {
        /// A command in the container.
        exec: Option<Vec<String>> = table_into::<ExecKeys, _>("exec", |section| {
            section.is_present().then(|| ExecKeys::read(section).command)
        });
        /// A request.
        http_get: Option<HttpGet> = optional_table("http_get");
        /// A connection.
        tcp_socket: Option<TcpKeys> = optional_table("tcp_socket");
    }
}

table! {
    /// `[exec]` of a lifecycle hook.
    pub struct ExecKeys {
        /// The command and its arguments.
        command: Vec<String> = texts("command");
    }
}

table! {
    /// `[tcp_socket]` of a lifecycle hook.
    pub struct TcpKeys {
        /// The host; without it the pod.
        host: Option<String> = text("host");
        /// The port.
        port: u16 = custom("port", Form::FromOne, "", port);
    }
}

table! {
    /// `[http_get]` of a lifecycle hook.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HttpGet {
        /// The host; without it the pod.
        host: Option<String> = text("host");
        /// The path.
        path: Option<String> = text("path");
        /// The port.
        port: u16 = custom("port", Form::FromOne, "", port);
        /// `HTTP` or `HTTPS`; without it `HTTP`.
        scheme: Option<String> = custom("scheme", Form::Words(vec!["HTTP", "HTTPS"]), "", scheme);
        /// Headers of the request.
        headers: Vec<(String, String)> = tables_into::<Header, _>("http_headers", |section| {
            let Header { name, value } = Header::read(section);
            Some((name, value))
        });
    }
}

table! {
    /// A header.
    pub struct Header {
        /// Its name.
        name: String = text_or("name", "");
        /// Its value.
        value: String = text_or("value", "");
    }
}

/// One of three tables; the first that is there counts.
fn handler(section: &Section<'_>) -> Option<LifecycleHandler> {
    let HandlerKeys { exec, http_get, tcp_socket } = HandlerKeys::read(section);
    let given: Vec<&str> =
        [("exec", exec.is_some()), ("http_get", http_get.is_some()), ("tcp_socket", tcp_socket.is_some())]
            .into_iter()
            .filter_map(|(key, is_given)| is_given.then_some(key))
            .collect();
    match given.as_slice() {
        [] if section.is_present() => section.problem(
            Severity::Warning,
            "exec",
            "is missing, and so are http_get and tcp_socket: the hook has no effect",
        ),
        [first, others @ ..] => {
            for other in others {
                section.problem(Severity::Warning, other, format!("has no effect: the hook has {first} too"));
            }
        }
        [] => {}
    }
    if exec.as_ref().is_some_and(Vec::is_empty) {
        section.table("exec").problem(Severity::Error, "command", "is missing: exec needs it");
    }
    let tcp = tcp_socket.map(|TcpKeys { host, port }| LifecycleHandler::TcpSocket { host, port });
    exec.map(LifecycleHandler::Exec).or_else(|| http_get.map(LifecycleHandler::HttpGet)).or(tcp)
}

fn scheme(table: &Section<'_>, key: &'static str) -> Option<String> {
    let scheme = table.text(key)?;
    if !matches!(scheme.as_str(), "HTTP" | "HTTPS") {
        table.problem(Severity::Error, key, format!("{scheme:?} is neither HTTP nor HTTPS"));
    }
    Some(scheme)
}

fn port(table: &Section<'_>, key: &'static str) -> u16 {
    let port = table.int(key).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    if table.is_present() && port.is_none() {
        table.problem(Severity::Error, key, "must be from 1 to 65535");
    }
    port.unwrap_or(0)
}

/// `[[runners.kubernetes.pod_spec]]`; applies only with `FF_USE_ADVANCED_POD_SPEC_CONFIGURATION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpecPatch {
    /// `name`, for messages.
    pub name: String,
    /// Where the patch comes from.
    pub source: PatchSource,
    /// `patch_type`.
    pub kind: PatchKind,
}

/// Where the text of a patch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchSource {
    /// `patch`: in the file itself.
    Inline(Patch),
    /// `patch_path`: read each time a pod is made.
    File(PathBuf),
}

table! {
    /// The keys of `[[runners.kubernetes.pod_spec]]`.
    pub struct PatchKeys {
        /// Name of the patch, for messages.
        name: String = text_or("name", "");
        /// The patch, as YAML or JSON.
        patch: Option<String> = text("patch");
        /// A file with the patch, read each time a pod is made.
        patch_path: Option<PathBuf> = path("patch_path");
        /// Which kind of patch it is.
        patch_type: PatchKind = word_or_first("patch_type", PATCH_KINDS);
    }
}

const PATCH_KINDS: Meanings<PatchKind> =
    &[("strategic", PatchKind::Strategic), ("merge", PatchKind::Merge), ("json", PatchKind::Json)];

pub(super) fn patch(section: &Section<'_>) -> Option<PodSpecPatch> {
    let PatchKeys { name, patch, patch_path, patch_type } = PatchKeys::read(section);
    let source = match (patch, patch_path) {
        (Some(text), None) => match Patch::parse(patch_type, &text) {
            Ok(patch) => PatchSource::Inline(patch),
            Err(message) => {
                section.problem(Severity::Error, "patch", message);
                return None;
            }
        },
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
    Some(PodSpecPatch { name, source, kind: patch_type })
}
