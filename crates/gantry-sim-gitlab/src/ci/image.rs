//! `image` and `services`.

use super::field::Field;
use super::model::CiImage;
use super::problem::Report;
use super::variables;
use super::yaml::Value;

const IMAGE_KEYS: &[&str] = &["name", "entrypoint", "docker", "kubernetes", "pull_policy", "ports"];
const SERVICE_KEYS: &[&str] =
    &["name", "alias", "entrypoint", "command", "docker", "kubernetes", "pull_policy", "variables", "ports"];
const PULL_POLICIES: &[&str] = &["always", "if-not-present", "never"];

/// Reads `image`.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<CiImage> {
    one(field, IMAGE_KEYS, report)
}

/// Reads `services`.
pub(super) fn read_services(field: &Field<'_>, report: &mut Report) -> Vec<CiImage> {
    if field.list().is_none() {
        field.expected(report, "an array of services");
    }
    field
        .items()
        .filter_map(|item| one(&item.renamed(format!("{}:service", field.path)), SERVICE_KEYS, report))
        .collect()
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
