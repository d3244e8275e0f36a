//! `image` and `services`.

use std::sync::LazyLock;

use regex::Regex;

use super::field::Field;
use super::model::{CiImage, CiJob};
use super::node::Value;
use super::problem::{At, Report};
use super::variables::{self, Lookup};

const IMAGE_KEYS: &[&str] = &["name", "entrypoint", "docker", "kubernetes", "pull_policy", "ports"];
const SERVICE_KEYS: &[&str] =
    &["name", "alias", "entrypoint", "command", "docker", "kubernetes", "pull_policy", "variables", "ports"];
const PULL_POLICIES: &[&str] = &["always", "if-not-present", "never"];

/// What container runtimes take for the name of an image (the grammar of the distribution project).
static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
    let host = format!(r"(?:{label}(?:\.{label})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?");
    let part = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*";
    let tag = "(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?";
    let digest = "(?:@[a-zA-Z][a-zA-Z0-9]*(?:[-_+.][a-zA-Z][a-zA-Z0-9]*)*:[0-9a-fA-F]{32,})?";
    Regex::new(&format!("^(?:{host}/)?{part}(?:/{part})*{tag}{digest}$")).ok()
});

/// Warns of images whose names nobody can read once variables are put in: their jobs will fail.
pub(super) fn check(job: &CiJob, at: &At, lookup: &Lookup, report: &mut Report) {
    let images = job.image.iter().map(|image| ("image", image));
    for (key, image) in images.chain(job.services.iter().map(|service| ("services", service))) {
        let name = variables::expand_all(&image.name, lookup);
        let unknown = variables::references(&name);
        // What only a job knows, such as its id, is set later.
        if is_name(&name) || unknown.iter().any(|name| name.starts_with("CI_") || name.starts_with("GITLAB_")) {
            continue;
        }
        let text = if let Some(unknown) = unknown.first() {
            format!("`{}` is no image name unless something sets ${unknown} before the job starts", image.name)
        } else if name == image.name {
            format!("`{name}` is no image name")
        } else {
            format!("`{}` becomes `{name}`, which is no image name", image.name)
        };
        report.warning(at, &format!("jobs:{}:{key}", job.name), &text);
    }
}

fn is_name(text: &str) -> bool {
    NAME.as_ref().is_none_or(|pattern| pattern.is_match(text))
}

/// Reads `image`.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<CiImage> {
    one(field, IMAGE_KEYS, report)
}

/// Reads `services`.
pub(super) fn read_services(field: &Field<'_>, report: &mut Report) -> Vec<CiImage> {
    if field.list().is_none() {
        field.expected(report, "an array of services");
    }
    let items = field.flat_items().into_iter();
    items.filter_map(|item| one(&item.renamed(format!("{}:service", field.path)), SERVICE_KEYS, report)).collect()
}

fn one(field: &Field<'_>, keys: &[&str], report: &mut Report) -> Option<CiImage> {
    if let Value::Text(name) = &field.node.value {
        if name.trim().is_empty() {
            field.problem(report, "name can't be blank");
            return None;
        }
        return Some(CiImage { name: name.to_string(), ..CiImage::default() });
    }
    if field.node.as_map().is_none() {
        field.expected(report, "a hash or a string");
        return None;
    }
    field.map_of(report, keys)?;
    let texts = |key: &str, report: &mut Report| field.get(key).and_then(|list| list.texts(report)).unwrap_or_default();
    let entrypoint = texts("entrypoint", report);
    let command = texts("command", report);
    let name = field.get("name").and_then(|name| name.text(report));
    if !field.has("name") || name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        field.problem(report, "name can't be blank");
    }
    if let Some(ports) = field.get("ports") {
        ports.warning(report, "has no effect here");
    }
    let docker = field.get("docker");
    let kubernetes = field.get("kubernetes");
    if let Some(options) = &docker {
        options.map_of(report, &["platform", "user"]);
    }
    if let Some(options) = &kubernetes {
        options.map_of(report, &["user"]);
    }
    Some(CiImage {
        name: name.unwrap_or_default(),
        entrypoint,
        command,
        alias: field.get("alias").and_then(|alias| alias.text(report)),
        pull_policy: field.get("pull_policy").map(|policy| pull_policy(&policy, report)).unwrap_or_default(),
        variables: field
            .get("variables")
            .map(|list| variables::read(&list, variables::JOB_DATA, report))
            .unwrap_or_default(),
        docker_platform: option(docker.as_ref(), "platform", report),
        docker_user: option(docker.as_ref(), "user", report),
        kubernetes_user: option(kubernetes.as_ref(), "user", report),
    })
}

/// A user may be a number (`1000`), everything else is text.
fn option(options: Option<&Field<'_>>, key: &str, report: &mut Report) -> Option<String> {
    let field = options?.get(key)?;
    let text = field.alphanumeric(report);
    if text.is_none() {
        field.expected(report, "a string or a number");
    }
    text
}

fn pull_policy(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    if field.list().is_none() {
        return field.one_of(report, PULL_POLICIES).into_iter().collect();
    }
    field.items().filter_map(|item| item.one_of(report, PULL_POLICIES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_are_told_from_other_texts() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in [
            "debian",
            "debian:12",
            "group/tool:1.2-x_Y",
            "127.0.0.1:5050/group/tool:1",
            "localhost:5000/a",
            "registry.example.com/a/b/c",
            "[::1]:5050/a",
            "a__b/c--d.e",
            &digest,
        ] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "/tool:1",
            ":1",
            "Upper",
            "a/Tool",
            "a b",
            "a:",
            "a:b:c",
            "a//b",
            "$X/a",
            "a@sha256:12",
            "-a",
            "http://a/b",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
