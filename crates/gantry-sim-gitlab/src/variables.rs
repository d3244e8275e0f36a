//! The variables that GitLab defines for every job, and the expansion it does before it sends a
//! payload. Pure.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::ci::CiEnvironment;
use crate::repo::{Checkout, Repo, Revision};

/// References are followed this deep.
const MAX_DEPTH: u32 = 64;
/// A value stops growing here: references to references can multiply without end.
const MAX_VALUE: usize = 256 * 1024;
/// The port of the container registry where it has GitLab's own host (GitLab's package: 5050).
/// Nobody listens there: in `gantry dev` images are only names.
const REGISTRY_PORT: u16 = 5050;
/// The registry of the images that GitLab's templates name (GitLab server: the same for every
/// instance).
const TEMPLATE_REGISTRY: &str = "registry.gitlab.com";
/// Longest commit message in a variable (GitLab server: its default, in bytes).
const MAX_MESSAGE: usize = 100_000;
/// Who a job is to registry and dependency proxy.
pub(crate) const JOB_USER: &str = "gitlab-ci-token";
/// The GitLab version that the simulator says it is; the protocol it speaks is of the runner of the
/// same number.
const VERSION: &str = "19.4.0";

/// A variable of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) public: bool,
    pub(crate) masked: bool,
    pub(crate) file: bool,
    pub(crate) raw: bool,
}

impl Variable {
    pub(crate) fn public(key: &str, value: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value: value.into(), public: true, masked: false, file: false, raw: false }
    }

    pub(crate) fn masked(key: &str, value: impl Into<String>) -> Self {
        Self { public: false, masked: true, ..Self::public(key, value) }
    }

    pub(crate) fn private(key: &str, value: impl Into<String>) -> Self {
        Self { public: false, ..Self::public(key, value) }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "key": self.key, "value": self.value, "public": self.public,
            "masked": self.masked, "file": self.file, "raw": self.raw,
        })
    }
}

/// The parts of the server's URL.
struct Server<'u> {
    protocol: &'u str,
    /// Host and, where the URL has one, port.
    authority: &'u str,
    host: &'u str,
    port: &'u str,
}

impl<'u> Server<'u> {
    fn of(url: &'u str) -> Self {
        let (protocol, rest) = url.split_once("://").unwrap_or(("http", url));
        let authority = rest.split('/').next().unwrap_or_default();
        let default_port = if protocol == "https" { "443" } else { "80" };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            _ => (authority, default_port),
        };
        Self { protocol, authority, host, port }
    }
}

/// About the server; known before anything else.
pub(crate) fn server(url: &str) -> Vec<Variable> {
    let Server { protocol, authority, host, port } = Server::of(url);
    let mut version = VERSION.split('.');
    let mut part = || version.next().unwrap_or_default().to_owned();
    vec![
        Variable::public("CI", "true"),
        Variable::public("GITLAB_CI", "true"),
        Variable::public("CI_SERVER", "yes"),
        Variable::public("CI_SERVER_URL", url),
        Variable::public("CI_SERVER_HOST", host),
        Variable::public("CI_SERVER_PORT", port),
        Variable::public("CI_SERVER_PROTOCOL", protocol),
        Variable::public("CI_SERVER_FQDN", authority),
        Variable::public("CI_SERVER_SHELL_SSH_HOST", host),
        Variable::public("CI_SERVER_SHELL_SSH_PORT", "22"),
        Variable::public("CI_SERVER_NAME", "GitLab"),
        Variable::public("CI_SERVER_VERSION", VERSION),
        Variable::public("CI_SERVER_VERSION_MAJOR", part()),
        Variable::public("CI_SERVER_VERSION_MINOR", part()),
        Variable::public("CI_SERVER_VERSION_PATCH", part()),
        Variable::public("CI_SERVER_REVISION", "simulator"),
        Variable::public("CI_API_V4_URL", format!("{url}/api/v4")),
        Variable::public("CI_API_GRAPHQL_URL", format!("{url}/api/graphql")),
        Variable::public("CI_PAGES_DOMAIN", format!("pages.{host}")),
        Variable::public("CI_REGISTRY", registry(url)),
        Variable::public("CI_DEPENDENCY_PROXY_SERVER", format!("{host}:{port}")),
        Variable::public("CI_TEMPLATE_REGISTRY_HOST", TEMPLATE_REGISTRY),
        Variable::public("GITLAB_FEATURES", ""),
        Variable::public("GITLAB_USER_ID", "1"),
        Variable::public("GITLAB_USER_LOGIN", "root"),
        Variable::public("GITLAB_USER_NAME", "Administrator"),
        Variable::public("GITLAB_USER_EMAIL", "admin@example.com"),
    ]
}

fn registry(url: &str) -> String {
    format!("{}:{REGISTRY_PORT}", Server::of(url).host)
}

/// About the project and the commit.
pub(crate) fn checkout(url: &str, checkout: &Checkout) -> Vec<Variable> {
    let mut all = project(url, &checkout.repo);
    all.extend(commit(checkout));
    all
}

fn project(url: &str, repo: &Repo) -> Vec<Variable> {
    let path = repo.name.as_str();
    let namespace = path.rsplit_once('/').map_or(path, |(namespace, _)| namespace);
    let root = path.split('/').next().unwrap_or(path);
    let Server { protocol, authority, host, .. } = Server::of(url);
    let pages = format!("{}.pages.{host}", slug(root));
    let proxy = |group: &str| format!("{authority}/{}/dependency_proxy/containers", group.to_lowercase());
    vec![
        Variable::public("CI_PROJECT_ID", repo.id.to_string()),
        Variable::public("CI_PROJECT_NAME", last_part(path)),
        Variable::public("CI_PROJECT_TITLE", last_part(path)),
        Variable::public("CI_PROJECT_DESCRIPTION", ""),
        Variable::public("CI_PROJECT_TOPICS", ""),
        Variable::public("CI_PROJECT_PATH", path),
        Variable::public("CI_PROJECT_PATH_SLUG", slug(path)),
        Variable::public("CI_PROJECT_NAMESPACE", namespace),
        Variable::public("CI_PROJECT_NAMESPACE_ID", "1"),
        Variable::public("CI_PROJECT_NAMESPACE_SLUG", slug(namespace)),
        Variable::public("CI_PROJECT_ROOT_NAMESPACE", root),
        Variable::public("CI_PROJECT_URL", format!("{url}/{path}")),
        Variable::public("CI_PROJECT_VISIBILITY", "private"),
        Variable::public("CI_PROJECT_REPOSITORY_LANGUAGES", ""),
        Variable::public("CI_PROJECT_CLASSIFICATION_LABEL", ""),
        Variable::public("CI_DEFAULT_BRANCH", repo.default_branch.as_str()),
        Variable::public("CI_DEFAULT_BRANCH_SLUG", slug(&repo.default_branch)),
        Variable::public("CI_CONFIG_PATH", ".gitlab-ci.yml"),
        Variable::public("CI_PAGES_HOSTNAME", pages.as_str()),
        Variable::public("CI_PAGES_URL", format!("{protocol}://{pages}/{}", last_part(path))),
        Variable::public("CI_REGISTRY_IMAGE", format!("{}/{}", registry(url), path.to_lowercase())),
        Variable::public("CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX", proxy(root)),
        Variable::public("CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX", proxy(namespace)),
    ]
}

fn commit(checkout: &Checkout) -> Vec<Variable> {
    let revision = &checkout.revision;
    let cut = |text: &str| {
        let end = (0..=MAX_MESSAGE.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.get(..end).unwrap_or_default().to_owned()
    };
    let mut all = vec![
        Variable::public("CI_COMMIT_SHA", revision.sha.as_str()),
        Variable::public("CI_COMMIT_SHORT_SHA", revision.sha.chars().take(8).collect::<String>()),
        Variable::public("CI_COMMIT_BEFORE_SHA", before(revision)),
        Variable::public("CI_COMMIT_REF_NAME", revision.name.as_str()),
        Variable::public("CI_COMMIT_REF_SLUG", slug(&revision.name)),
        Variable::public("CI_COMMIT_REF_PROTECTED", is_protected(checkout).to_string()),
        Variable::public("CI_COMMIT_TITLE", cut(&revision.title)),
        Variable::public("CI_COMMIT_MESSAGE", cut(&revision.message)),
        Variable::public("CI_COMMIT_MESSAGE_IS_TRUNCATED", (revision.message.len() > MAX_MESSAGE).to_string()),
        Variable::public("CI_COMMIT_DESCRIPTION", cut(&revision.description)),
        Variable::public("CI_COMMIT_AUTHOR", revision.author.as_str()),
        Variable::public("CI_COMMIT_TIMESTAMP", revision.timestamp.as_str()),
    ];
    if revision.is_tag {
        all.push(Variable::public("CI_COMMIT_TAG", revision.name.as_str()));
        all.push(Variable::public("CI_COMMIT_TAG_MESSAGE", cut(&revision.tag_message)));
    } else if revision.full_ref.is_some() {
        all.push(Variable::public("CI_COMMIT_BRANCH", revision.name.as_str()));
    }
    all
}

/// Where the ref was before the push that the pipeline stands for.
pub(crate) fn before(revision: &Revision) -> String {
    revision.before.clone().unwrap_or_else(|| "0".repeat(revision.sha.len()))
}

/// What a pipeline says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'o> {
    pub(crate) id: u64,
    pub(crate) created_at: &'o str,
    /// `CI_PIPELINE_SOURCE`.
    pub(crate) source: &'o str,
}

/// The source of a pipeline that somebody asks for: a push, the case that rules are written for.
pub(crate) const PUSH: &str = "push";

/// About the pipeline.
pub(crate) fn pipeline(url: &str, path: &str, origin: &Origin<'_>) -> Vec<Variable> {
    let Origin { id, created_at, source } = *origin;
    vec![
        Variable::public("CI_PIPELINE_ID", id.to_string()),
        Variable::public("CI_PIPELINE_IID", id.to_string()),
        Variable::public("CI_PIPELINE_SOURCE", source),
        Variable::public("CI_PIPELINE_URL", format!("{url}/{path}/-/pipelines/{id}")),
        Variable::public("CI_PIPELINE_CREATED_AT", created_at),
    ]
}

/// A job's name without what tells the instances of a parallel job apart: a number, or the values
/// in brackets.
pub(crate) fn group_name(name: &str) -> &str {
    let matrix = name.strip_suffix(']').and_then(|name| name.rsplit_once(": [")).map(|(name, _)| name);
    let numbers = name.rsplit_once(' ').filter(|(_, rest)| {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        rest.split_once('/').is_some_and(|(index, total)| is_number(index) && is_number(total))
    });
    matrix.or(numbers.map(|(name, _)| name)).unwrap_or(name)
}

/// About where the job deploys to; `known` are the variables that its name may refer to.
pub(crate) fn environment(environment: &CiEnvironment, known: &[Variable]) -> Vec<Variable> {
    let mut probe = known.to_vec();
    probe.push(Variable::public("CI_ENVIRONMENT_NAME", environment.name.as_str()));
    expand(&mut probe, Literal::Replaced);
    let name = probe.pop().map(|variable| variable.value).unwrap_or_default();
    let mut all = vec![
        Variable::public("CI_ENVIRONMENT_SLUG", environment_slug(&name)),
        Variable::public("CI_ENVIRONMENT_ACTION", environment.action.as_str()),
        Variable::public("CI_ENVIRONMENT_TIER", environment.tier.clone().unwrap_or_else(|| tier(&name).to_owned())),
    ];
    all.extend(environment.url.as_ref().map(|url| Variable::public("CI_ENVIRONMENT_URL", url.as_str())));
    all.push(Variable { raw: true, ..Variable::public("CI_ENVIRONMENT_NAME", name) });
    all
}

/// At most 24 characters that begin with a letter. A name that had to be changed gets a suffix, so
/// that two such names stay apart (GitLab server).
fn environment_slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let mut slug: String = name.chars().map(plain).collect();
    if !slug.starts_with(|c: char| c.is_ascii_alphabetic()) {
        slug = format!("env-{slug}");
    }
    while slug.contains("--") {
        slug = slug.replace("--", "-");
    }
    if slug.len() <= 24 && slug == name && !slug.ends_with('-') {
        return slug;
    }
    let start = slug.get(..17).unwrap_or(&slug).trim_end_matches('-');
    format!("{start}-{:06x}", crc32fast::hash(name.as_bytes()) & 0x00ff_ffff)
}

/// What kind of environment has this name (GitLab server).
fn tier(name: &str) -> &'static str {
    const WORDS: [(&str, &[&str]); 4] = [
        ("development", &["dev", "review", "trunk"]),
        ("testing", &["test", "tst", "int", "accept", "acpt", "qa", "qc", "control", "quality"]),
        ("staging", &["stag", "stg", "model", "modl", "pre", "demo", "non"]),
        ("production", &["prod", "prd", "live"]),
    ];
    let name = name.to_lowercase();
    let found = WORDS.iter().find(|(_, words)| words.iter().any(|word| name.contains(word)));
    found.map_or("other", |(tier, _)| tier)
}

/// The clone URL with the job's credentials.
pub(crate) fn repository_url(url: &str, path: &str, token: &str) -> String {
    let (protocol, rest) = url.split_once("://").unwrap_or(("http", url));
    format!("{protocol}://{JOB_USER}:{token}@{rest}/{path}.git")
}

/// The project's own name, without its groups.
pub(crate) fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Only the default branch is protected, as in a new project.
pub(crate) fn is_protected(checkout: &Checkout) -> bool {
    let revision = &checkout.revision;
    !revision.is_tag && revision.full_ref.is_some() && revision.name == checkout.repo.default_branch
}

/// Lower case, everything but letters and digits as `-`, at most 63 bytes, no `-` at the ends
/// (GitLab's `*_SLUG`).
pub(crate) fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let slug: String = text.chars().map(plain).take(63).collect();
    slug.trim_matches('-').to_owned()
}

/// What becomes of references to raw variables (`expand: false`) and to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Literal {
    /// They stay, as in GitLab where a runner gets the variables: it knows that what they hold is
    /// not to be expanded.
    ForRunner,
    /// Contents of raw variables take their place.
    Replaced,
}

/// Expands references between variables, as GitLab does before it sends them: what is not defined
/// stays as it is, `$$` stays, raw variables are left alone. The last variable of a name is the one
/// that counts. A reference to itself stays, unless there is another variable of that name.
pub(crate) fn expand(variables: &mut [Variable], literal: Literal) {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, variable) in variables.iter().enumerate() {
        places.entry(&variable.key).or_default().push(place);
    }
    let mut expansion = Expansion { variables, places, literal, values: vec![Expanded::No; variables.len()] };
    for place in 0..variables.len() {
        expansion.expand(place, MAX_DEPTH);
    }
    let values = expansion.values;
    for (variable, value) in variables.iter_mut().zip(values) {
        if let Expanded::Yes(value) = value {
            variable.value = value;
        }
    }
}

/// How far a variable is.
#[derive(Clone, Debug)]
enum Expanded {
    No,
    /// What it refers to is being expanded.
    Begun,
    Yes(String),
}

/// Each variable is expanded once, after those that it refers to.
struct Expansion<'v> {
    variables: &'v [Variable],
    /// Where variables of a name are.
    places: HashMap<&'v str, Vec<usize>>,
    literal: Literal,
    values: Vec<Expanded>,
}

impl Expansion<'_> {
    fn expand(&mut self, place: usize, depth: u32) {
        let variables = self.variables;
        let Some(variable) = variables.get(place) else { return };
        let is_open = matches!(self.values.get(place), Some(Expanded::No));
        if !is_open || variable.raw || variable.file || !variable.value.contains('$') {
            return;
        }
        self.set(place, Expanded::Begun);
        let mut out = String::new();
        let mut rest = variable.value.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push_str("$$");
                rest = after;
                continue;
            }
            let (name, whole) = reference(after);
            match self.value(name, depth) {
                Some(value) if out.len() + value.len() <= MAX_VALUE => out.push_str(value),
                _ => {
                    out.push('$');
                    out.push_str(whole);
                }
            }
            rest = after.get(whole.len()..).unwrap_or_default();
        }
        out.push_str(rest);
        self.set(place, Expanded::Yes(out));
    }

    /// What a reference to this name stands for, if it does not stay.
    fn value(&mut self, name: &str, depth: u32) -> Option<&str> {
        let is_begun = |place: &&usize| matches!(self.values.get(**place), Some(Expanded::Begun));
        let place = *self.places.get(name)?.iter().rev().find(|place| !is_begun(place))?;
        let found = self.variables.get(place)?;
        if depth == 0 || found.file || (found.raw && self.literal == Literal::ForRunner) {
            return None;
        }
        self.expand(place, depth - 1);
        match self.values.get(place)? {
            Expanded::Yes(value) => Some(value),
            _ => Some(&found.value),
        }
    }

    fn set(&mut self, place: usize, value: Expanded) {
        if let Some(slot) = self.values.get_mut(place) {
            *slot = value;
        }
    }
}

/// The name referred to by the text after a `$`, and how much of the text the reference takes.
fn reference(after: &str) -> (&str, &str) {
    let word = |text: &str| text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    if let Some(inner) = after.strip_prefix('{') {
        let end = word(inner);
        if inner[end..].starts_with('}') {
            return (&inner[..end], &after[..end + 2]);
        }
        return ("", "");
    }
    let end = word(after);
    (&after[..end], &after[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        assert_eq!(slug("Feature/ÄB_c-"), "feature--b-c");
        assert_eq!(slug(&"a".repeat(80)).len(), 63);
    }

    #[test]
    fn environments_have_slugs_and_tiers() {
        assert_eq!(environment_slug("production"), "production");
        assert_eq!(environment_slug("review/Some-Branch"), environment_slug("review/Some-Branch"));
        assert!(environment_slug("review/some-branch-with-a-long-name").len() <= 24);
        assert_ne!(environment_slug("review/some-branch-1"), environment_slug("review/some-branch_1"));
        assert!(environment_slug("1/ü").starts_with("env-1-"));
        let tiers = ["review/x", "QA", "staging", "Prod-eu", "else"].map(tier);
        assert_eq!(tiers, ["development", "testing", "staging", "production", "other"]);
    }

    #[test]
    fn groups_of_jobs_have_the_name_without_what_tells_them_apart() {
        let groups = ["test 1/3", "build: [win, amd]", "test", "a 1/b", "x: [a] 2"].map(group_name);
        assert_eq!(groups, ["test", "build", "test", "a 1/b", "x: [a] 2"]);
    }

    #[test]
    fn server_parts_come_from_the_url() {
        let find = |url: &str, key: &str| {
            server(url).into_iter().find(|variable| variable.key == key).map(|variable| variable.value)
        };
        assert_eq!(find("http://127.0.0.1:8080", "CI_SERVER_HOST").as_deref(), Some("127.0.0.1"));
        assert_eq!(find("http://127.0.0.1:8080", "CI_SERVER_PORT").as_deref(), Some("8080"));
        assert_eq!(find("https://g.example.com/x", "CI_SERVER_PORT").as_deref(), Some("443"));
        assert_eq!(find("https://g.example.com/x", "CI_SERVER_FQDN").as_deref(), Some("g.example.com"));
    }

    #[test]
    fn expansion_follows_references_and_survives_circles() {
        let mut variables: Vec<Variable> = [
            ("A", "$B-${C}"),
            ("B", "b$D"),
            ("C", "$NONE $$ ${B"),
            ("D", "d"),
            ("LOOP", "x$LOOP"),
            ("OF_LOOP", "${LOOP}!"),
            ("ONE", "1$TWO"),
            ("TWO", "2$ONE"),
            ("PATH", "/bin"),
            ("PATH", "/mine:$PATH"),
            ("END", "1$ 2$"),
        ]
        .iter()
        .map(|(key, value)| Variable::public(key, *value))
        .collect();
        variables.push(Variable { raw: true, ..Variable::public("RAW", "r$A") });
        variables.push(Variable { file: true, ..Variable::public("FILE", "f") });
        variables.push(Variable::public("USE", "$D/$RAW/$FILE"));
        let expanded = |literal| {
            let mut variables = variables.clone();
            expand(&mut variables, literal);
            variables
        };
        let all = expanded(Literal::ForRunner);
        for (key, expected) in [
            ("A", "bd-$NONE $$ ${B"),
            ("RAW", "r$A"),
            ("USE", "d/$RAW/$FILE"),
            ("END", "1$ 2$"),
            ("LOOP", "x$LOOP"),
            ("OF_LOOP", "x$LOOP!"),
            ("PATH", "/mine:/bin"),
        ] {
            let value = all.iter().rev().find(|variable| variable.key == key).map(|variable| variable.value.as_str());
            assert_eq!(value, Some(expected), "{key}");
        }
        assert_eq!(all.iter().find(|variable| variable.key == "ONE").map(|one| one.value.as_str()), Some("12$ONE"));
        assert_eq!(expanded(Literal::Replaced).last().map(|used| used.value.as_str()), Some("d/r$A/$FILE"));
    }

    #[test]
    fn references_that_multiply_are_followed_once() {
        let mut variables = vec![Variable::public("V0", "")];
        variables
            .extend((1..60).map(|n: u32| Variable::public(&format!("V{n}"), format!("${{V{}}}", n - 1).repeat(9))));
        expand(&mut variables, Literal::ForRunner);
        assert!(variables.iter().all(|variable| variable.value.is_empty()));
    }
}
